-- Targets of a rollout that nothing was done about yet, packed.

-- As many hosts as fit a page or two, in the order of their places and of their agentsns
-- alike: `hosts` is JSON, a list of [place, agentsn, version]. Whoever needs one of them
-- unpacks all into `rollout_target`, and the pack goes. An older server beside this one
-- leaves packs alone, and their rollouts waiting.
CREATE TABLE rollout_pack (
    rollout    BIGINT NOT NULL REFERENCES rollout (number) ON DELETE CASCADE,
    place      BIGINT NOT NULL,
    first_host TEXT COLLATE "C" NOT NULL,
    last_host  TEXT COLLATE "C" NOT NULL,
    hosts      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (rollout, place)
);
CREATE UNIQUE INDEX rollout_pack_by_host ON rollout_pack (rollout, last_host, first_host, place);
-- Ids hardly become smaller.
ALTER TABLE rollout_pack ALTER COLUMN hosts SET STORAGE EXTERNAL;

-- How those stand that are still packed, as the columns of `rollout_target` say it.
ALTER TABLE rollout ADD COLUMN rest TEXT COLLATE "C" NOT NULL DEFAULT 'waiting';
ALTER TABLE rollout ADD COLUMN rest_since BIGINT;
ALTER TABLE rollout ADD COLUMN rest_reason TEXT COLLATE "C";

-- Of one that is packed only matters that it is gone for good.
CREATE OR REPLACE FUNCTION rollout_hear_of_host() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rollout_news (rollout, place)
        SELECT rollout, place FROM rollout_target
        WHERE agentsn = NEW.agentsn AND state IN ('waiting', 'ordered', 'running');
    IF NEW.state <> 'offline' THEN
        INSERT INTO rollout_news (rollout, place)
            SELECT pack.rollout, CAST(given.value ->> 0 AS BIGINT)
            FROM rollout
            JOIN rollout_pack AS pack
                ON pack.rollout = rollout.number
                AND pack.place = (
                    SELECT next.place FROM rollout_pack AS next
                    WHERE next.rollout = rollout.number AND next.last_host >= NEW.agentsn
                    ORDER BY next.rollout, next.last_host LIMIT 1)
            CROSS JOIN jsonb_array_elements(pack.hosts::jsonb) AS given (value)
            WHERE rollout.ended IS NULL AND rollout.rest = 'waiting'
                AND given.value ->> 1 = NEW.agentsn;
    END IF;
    RETURN NULL;
END
$$;
