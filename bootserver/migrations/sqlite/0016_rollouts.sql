-- Rollouts: one order over many hosts.

-- `phase` is the word of what `stand` says, for lists; `revision` counts changes
-- of it. While the targets are written down, `targets` is how many there are and
-- `frozen_to` the last host that was. `looked` is the last target that was looked
-- at for handing out: the next look goes on behind it.
CREATE TABLE rollout (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT   NOT NULL UNIQUE,
    name        TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    agent       TEXT   NOT NULL,
    version     TEXT,
    goods       TEXT   NOT NULL,
    target_set  TEXT   NOT NULL,
    scope       TEXT   NOT NULL,
    plan        TEXT   NOT NULL,
    stand       TEXT   NOT NULL,
    phase       TEXT   NOT NULL,
    targets     BIGINT NOT NULL DEFAULT 0,
    frozen_to   TEXT   NOT NULL DEFAULT '',
    looked      BIGINT NOT NULL DEFAULT -1,
    revision    BIGINT NOT NULL DEFAULT 1,
    author      TEXT   NOT NULL,
    author_name TEXT   NOT NULL,
    follows     TEXT,
    follow      TEXT,
    created     BIGINT NOT NULL,
    ended       BIGINT
);
CREATE INDEX rollout_active ON rollout (number) WHERE ended IS NULL;
CREATE INDEX rollout_by_end ON rollout (ended, number) WHERE ended IS NOT NULL;

-- A host in a rollout; `place` counts from 0 in the order of the stages. `version`
-- is what it shall get where that differs from host to host, `before` what it had
-- when it was ordered. Without references: they are written by the million.
CREATE TABLE rollout_target (
    rollout BIGINT NOT NULL,
    place   BIGINT NOT NULL,
    agentsn TEXT   NOT NULL,
    state   TEXT   NOT NULL,
    version TEXT,
    job     TEXT,
    before  TEXT,
    since   BIGINT,
    errcode BIGINT,
    reason  TEXT,
    PRIMARY KEY (rollout, place)
) WITHOUT ROWID;
CREATE INDEX rollout_target_by_state ON rollout_target (rollout, state, place);
CREATE INDEX rollout_target_by_host ON rollout_target (agentsn, rollout);

-- How many targets of a stage are in a state.
CREATE TABLE rollout_count (
    rollout BIGINT NOT NULL REFERENCES rollout (number) ON DELETE CASCADE,
    stage   BIGINT NOT NULL,
    state   TEXT   NOT NULL,
    targets BIGINT NOT NULL,
    PRIMARY KEY (rollout, stage, state)
) WITHOUT ROWID;

-- Packages a rollout needs while it is at work.
CREATE TABLE rollout_package (
    rollout BIGINT NOT NULL REFERENCES rollout (number) ON DELETE CASCADE,
    package TEXT   NOT NULL,
    PRIMARY KEY (rollout, package)
) WITHOUT ROWID;
CREATE INDEX rollout_package_by_package ON rollout_package (package);

-- Targets something happened to, which the next step looks at. Written in the
-- transaction in which it happens, by triggers, so that none is forgotten and
-- an older server beside this one writes them, too.
CREATE TABLE rollout_news (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    rollout BIGINT NOT NULL,
    place   BIGINT NOT NULL,
    event   BIGINT
);
CREATE INDEX rollout_news_by_rollout ON rollout_news (rollout, id);

-- The target a job is for.
ALTER TABLE job ADD COLUMN rollout BIGINT;
ALTER TABLE job ADD COLUMN place BIGINT;
CREATE TRIGGER rollout_hears_of_job AFTER UPDATE OF sent, finished ON job
WHEN NEW.rollout IS NOT NULL
    AND (OLD.sent IS NOT NEW.sent OR OLD.finished IS NOT NEW.finished)
BEGIN
    INSERT INTO rollout_news (rollout, place) VALUES (NEW.rollout, NEW.place);
END;
CREATE TRIGGER rollout_hears_of_host AFTER UPDATE OF state ON host
WHEN NEW.state IN ('offline', 'revoked', 'deleted')
BEGIN
    INSERT INTO rollout_news (rollout, place)
        SELECT rollout, place FROM rollout_target
        WHERE agentsn = NEW.agentsn AND state IN ('waiting', 'ordered', 'running');
END;
