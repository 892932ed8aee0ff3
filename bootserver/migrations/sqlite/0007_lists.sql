-- Lists of hosts: sorted by more than the name, found by a part of it and by an
-- address.

CREATE INDEX host_by_created ON host (created, agentsn);
CREATE INDEX host_by_since ON host (since, agentsn);

-- Names and addresses in small letters. Triggers keep it, so that an older
-- server beside this one does, too. Its id is what the index refers to: a rowid
-- that is not declared changes when a database is copied.
CREATE TABLE host_search (
    id      INTEGER PRIMARY KEY,
    agentsn TEXT NOT NULL UNIQUE REFERENCES host (agentsn) ON DELETE CASCADE,
    text    TEXT NOT NULL
);
INSERT INTO host_search (agentsn, text)
    SELECT agentsn, lower(hostname || char(10) || display_name || char(10) || ip) FROM host;
CREATE VIRTUAL TABLE host_text USING fts5 (
    text, content = 'host_search', content_rowid = 'id', tokenize = 'trigram case_sensitive 1'
);
INSERT INTO host_text (host_text) VALUES ('rebuild');
-- Addresses one by one, each found whole.
CREATE TABLE host_address (
    agentsn TEXT NOT NULL REFERENCES host (agentsn) ON DELETE CASCADE,
    address TEXT NOT NULL,
    PRIMARY KEY (agentsn, address)
) WITHOUT ROWID;
INSERT INTO host_address (agentsn, address)
    SELECT DISTINCT host.agentsn, given.value FROM host, json_each(host.ip) AS given;
CREATE INDEX host_address_by_address ON host_address (address, agentsn);

CREATE TRIGGER host_search_insert AFTER INSERT ON host_search BEGIN
    INSERT INTO host_text (rowid, text) VALUES (NEW.id, NEW.text);
END;
CREATE TRIGGER host_search_delete AFTER DELETE ON host_search BEGIN
    INSERT INTO host_text (host_text, rowid, text) VALUES ('delete', OLD.id, OLD.text);
END;
CREATE TRIGGER host_search_update AFTER UPDATE OF text ON host_search BEGIN
    INSERT INTO host_text (host_text, rowid, text) VALUES ('delete', OLD.id, OLD.text);
    INSERT INTO host_text (rowid, text) VALUES (NEW.id, NEW.text);
END;
CREATE TRIGGER host_insert_search AFTER INSERT ON host BEGIN
    INSERT INTO host_search (agentsn, text) VALUES (NEW.agentsn,
        lower(NEW.hostname || char(10) || NEW.display_name || char(10) || NEW.ip));
    INSERT INTO host_address (agentsn, address)
        SELECT DISTINCT NEW.agentsn, given.value FROM json_each(NEW.ip) AS given;
END;
CREATE TRIGGER host_update_search AFTER UPDATE OF hostname, display_name, ip ON host
WHEN NEW.hostname <> OLD.hostname OR NEW.display_name <> OLD.display_name OR NEW.ip <> OLD.ip
BEGIN
    UPDATE host_search
    SET text = lower(NEW.hostname || char(10) || NEW.display_name || char(10) || NEW.ip)
    WHERE agentsn = NEW.agentsn;
END;
CREATE TRIGGER host_update_address AFTER UPDATE OF ip ON host WHEN NEW.ip <> OLD.ip BEGIN
    DELETE FROM host_address WHERE agentsn = NEW.agentsn;
    INSERT INTO host_address (agentsn, address)
        SELECT DISTINCT NEW.agentsn, given.value FROM json_each(NEW.ip) AS given;
END;
