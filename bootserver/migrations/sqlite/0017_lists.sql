-- Lists of a million hosts: indexes in the order lists are read in, and fewer
-- pages for a host's first status. An index has a new name where its columns
-- are others, so that it is there before the former one goes.

-- By what hosts report, in the order of names.
CREATE INDEX host_by_os_and_name ON host (os, hostname, agentsn);
CREATE INDEX host_by_arch_and_name ON host (arch, hostname, agentsn);
CREATE INDEX host_by_version_and_name ON host (version, hostname, agentsn);
DROP INDEX host_by_os;
DROP INDEX host_by_arch;
DROP INDEX host_by_version;
-- Who is online is found by `since` alone, so that arriving writes nothing here.
CREATE INDEX host_by_state_and_since ON host (state, since, agentsn) WHERE state <> 'online';
-- Most agents run, which is not what one looks for.
CREATE INDEX host_agent_by_other_state ON host_agent (state, name, agentsn)
    WHERE state <> 'running';
DROP INDEX host_agent_by_state;

-- The host name as it is written, where it is not the first line of `text`: what
-- was found is sorted without looking at the hosts.
ALTER TABLE host_search ADD COLUMN hostname TEXT;
UPDATE host_search
SET hostname = (SELECT host.hostname FROM host WHERE host.agentsn = host_search.agentsn)
WHERE agentsn IN (SELECT agentsn FROM host
                  WHERE hostname <> lower(hostname) OR instr(hostname, char(10)) > 0);
DROP TRIGGER host_insert_search;
DROP TRIGGER host_update_search;
CREATE TRIGGER host_insert_search AFTER INSERT ON host BEGIN
    INSERT INTO host_search (agentsn, text, hostname) VALUES (NEW.agentsn,
        lower(NEW.hostname || char(10) || NEW.display_name || char(10) || NEW.ip),
        iif(NEW.hostname <> lower(NEW.hostname) OR instr(NEW.hostname, char(10)) > 0,
            NEW.hostname, NULL));
    INSERT INTO host_address (agentsn, address)
        SELECT DISTINCT NEW.agentsn, given.value FROM json_each(NEW.ip) AS given;
END;
CREATE TRIGGER host_update_search AFTER UPDATE OF hostname, display_name, ip ON host
WHEN NEW.hostname <> OLD.hostname OR NEW.display_name <> OLD.display_name OR NEW.ip <> OLD.ip
BEGIN
    UPDATE host_search
    SET text = lower(NEW.hostname || char(10) || NEW.display_name || char(10) || NEW.ip),
        hostname = iif(NEW.hostname <> lower(NEW.hostname) OR instr(NEW.hostname, char(10)) > 0,
                       NEW.hostname, NULL)
    WHERE agentsn = NEW.agentsn;
END;
