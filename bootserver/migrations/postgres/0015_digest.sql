-- The digest of a host's state where every push looks anyway, so that one row
-- says whether anything has to be written. None means: with the next push. An
-- older server beside this one keeps that in host_state alone: what it leaves
-- behind comes with the host's next change.
ALTER TABLE host_seen ADD COLUMN digest TEXT COLLATE "C";
