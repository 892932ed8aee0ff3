-- What is passed on with a package: the text of its .minisig.
ALTER TABLE package ADD COLUMN signature TEXT COLLATE "C";

-- The bytes of packages. One without a sum is coming in, since `begun` by the
-- database's clock, or going, where `begun` is 0.
CREATE TABLE blob (
    id     TEXT COLLATE "C" PRIMARY KEY,
    sha256 TEXT COLLATE "C" UNIQUE,
    begun  BIGINT NOT NULL
);
CREATE INDEX blob_by_begun ON blob (begun) WHERE sha256 IS NULL;

CREATE TABLE blob_chunk (
    blob   TEXT COLLATE "C" NOT NULL REFERENCES blob (id),
    number BIGINT NOT NULL,
    bytes  BYTEA NOT NULL,
    PRIMARY KEY (blob, number)
);
-- Packages are compressed already, and a part of a chunk is read without the rest.
ALTER TABLE blob_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL;
