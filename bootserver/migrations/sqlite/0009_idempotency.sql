-- Requests that are to be done once: who sent them under which key (both as
-- SHA-256), and how they were answered, sealed by both.

CREATE TABLE idempotency (
    caller  TEXT NOT NULL,
    key     TEXT NOT NULL,
    request TEXT NOT NULL,
    begun   BIGINT NOT NULL,
    -- None until it is answered.
    status  BIGINT,
    etag    TEXT,
    body    BLOB,
    PRIMARY KEY (caller, key)
);
CREATE INDEX idempotency_by_time ON idempotency (begun);
