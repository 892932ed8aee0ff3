-- How hosts stand: their secret's number, their state, who pushed for them.

ALTER TABLE host_seen RENAME TO host_seen_before;

-- Touched by every push, so it holds only what changes with every push, and
-- what every push is judged by. No index holds a column a push changes.
CREATE TABLE host_seen (
    agentsn    TEXT PRIMARY KEY REFERENCES host (agentsn) ON DELETE CASCADE,
    -- Of the secret in force; a status that came with another one is refused.
    number     BIGINT NOT NULL DEFAULT 1,
    -- When the secret shall be replaced.
    rotate_due BIGINT,
    state      TEXT   NOT NULL DEFAULT 'new',
    -- When to look whether the state still holds; pushes leave it alone.
    due        BIGINT,
    -- Seconds the host may let pass between two pushes.
    every      BIGINT NOT NULL DEFAULT 600,
    seen       BIGINT,
    reported   BIGINT,
    uptime     BIGINT,
    readings   TEXT
);
INSERT INTO host_seen (agentsn, state, due, seen, reported, uptime, readings)
    SELECT host.agentsn, CASE WHEN seen IS NULL THEN 'new' ELSE 'online' END, seen, seen,
           reported, uptime, readings
    FROM host LEFT JOIN host_seen_before ON host_seen_before.agentsn = host.agentsn;
DROP TABLE host_seen_before;
CREATE INDEX host_seen_by_due ON host_seen (due) WHERE due IS NOT NULL;

-- The state again, for lists, and since when.
ALTER TABLE host ADD COLUMN state TEXT NOT NULL DEFAULT 'new';
ALTER TABLE host ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
-- Who pushed with this identity lately, as JSON.
ALTER TABLE host ADD COLUMN sightings TEXT NOT NULL DEFAULT '{}';
UPDATE host SET since = registered,
    state = (SELECT host_seen.state FROM host_seen WHERE host_seen.agentsn = host.agentsn);
CREATE INDEX host_by_state ON host (state, hostname, agentsn);

-- What became of a host, and when.
CREATE TABLE host_change (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    agentsn TEXT   NOT NULL REFERENCES host (agentsn) ON DELETE CASCADE,
    at      BIGINT NOT NULL,
    state   TEXT   NOT NULL,
    detail  TEXT   NOT NULL
);
CREATE INDEX host_change_by_host ON host_change (agentsn, id);
CREATE INDEX host_change_by_time ON host_change (at, id);

-- How many hosts are in each state. A state nobody was ever in has no row.
CREATE TABLE host_count (
    state TEXT PRIMARY KEY,
    hosts BIGINT NOT NULL
);
INSERT INTO host_count (state, hosts) SELECT state, count(*) FROM host GROUP BY state;
