-- Hosts whole: what operators say of them has a revision, and their sub-agents
-- are a table one can ask.

-- Of display name, notes and tags: up by one with each change by an operator.
ALTER TABLE host ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
CREATE INDEX host_by_os ON host (os, agentsn);
CREATE INDEX host_by_arch ON host (arch, agentsn);
CREATE INDEX host_by_version ON host (version, agentsn);

-- Written only where it changes. An older server beside this one does not
-- write it: what it leaves behind comes with the host's next change.
CREATE TABLE host_agent (
    agentsn TEXT COLLATE "C" NOT NULL REFERENCES host (agentsn) ON DELETE CASCADE,
    name    TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    state   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (agentsn, name)
);
CREATE INDEX host_agent_by_name ON host_agent (name, version, state, agentsn);
CREATE INDEX host_agent_by_state ON host_agent (state, name, agentsn);
INSERT INTO host_agent (agentsn, name, version, state)
    SELECT host_state.agentsn, agent.value ->> 'name', agent.value ->> 'version',
           agent.value ->> 'status'
    FROM host_state
    CROSS JOIN LATERAL jsonb_array_elements(host_state.body::jsonb -> 'agents') AS agent (value)
    WHERE TRUE ON CONFLICT (agentsn, name) DO NOTHING;
