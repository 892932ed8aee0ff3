-- What is passed on with a package: the text of its .minisig. On PostgreSQL the
-- bytes of packages are in tables too; here they are files beside the database.
ALTER TABLE package ADD COLUMN signature TEXT;
