-- Operators: who they are, what they may do, and what they did.

-- `user` is a word of SQL's own.
CREATE TABLE user_account (
    id           TEXT PRIMARY KEY,
    -- Small letters only, so that a name has one spelling.
    name         TEXT   NOT NULL UNIQUE,
    display_name TEXT   NOT NULL,
    role         TEXT   NOT NULL,
    -- Sets of hosts such as `tags:svc=ecs`, as JSON; [] is the whole fleet.
    scope        TEXT   NOT NULL,
    disabled     BIGINT,
    -- argon2id with its parameters and salt.
    password     TEXT   NOT NULL,
    must_change  BOOLEAN NOT NULL,
    created      BIGINT NOT NULL,
    signed_in    BIGINT,
    revision     BIGINT NOT NULL
);

CREATE TABLE session (
    id       TEXT PRIMARY KEY,
    digest   TEXT   NOT NULL UNIQUE,
    account  TEXT   NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    created  BIGINT NOT NULL,
    seen     BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    address  TEXT,
    client   TEXT   NOT NULL
);
CREATE INDEX session_by_account ON session (account, id);
CREATE INDEX session_by_expiry ON session (expires);

ALTER TABLE api_token ADD COLUMN role TEXT NOT NULL DEFAULT 'admin';
ALTER TABLE api_token ADD COLUMN scope TEXT NOT NULL DEFAULT '[]';
-- Not a reference: a token stays in the list when its maker is gone.
ALTER TABLE api_token ADD COLUMN maker TEXT;
ALTER TABLE api_token ADD COLUMN expires BIGINT;
ALTER TABLE api_token ADD COLUMN used BIGINT;
CREATE INDEX api_token_by_maker ON api_token (maker, id);

-- When the attempts to sign in so far are paid for.
CREATE TABLE login_throttle (
    key  TEXT PRIMARY KEY,
    paid BIGINT NOT NULL
);
CREATE INDEX login_throttle_by_time ON login_throttle (paid);

CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         BIGINT NOT NULL,
    actor_kind TEXT   NOT NULL,
    actor      TEXT   NOT NULL,
    actor_name TEXT   NOT NULL,
    action     TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    target     TEXT   NOT NULL,
    detail     TEXT   NOT NULL,
    request    TEXT,
    address    TEXT
);
CREATE INDEX audit_by_time ON audit (at, id);
CREATE INDEX audit_by_actor ON audit (actor, id);
CREATE INDEX audit_by_target ON audit (target, id);
CREATE INDEX audit_by_action ON audit (action, id);
