-- no-transaction
-- Lists of a million hosts: indexes in the order lists are read in. In steps, as
-- 0007. An index has a new name where its columns are others, so that it is there
-- before the former one goes.

-- By what hosts report, in the order of names. While one of these is made no host
-- is written.
BEGIN;
CREATE INDEX IF NOT EXISTS host_by_os_and_name ON host (os, hostname, agentsn);
DROP INDEX IF EXISTS host_by_os;
COMMIT;
BEGIN;
CREATE INDEX IF NOT EXISTS host_by_arch_and_name ON host (arch, hostname, agentsn);
DROP INDEX IF EXISTS host_by_arch;
COMMIT;
BEGIN;
CREATE INDEX IF NOT EXISTS host_by_version_and_name ON host (version, hostname, agentsn);
DROP INDEX IF EXISTS host_by_version;
COMMIT;
-- Who is online is found by `since` alone, so that arriving writes nothing here.
BEGIN;
CREATE INDEX IF NOT EXISTS host_by_state_and_since ON host (state, since, agentsn)
    WHERE state <> 'online';
COMMIT;
-- Most agents run, which is not what one looks for.
BEGIN;
CREATE INDEX IF NOT EXISTS host_agent_by_other_state ON host_agent (state, name, agentsn)
    WHERE state <> 'running';
DROP INDEX IF EXISTS host_agent_by_state;
COMMIT;

-- The host name as it is written, where it is not the first line of `text`: what
-- was found is sorted without looking at the hosts.
BEGIN;
ALTER TABLE host_search ADD COLUMN IF NOT EXISTS hostname TEXT COLLATE "C";
CREATE OR REPLACE FUNCTION host_search_name(hostname TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN hostname COLLATE "C" <> lower(hostname COLLATE "C")
                    OR position(chr(10) IN hostname) > 0
                THEN hostname END
$$;
CREATE OR REPLACE FUNCTION host_search_write(host host) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO host_search (agentsn, text, hostname)
    VALUES (host.agentsn, host_search_text(host.hostname, host.display_name, host.ip),
            host_search_name(host.hostname))
    ON CONFLICT (agentsn) DO UPDATE SET text = excluded.text, hostname = excluded.hostname;
    DELETE FROM host_address WHERE host_address.agentsn = host.agentsn;
    INSERT INTO host_address (agentsn, address)
        SELECT DISTINCT host.agentsn, given.value
        FROM jsonb_array_elements_text(host.ip::jsonb) AS given (value);
END
$$;
COMMIT;
BEGIN;
SELECT host_search_write(changed) FROM (
    SELECT host.* FROM host JOIN host_search ON host_search.agentsn = host.agentsn
    WHERE host_search.hostname IS DISTINCT FROM host_search_name(host.hostname)
    FOR NO KEY UPDATE OF host
) AS changed;
COMMIT;
