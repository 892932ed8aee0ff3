-- no-transaction
-- Open jobs of a host, of an id or due to expire: each way has its own index, and takes no other.

-- A plan is kept for long. One that was made while hardly any job was open goes through the
-- smallest index whose condition its statement says, as a whole, for each host: with a hundred
-- thousand open jobs that is seconds for a batch of statuses. So each index also says something
-- of its first column that is always true, and is taken by statements that say the same. An
-- older server beside this one finds open jobs of a host among all it had.
BEGIN;
CREATE INDEX IF NOT EXISTS job_open_of_host ON job (agentsn, id)
    WHERE finished IS NULL AND agentsn > '';
DROP INDEX IF EXISTS job_open_by_host;
COMMIT;
BEGIN;
CREATE INDEX IF NOT EXISTS job_open_by_id ON job (id) WHERE finished IS NULL AND id > '';
DROP INDEX IF EXISTS job_open;
COMMIT;
-- That it is compared with something says the same.
BEGIN;
CREATE INDEX IF NOT EXISTS job_unsent_by_expiry ON job (expires)
    WHERE finished IS NULL AND sent IS NULL AND expires IS NOT NULL;
DROP INDEX IF EXISTS job_open_by_expiry;
COMMIT;
