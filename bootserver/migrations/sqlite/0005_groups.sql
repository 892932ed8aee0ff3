-- Groups of hosts.

CREATE TABLE host_group (
    id          TEXT PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    description TEXT   NOT NULL,
    selector    TEXT,
    created     BIGINT NOT NULL,
    version     BIGINT NOT NULL
);

-- Hosts a group names one by one.
CREATE TABLE group_host (
    id      TEXT NOT NULL REFERENCES host_group (id) ON DELETE CASCADE,
    agentsn TEXT NOT NULL REFERENCES host (agentsn) ON DELETE CASCADE,
    PRIMARY KEY (id, agentsn)
);
CREATE INDEX group_host_by_host ON group_host (agentsn, id);

-- Groups that are in a group. One that is in another is not deleted.
CREATE TABLE group_child (
    id    TEXT NOT NULL REFERENCES host_group (id) ON DELETE CASCADE,
    child TEXT NOT NULL REFERENCES host_group (id),
    PRIMARY KEY (id, child)
);
CREATE INDEX group_child_by_child ON group_child (child);
