-- no-transaction
-- Jobs whose hosts do not know them any more.

-- When its host last named it after its time was over, and the first push since
-- then that did not. An older server beside this one writes neither; two more
-- pushes tell.
BEGIN;
ALTER TABLE job ADD COLUMN IF NOT EXISTS named BIGINT;
ALTER TABLE job ADD COLUMN IF NOT EXISTS missed BIGINT;
-- When to look again.
ALTER TABLE job ADD COLUMN IF NOT EXISTS look BIGINT;
-- 1 when its result came after it had been given up.
ALTER TABLE job ADD COLUMN IF NOT EXISTS late BIGINT NOT NULL DEFAULT 0;
COMMIT;

-- While it is made no job is written, which is a second for a million of them.
BEGIN;
CREATE INDEX IF NOT EXISTS job_sent_by_look ON job (coalesce(look, expires))
    WHERE finished IS NULL AND sent IS NOT NULL;
COMMIT;
