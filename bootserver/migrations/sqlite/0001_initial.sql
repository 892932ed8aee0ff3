-- The first tables. Times are unix milliseconds, ids are UUIDs as text,
-- digests are 64 lower-case hexadecimal digits, JSON is text.
-- The folder for PostgreSQL has the same numbers.

CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Who does which background work, by the database's clock.
CREATE TABLE lease (
    name   TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    epoch  BIGINT NOT NULL,
    until  BIGINT NOT NULL
);

CREATE TABLE api_token (
    id      TEXT PRIMARY KEY,
    name    TEXT   NOT NULL,
    digest  TEXT   NOT NULL UNIQUE,
    created BIGINT NOT NULL,
    revoked BIGINT
);

CREATE TABLE enrolment_token (
    id      TEXT PRIMARY KEY,
    name    TEXT   NOT NULL,
    digest  TEXT   NOT NULL UNIQUE,
    tags    TEXT   NOT NULL,
    uses    BIGINT,
    used    BIGINT NOT NULL DEFAULT 0,
    expires BIGINT,
    created BIGINT NOT NULL,
    revoked BIGINT
);

-- What a host says it is, apart from what operators say of it.
CREATE TABLE host (
    agentsn       TEXT PRIMARY KEY,
    -- The secret in force, and one handed out that has not been used yet: a
    -- lost reply must not lock a host out.
    secret        TEXT   NOT NULL UNIQUE,
    next_secret   TEXT   UNIQUE,
    enrolment     TEXT   REFERENCES enrolment_token (id),
    created       BIGINT NOT NULL,
    registered    BIGINT NOT NULL,
    -- reported
    hostname      TEXT   NOT NULL,
    version       TEXT   NOT NULL,
    os            TEXT   NOT NULL,
    arch          TEXT   NOT NULL,
    ip            TEXT   NOT NULL,
    machine_id    TEXT,
    boot_id       TEXT,
    -- the operators'
    display_name  TEXT   NOT NULL DEFAULT '',
    notes         TEXT   NOT NULL DEFAULT ''
);
CREATE INDEX host_by_hostname ON host (hostname, agentsn);

CREATE TABLE host_tag (
    agentsn TEXT NOT NULL REFERENCES host (agentsn) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    origin  TEXT NOT NULL,
    PRIMARY KEY (agentsn, key)
);
CREATE INDEX host_tag_by_value ON host_tag (key, value, agentsn);

-- Touched by every push, so it holds only what changes with every push, in one
-- tree and not in a table and its index.
CREATE TABLE host_seen (
    agentsn  TEXT PRIMARY KEY REFERENCES host (agentsn) ON DELETE CASCADE,
    seen     BIGINT NOT NULL,
    reported BIGINT NOT NULL,
    uptime   BIGINT NOT NULL,
    readings TEXT   NOT NULL
) WITHOUT ROWID;

-- Written only when its content changes.
CREATE TABLE host_state (
    agentsn TEXT PRIMARY KEY REFERENCES host (agentsn) ON DELETE CASCADE,
    digest  TEXT   NOT NULL,
    changed BIGINT NOT NULL,
    body    TEXT   NOT NULL
);

CREATE TABLE package (
    id      TEXT PRIMARY KEY,
    name    TEXT   NOT NULL,
    version TEXT   NOT NULL,
    os      TEXT   NOT NULL,
    arch    TEXT   NOT NULL,
    kind    TEXT   NOT NULL,
    file    TEXT   NOT NULL UNIQUE,
    size    BIGINT NOT NULL,
    sha256  TEXT   NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (name, version, os, arch, kind)
);
CREATE INDEX package_by_sha256 ON package (sha256);
CREATE INDEX package_by_name ON package (name, id);

-- `body` is the order as on the wire, without its id.
CREATE TABLE job (
    id       TEXT PRIMARY KEY,
    agentsn  TEXT   NOT NULL REFERENCES host (agentsn) ON DELETE CASCADE,
    action   TEXT   NOT NULL,
    name     TEXT,
    version  TEXT,
    package  TEXT   REFERENCES package (id) ON DELETE SET NULL,
    body     TEXT   NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT,
    sent     BIGINT,
    accepted BIGINT,
    finished BIGINT,
    errcode  BIGINT
);
CREATE INDEX job_open ON job (id) WHERE finished IS NULL;
CREATE INDEX job_open_by_host ON job (agentsn, id) WHERE finished IS NULL;
CREATE INDEX job_by_package ON job (package) WHERE package IS NOT NULL;
CREATE INDEX job_open_by_expiry ON job (expires) WHERE finished IS NULL AND sent IS NULL;
CREATE INDEX job_by_host ON job (agentsn, id);

-- One row per job, in order of arrival; the first result wins.
CREATE TABLE job_result (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    job      TEXT   NOT NULL UNIQUE REFERENCES job (id) ON DELETE CASCADE,
    agentsn  TEXT   NOT NULL,
    origin   TEXT   NOT NULL,
    finished BIGINT NOT NULL,
    errcode  BIGINT NOT NULL,
    message  TEXT   NOT NULL,
    body     TEXT   NOT NULL
);
CREATE INDEX job_result_by_host ON job_result (agentsn, seq);
CREATE INDEX job_result_by_time ON job_result (finished, seq);

CREATE TABLE event (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    agentsn   TEXT   NOT NULL REFERENCES host (agentsn) ON DELETE CASCADE,
    source    TEXT   NOT NULL,
    boot_id   TEXT   NOT NULL,
    seq       BIGINT NOT NULL,
    received  BIGINT NOT NULL,
    timestamp BIGINT NOT NULL,
    category  TEXT   NOT NULL,
    subject   TEXT   NOT NULL,
    version   TEXT,
    message   TEXT   NOT NULL,
    tail      TEXT   NOT NULL,
    UNIQUE (agentsn, source, boot_id, seq)
);
CREATE INDEX event_by_host ON event (agentsn, id);
CREATE INDEX event_by_time ON event (received, id);
