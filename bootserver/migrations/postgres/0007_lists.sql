-- Lists of hosts: sorted by more than the name, and found by a part of it.

CREATE INDEX host_by_created ON host (created, agentsn);
CREATE INDEX host_by_since ON host (since, agentsn);

-- Comes with PostgreSQL (Debian has it in the server's package, others in
-- postgresql-contrib), and whoever owns a database may add it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- Names and addresses in small letters, apart from `host`, so that a host that
-- is late does not touch the index. Triggers keep it, so that an older server
-- beside this one does, too.
CREATE TABLE host_search (
    agentsn TEXT COLLATE "C" PRIMARY KEY REFERENCES host (agentsn) ON DELETE CASCADE,
    text    TEXT COLLATE "C" NOT NULL
);
CREATE FUNCTION host_search_text(hostname TEXT, display_name TEXT, ip TEXT) RETURNS TEXT
LANGUAGE sql IMMUTABLE AS $$
    SELECT lower((hostname || chr(10) || display_name || chr(10) || ip) COLLATE "C")
$$;
CREATE FUNCTION host_search_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO host_search (agentsn, text)
    VALUES (NEW.agentsn, host_search_text(NEW.hostname, NEW.display_name, NEW.ip))
    ON CONFLICT (agentsn) DO UPDATE SET text = excluded.text;
    RETURN NULL;
END
$$;
CREATE TRIGGER host_insert_search AFTER INSERT ON host
    FOR EACH ROW EXECUTE FUNCTION host_search_keep();
CREATE TRIGGER host_update_search AFTER UPDATE OF hostname, display_name, ip ON host
    FOR EACH ROW WHEN ((NEW.hostname, NEW.display_name, NEW.ip)
        IS DISTINCT FROM (OLD.hostname, OLD.display_name, OLD.ip))
    EXECUTE FUNCTION host_search_keep();
INSERT INTO host_search (agentsn, text)
    SELECT agentsn, host_search_text(hostname, display_name, ip) FROM host;
CREATE INDEX host_search_by_text ON host_search USING gin (text gin_trgm_ops);
