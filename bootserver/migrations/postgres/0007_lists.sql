-- no-transaction
-- Lists of hosts: sorted by more than the name, found by a part of it and by an
-- address.
--
-- Servers of the version before go on meanwhile, so each step is a transaction
-- of its own, and what takes long locks nothing they write: tables are filled
-- while nobody knows them, triggers come then, and last what changed in between
-- is made up for. Who is killed in the middle begins again.

-- Names and addresses in small letters, apart from `host`, so that a host that
-- is late does not touch the index. Triggers keep it, so that an older server
-- beside this one does, too.
BEGIN;
DROP TABLE IF EXISTS host_search, host_address;
DROP FUNCTION IF EXISTS host_search_keep, host_search_write CASCADE;
CREATE OR REPLACE FUNCTION host_search_text(hostname TEXT, display_name TEXT, ip TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT lower((hostname || chr(10) || display_name || chr(10) || ip) COLLATE "C")
$$;
-- Every three characters in a row. Those of pg_trgm are letters and digits
-- alone, on many databases only those of ASCII.
CREATE OR REPLACE FUNCTION host_search_grams(text TEXT) RETURNS TEXT[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
    SELECT array_agg(substr(text, place, 3)) FROM generate_series(1, length(text) - 2) AS place
$$;
CREATE TABLE host_search (
    agentsn TEXT COLLATE "C" PRIMARY KEY,
    text    TEXT COLLATE "C" NOT NULL
);
INSERT INTO host_search (agentsn, text)
    SELECT agentsn, host_search_text(hostname, display_name, ip) FROM host;
CREATE INDEX host_search_by_gram ON host_search USING gin (host_search_grams(text));
-- Addresses one by one, each found whole.
CREATE TABLE host_address (
    agentsn TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (agentsn, address)
);
INSERT INTO host_address (agentsn, address)
    SELECT DISTINCT host.agentsn, given.value
    FROM host CROSS JOIN LATERAL jsonb_array_elements_text(host.ip::jsonb) AS given (value);
CREATE INDEX host_address_by_address ON host_address (address, agentsn);
COMMIT;

-- For an instant no host is written.
BEGIN;
CREATE FUNCTION host_search_write(host host) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO host_search (agentsn, text)
    VALUES (host.agentsn, host_search_text(host.hostname, host.display_name, host.ip))
    ON CONFLICT (agentsn) DO UPDATE SET text = excluded.text;
    DELETE FROM host_address WHERE host_address.agentsn = host.agentsn;
    INSERT INTO host_address (agentsn, address)
        SELECT DISTINCT host.agentsn, given.value
        FROM jsonb_array_elements_text(host.ip::jsonb) AS given (value);
END
$$;
CREATE FUNCTION host_search_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM host_search_write(NEW);
    RETURN NULL;
END
$$;
CREATE TRIGGER host_insert_search AFTER INSERT ON host
    FOR EACH ROW EXECUTE FUNCTION host_search_keep();
CREATE TRIGGER host_update_search AFTER UPDATE OF hostname, display_name, ip ON host
    FOR EACH ROW WHEN ((NEW.hostname, NEW.display_name, NEW.ip)
        IS DISTINCT FROM (OLD.hostname, OLD.display_name, OLD.ip))
    EXECUTE FUNCTION host_search_keep();
ALTER TABLE host_search ADD CONSTRAINT host_search_of_host
    FOREIGN KEY (agentsn) REFERENCES host (agentsn) ON DELETE CASCADE NOT VALID;
ALTER TABLE host_address ADD CONSTRAINT host_address_of_host
    FOREIGN KEY (agentsn) REFERENCES host (agentsn) ON DELETE CASCADE NOT VALID;
COMMIT;

-- What changed before there were triggers; nobody but these hosts is locked.
BEGIN;
DELETE FROM host_search
    WHERE NOT EXISTS (SELECT 1 FROM host WHERE host.agentsn = host_search.agentsn);
DELETE FROM host_address
    WHERE NOT EXISTS (SELECT 1 FROM host WHERE host.agentsn = host_address.agentsn);
SELECT host_search_write(changed) FROM (
    SELECT host.* FROM host LEFT JOIN host_search ON host_search.agentsn = host.agentsn
    WHERE host_search.text IS DISTINCT FROM
        host_search_text(host.hostname, host.display_name, host.ip)
    FOR NO KEY UPDATE OF host
) AS changed;
COMMIT;

BEGIN;
ALTER TABLE host_search VALIDATE CONSTRAINT host_search_of_host;
ALTER TABLE host_address VALIDATE CONSTRAINT host_address_of_host;
COMMIT;

-- While one of these is made no host is written, which is a second for a million
-- of them. CONCURRENTLY would wait for every other server that waits for this
-- migration, and they for it.
BEGIN;
CREATE INDEX IF NOT EXISTS host_by_created ON host (created, agentsn);
COMMIT;
BEGIN;
CREATE INDEX IF NOT EXISTS host_by_since ON host (since, agentsn);
COMMIT;
