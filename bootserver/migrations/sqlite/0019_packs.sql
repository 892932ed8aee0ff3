-- Targets of a rollout that nothing was done about yet, packed.

-- As many hosts as fit a page or two, in the order of their places and of their agentsns
-- alike: `hosts` is JSON, a list of [place, agentsn, version]. Whoever needs one of them
-- unpacks all into `rollout_target`, and the pack goes. An older server beside this one
-- leaves packs alone, and their rollouts waiting.
CREATE TABLE rollout_pack (
    rollout    BIGINT NOT NULL REFERENCES rollout (number) ON DELETE CASCADE,
    place      BIGINT NOT NULL,
    first_host TEXT   NOT NULL,
    last_host  TEXT   NOT NULL,
    hosts      TEXT   NOT NULL,
    PRIMARY KEY (rollout, place)
);
CREATE UNIQUE INDEX rollout_pack_by_host ON rollout_pack (rollout, last_host, first_host, place);

-- How those stand that are still packed, as the columns of `rollout_target` say it.
ALTER TABLE rollout ADD COLUMN rest TEXT NOT NULL DEFAULT 'waiting';
ALTER TABLE rollout ADD COLUMN rest_since BIGINT;
ALTER TABLE rollout ADD COLUMN rest_reason TEXT;

-- Of one that is packed only matters that it is gone for good.
DROP TRIGGER rollout_hears_of_host;
CREATE TRIGGER rollout_hears_of_host AFTER UPDATE OF state ON host
WHEN NEW.state IN ('offline', 'revoked', 'deleted')
BEGIN
    INSERT INTO rollout_news (rollout, place)
        SELECT rollout, place FROM rollout_target
        WHERE agentsn = NEW.agentsn AND state IN ('waiting', 'ordered', 'running');
    INSERT INTO rollout_news (rollout, place)
        SELECT pack.rollout, given.value ->> 0
        FROM rollout CROSS JOIN rollout_pack AS pack CROSS JOIN json_each(pack.hosts) AS given
        WHERE NEW.state <> 'offline' AND rollout.ended IS NULL AND rollout.rest = 'waiting'
            AND pack.rollout = rollout.number
            AND pack.place = (
                SELECT next.place FROM rollout_pack AS next
                WHERE next.rollout = rollout.number AND next.last_host >= NEW.agentsn
                ORDER BY next.rollout, next.last_host LIMIT 1)
            AND given.value ->> 1 = NEW.agentsn;
END;
