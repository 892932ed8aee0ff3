-- Assignments: which version of an agent the hosts of a group shall have.

-- `rollout` is the number of the one it goes on with; each change of what is assigned
-- begins another. `sweep` is how far the look at all hosts is, as JSON, `sweep_due` when
-- the next part of it is, and `census` what the last whole one found.
CREATE TABLE assignment (
    id          TEXT COLLATE "C" PRIMARY KEY,
    name        TEXT COLLATE "C" NOT NULL,
    host_group  TEXT COLLATE "C" NOT NULL REFERENCES host_group (id),
    agent       TEXT COLLATE "C" NOT NULL,
    version     TEXT COLLATE "C" NOT NULL,
    watch       BIGINT,
    priority    BIGINT NOT NULL,
    rollout     BIGINT NOT NULL,
    revision    BIGINT NOT NULL,
    author      TEXT COLLATE "C" NOT NULL,
    created     BIGINT NOT NULL,
    changed     BIGINT NOT NULL,
    sweep       TEXT COLLATE "C",
    sweep_due   BIGINT NOT NULL DEFAULT 0,
    census      TEXT COLLATE "C"
);
CREATE UNIQUE INDEX assignment_by_rollout ON assignment (rollout);
CREATE INDEX assignment_by_agent ON assignment (agent, id);
CREATE INDEX assignment_by_group ON assignment (host_group);

-- The assignment a rollout is for. Such a rollout has no end, and a host is in it once.
ALTER TABLE rollout ADD COLUMN assignment TEXT COLLATE "C";
-- How often it was tried since it was last right for long.
ALTER TABLE rollout_target ADD COLUMN attempts BIGINT NOT NULL DEFAULT 0;

-- How many targets of an assignment ended so in an hour (of unix time).
CREATE TABLE rollout_recent (
    rollout BIGINT NOT NULL REFERENCES rollout (number) ON DELETE CASCADE,
    hour    BIGINT NOT NULL,
    state   TEXT COLLATE "C" NOT NULL,
    targets BIGINT NOT NULL,
    PRIMARY KEY (rollout, hour, state)
);
