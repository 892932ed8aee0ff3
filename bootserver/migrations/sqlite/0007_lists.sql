-- Lists of hosts: sorted by more than the name, and found by a part of it.

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
CREATE VIRTUAL TABLE host_text USING fts5 (
    text, content = 'host_search', content_rowid = 'id', tokenize = 'trigram case_sensitive 1'
);
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
END;
CREATE TRIGGER host_update_search AFTER UPDATE OF hostname, display_name, ip ON host
WHEN NEW.hostname <> OLD.hostname OR NEW.display_name <> OLD.display_name OR NEW.ip <> OLD.ip
BEGIN
    UPDATE host_search
    SET text = lower(NEW.hostname || char(10) || NEW.display_name || char(10) || NEW.ip)
    WHERE agentsn = NEW.agentsn;
END;
INSERT INTO host_search (agentsn, text)
    SELECT agentsn, lower(hostname || char(10) || display_name || char(10) || ip) FROM host;
