-- no-transaction
-- Hosts whole: what operators say of them has a revision, and their sub-agents
-- are a table one can ask. In steps, as 0007.

-- Written only where it changes. An older server beside this one does not
-- write it: what it leaves behind comes with the host's next change.
BEGIN;
DROP TABLE IF EXISTS host_agent;
CREATE TABLE host_agent (
    agentsn TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    state   TEXT COLLATE "C" NOT NULL
);
INSERT INTO host_agent (agentsn, name, version, state)
    SELECT DISTINCT ON (host_state.agentsn, agent.value ->> 'name')
           host_state.agentsn, agent.value ->> 'name', agent.value ->> 'version',
           agent.value ->> 'status'
    FROM host_state
    CROSS JOIN LATERAL jsonb_array_elements(host_state.body::jsonb -> 'agents') AS agent (value);
ALTER TABLE host_agent ADD PRIMARY KEY (agentsn, name);
CREATE INDEX host_agent_by_name ON host_agent (name, version, state, agentsn);
CREATE INDEX host_agent_by_state ON host_agent (state, name, agentsn);
COMMIT;

BEGIN;
ALTER TABLE host_agent ADD CONSTRAINT host_agent_of_host
    FOREIGN KEY (agentsn) REFERENCES host (agentsn) ON DELETE CASCADE NOT VALID;
COMMIT;

BEGIN;
DELETE FROM host_agent
    WHERE NOT EXISTS (SELECT 1 FROM host WHERE host.agentsn = host_agent.agentsn);
COMMIT;

BEGIN;
ALTER TABLE host_agent VALIDATE CONSTRAINT host_agent_of_host;
COMMIT;

BEGIN;
CREATE INDEX IF NOT EXISTS host_by_os ON host (os, agentsn);
COMMIT;
BEGIN;
CREATE INDEX IF NOT EXISTS host_by_arch ON host (arch, agentsn);
COMMIT;
BEGIN;
CREATE INDEX IF NOT EXISTS host_by_version ON host (version, agentsn);
COMMIT;

-- Of display name, notes and tags: up by one with each change by an operator.
BEGIN;
ALTER TABLE host ADD COLUMN IF NOT EXISTS revision BIGINT NOT NULL DEFAULT 1;
COMMIT;
