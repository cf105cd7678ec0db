-- What removal and the care for room remember.
CREATE TABLE orderhook.upkeep (
  name  text PRIMARY KEY,
  value bigint NOT NULL
);

-- An order whose details were removed keeps its row, with '' for details.
ALTER TABLE orderhook.orders ADD COLUMN removed_at bigint;

-- Attempts that started before this moment may have been removed; those after it are all there. An earlier version removed
-- from the oldest partition at most.
INSERT INTO orderhook.upkeep
SELECT 'attempts_removed_before', CASE
  WHEN EXISTS (SELECT FROM orderhook.queues WHERE last_attempt_id > 0) THEN
    least(floor(extract(epoch FROM now()) * 1000)::bigint,
      coalesce((SELECT min(to_at) FROM orderhook.partitions WHERE parent = 'attempts'), 0))
  ELSE 0 END;

-- How far the table was looked through for executions that found nothing to look at, which an earlier version kept.
-- -1: all of it.
INSERT INTO orderhook.upkeep
SELECT 'empty_executions_block', CASE WHEN EXISTS (SELECT FROM orderhook.executions) THEN 0 ELSE -1 END;

-- How far the table of orders was looked through for old ones; and up to when that pass removes.
INSERT INTO orderhook.upkeep VALUES ('old_orders_block', 0), ('old_orders_before', -9007199254740991);

-- As before; the details that come make an order whole again whose details were removed.
CREATE OR REPLACE FUNCTION orderhook.put_orders(
  institution_ids bigint[], order_ids bigint[], order_states text[], details text[], segments integer[], at bigint)
RETURNS TABLE (place bigint, closing_id bigint) LANGUAGE plpgsql
-- How long the arrays are is not known when the plan is made; joined in nested loops, 500 orders take 100 ms.
SET enable_nestloop = off AS $body$
#variable_conflict use_column
DECLARE
  log_place bigint := orderhook.log_xid();
  last_segment integer := coalesce(segments[cardinality(segments)], 0);
BEGIN
  IF NOT EXISTS (SELECT FROM orderhook.partitions p WHERE p.parent = 'closings' AND p.from_at <= at AND at < p.to_at) THEN
    PERFORM orderhook.make_partition('closings', at);
  END IF;
  FOR current_segment IN 0 .. last_segment LOOP
    RETURN QUERY
    WITH given AS MATERIALIZED (
      -- Ids of closings follow the order in which the orders were given.
      SELECT g.*, CASE WHEN g.order_state = 'CLOSED' THEN nextval('orderhook.closing_ids') END AS new_closing_id
      FROM unnest(institution_ids, order_ids, order_states, details, segments) WITH ORDINALITY
        AS g (institution_id, order_id, order_state, details, segment, place)
      WHERE last_segment = 0 OR g.segment = current_segment
    ), put AS (
      INSERT INTO orderhook.orders AS o
        (institution_id, order_id, order_state, updated_at, last_closing_id, last_closed_at, details)
      SELECT g.institution_id, g.order_id, g.order_state, at, g.new_closing_id,
        CASE WHEN g.new_closing_id IS NOT NULL THEN at END, g.details
      FROM given g
      ORDER BY g.institution_id, g.order_id        -- rows are locked in one order by all, so that nobody waits in a circle
      ON CONFLICT (institution_id, order_id) DO UPDATE SET
        order_state = excluded.order_state,
        updated_at = excluded.updated_at,
        details = excluded.details,
        removed_at = NULL,
        last_closing_id = CASE WHEN excluded.order_state = 'CLOSED' AND o.order_state <> 'CLOSED'
          THEN excluded.last_closing_id ELSE o.last_closing_id END,
        last_closed_at = CASE WHEN excluded.order_state = 'CLOSED' AND o.order_state <> 'CLOSED'
          THEN excluded.last_closed_at ELSE o.last_closed_at END,
        previous_closing_id = CASE WHEN excluded.order_state = 'CLOSED' AND o.order_state <> 'CLOSED'
          THEN o.last_closing_id ELSE o.previous_closing_id END,
        previous_closed_at = CASE WHEN excluded.order_state = 'CLOSED' AND o.order_state <> 'CLOSED'
          THEN o.last_closed_at ELSE o.previous_closed_at END
      RETURNING o.institution_id, o.order_id, o.last_closing_id, o.previous_closing_id, o.previous_closed_at
    ), closed AS (
      -- An id that was drawn here stands in the row only if this put closed it.
      INSERT INTO orderhook.closings
        (institution_id, closing_id, closed_at, xid, order_id, previous_closing_id, previous_closed_at)
      SELECT p.institution_id, p.last_closing_id, at, log_place, p.order_id, p.previous_closing_id, p.previous_closed_at
      FROM put p JOIN given g ON g.new_closing_id = p.last_closing_id
      RETURNING closing_id
    )
    SELECT g.place, g.new_closing_id FROM closed c JOIN given g ON g.new_closing_id = c.closing_id;
  END LOOP;
END
$body$;

-- Takes out of the call log what callees said in answers about one order. Headers that a row keeps for later ones of other
-- orders go on to the first of these.
CREATE FUNCTION orderhook.forget_answers(institution bigint, order_number bigint, span_attempts integer, span_ms bigint)
RETURNS void LANGUAGE plpgsql AS $body$
DECLARE
  kept record;
  heir record;
BEGIN
  FOR kept IN
    SELECT a.interface_id, a.attempt_id, a.started_at, a.headers
    FROM orderhook.interfaces i JOIN orderhook.attempts a USING (institution_id, interface_id)
    WHERE i.institution_id = institution AND a.order_id = order_number AND a.headers IS NOT NULL
    ORDER BY a.interface_id, a.attempt_id
  LOOP
    SELECT h.attempt_id, h.started_at INTO heir FROM orderhook.attempts h
    WHERE h.institution_id = institution AND h.interface_id = kept.interface_id
      AND h.attempt_id > kept.attempt_id AND h.attempt_id <= kept.attempt_id + span_attempts
      AND h.started_at BETWEEN kept.started_at - span_ms AND kept.started_at + span_ms
      AND h.headers_in = kept.attempt_id AND h.order_id <> order_number
    ORDER BY h.attempt_id LIMIT 1;
    CONTINUE WHEN NOT found;
    UPDATE orderhook.attempts h SET headers = kept.headers, headers_in = NULL
    WHERE h.institution_id = institution AND h.interface_id = kept.interface_id
      AND h.attempt_id = heir.attempt_id AND h.started_at = heir.started_at;
    UPDATE orderhook.attempts h SET headers_in = heir.attempt_id
    WHERE h.institution_id = institution AND h.interface_id = kept.interface_id
      AND h.attempt_id > heir.attempt_id AND h.attempt_id <= kept.attempt_id + span_attempts
      AND h.started_at BETWEEN kept.started_at - span_ms AND kept.started_at + span_ms
      AND h.headers_in = kept.attempt_id AND h.order_id <> order_number;
  END LOOP;
  UPDATE orderhook.attempts a SET headers = NULL, headers_in = NULL, body_start = NULL,
    detail = CASE WHEN a.status IS NULL AND a.reason IS DISTINCT FROM 'protocol' THEN a.detail END
  FROM orderhook.interfaces i
  WHERE i.institution_id = institution AND a.institution_id = institution AND a.interface_id = i.interface_id
    AND a.order_id = order_number AND (a.status IS NOT NULL OR a.reason = 'protocol');
END
$body$;

-- Removes the details of one order and what the call log holds of it. False when there is no such order.
CREATE FUNCTION orderhook.remove_order(
  institution bigint, order_number bigint, at bigint, span_attempts integer, span_ms bigint)
RETURNS boolean LANGUAGE plpgsql AS $body$
BEGIN
  UPDATE orderhook.orders o SET details = '', removed_at = coalesce(o.removed_at, at)
  WHERE o.institution_id = institution AND o.order_id = order_number;
  IF NOT found THEN
    RETURN false;
  END IF;
  PERFORM orderhook.forget_answers(institution, order_number, span_attempts, span_ms);
  RETURN true;
END
$body$;

-- Whether a delivery of the order waits, is owed or is abandoned; null: no closing of it is there any more. Looks closings up
-- one by one, with their times at hand, so that one partition of all is opened for each.
CREATE FUNCTION orderhook.is_needed(
  institution bigint, last_id bigint, last_at bigint, previous_id bigint, previous_at bigint)
RETURNS boolean LANGUAGE plpgsql STABLE AS $body$
DECLARE
  id bigint := last_id;
  at bigint := last_at;
  is_there boolean;
  is_listed boolean;
  closing record;
BEGIN
  FOR tries IN 1 .. 2 LOOP
    WHILE id IS NOT NULL LOOP
      SELECT c.xid, c.previous_closing_id, c.previous_closed_at INTO closing FROM orderhook.closings c
      WHERE c.institution_id = institution AND c.closing_id = id AND c.closed_at = at;
      EXIT WHEN NOT found;
      is_there := true;
      SELECT EXISTS (SELECT FROM orderhook.queues q
        WHERE q.institution_id = institution AND NOT q.deleted AND (
          (closing.xid, id) > (q.cursor_xid, q.cursor_id)
          OR q.owed > 0 AND EXISTS (SELECT FROM orderhook.owed d WHERE d.institution_id = institution
            AND d.interface_id = q.interface_id AND d.closing_id = id)
          OR q.abandoned > 0 AND EXISTS (SELECT FROM orderhook.abandoned d WHERE d.institution_id = institution
            AND d.interface_id = q.interface_id AND d.closing_id = id)))
      INTO is_listed;
      IF is_listed THEN
        RETURN true;
      END IF;
      id := closing.previous_closing_id;
      at := closing.previous_closed_at;
    END LOOP;
    EXIT WHEN is_there;
    -- The partition of the newest one may be gone, and that of the one before it may not.
    id := previous_id;
    at := previous_at;
  END LOOP;
  RETURN CASE WHEN is_there THEN false END;
END
$body$;

-- One step of a pass through the table of orders, in the order in which it lies on disk, since no index finds the old ones.
-- All nodes share one pass. A pass begins when the time before which orders are old has moved on by `pass_every_ms`.
CREATE FUNCTION orderhook.remove_old_orders(
  before_at bigint, at bigint, step_blocks integer, step_looks integer, step_orders integer, pass_every_ms bigint)
RETURNS TABLE (removed bigint, has_more boolean) LANGUAGE plpgsql AS $body$
DECLARE
  first_block bigint;
  next_block bigint;
  last_pass bigint;
  block_count bigint;
  candidate record;
  needed boolean;
  looked_count bigint := 0;
  removed_count bigint := 0;
BEGIN
  SELECT value INTO first_block FROM orderhook.upkeep WHERE name = 'old_orders_block' FOR UPDATE SKIP LOCKED;
  IF NOT found THEN
    RETURN QUERY SELECT 0::bigint, false;          -- another node is at it
    RETURN;
  END IF;
  IF first_block = 0 THEN
    SELECT value INTO STRICT last_pass FROM orderhook.upkeep WHERE name = 'old_orders_before';
    IF before_at >= last_pass AND before_at < last_pass + pass_every_ms THEN
      RETURN QUERY SELECT 0::bigint, false;
      RETURN;
    END IF;
  END IF;
  block_count := pg_relation_size('orderhook.orders') / current_setting('block_size')::bigint;
  next_block := first_block + step_blocks;
  FOR candidate IN
    SELECT o.institution_id, o.order_id, o.removed_at, o.last_closing_id, o.last_closed_at, o.previous_closing_id,
      o.previous_closed_at, ((o.ctid::text::point)[0])::bigint AS block
    FROM orderhook.orders o
    WHERE o.ctid >= format('(%s,0)', first_block)::tid AND o.ctid < format('(%s,0)', next_block)::tid
      AND o.updated_at < before_at
  LOOP
    -- A block is begun again: what was removed of it is not found any more. At least one is looked at as a whole.
    IF removed_count >= step_orders OR looked_count >= step_looks AND candidate.block > first_block THEN
      next_block := candidate.block;
      EXIT;
    END IF;
    looked_count := looked_count + 1;
    IF candidate.removed_at IS NOT NULL THEN
      -- All that may be left to do is to remove the whole of it.
      PERFORM FROM orderhook.closings c WHERE c.institution_id = candidate.institution_id
        AND c.closing_id = candidate.last_closing_id AND c.closed_at = candidate.last_closed_at;
      CONTINUE WHEN found;
    END IF;
    needed := orderhook.is_needed(candidate.institution_id, candidate.last_closing_id, candidate.last_closed_at,
      candidate.previous_closing_id, candidate.previous_closed_at);
    IF needed IS NULL THEN
      DELETE FROM orderhook.orders o
      WHERE o.institution_id = candidate.institution_id AND o.order_id = candidate.order_id AND o.updated_at < before_at;
      removed_count := removed_count + 1;
    ELSIF NOT needed AND candidate.removed_at IS NULL THEN
      UPDATE orderhook.orders o SET details = '', removed_at = at
      WHERE o.institution_id = candidate.institution_id AND o.order_id = candidate.order_id AND o.updated_at < before_at;
      removed_count := removed_count + 1;
    END IF;
  END LOOP;
  IF next_block >= block_count THEN
    next_block := 0;
    UPDATE orderhook.upkeep SET value = before_at WHERE name = 'old_orders_before';
  END IF;
  UPDATE orderhook.upkeep SET value = next_block WHERE name = 'old_orders_block';
  RETURN QUERY SELECT removed_count, next_block <> 0;
END
$body$;

-- One step of the one pass that removes what an earlier version kept of executions that found nothing to look at. Answers
-- how many went; null: the pass is over.
CREATE FUNCTION orderhook.remove_empty_executions(step_blocks integer) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
  first_block bigint;
  row_count bigint;
BEGIN
  SELECT value INTO first_block FROM orderhook.upkeep
  WHERE name = 'empty_executions_block' AND value >= 0 FOR UPDATE SKIP LOCKED;
  IF NOT found THEN
    RETURN NULL;
  END IF;
  DELETE FROM orderhook.executions e
  WHERE e.ctid >= format('(%s,0)', first_block)::tid AND e.ctid < format('(%s,0)', first_block + step_blocks)::tid
    AND e.trigger = 'AUTOMATIC' AND e.status = 'OK' AND e.looked = 0 AND e.called = 0 AND e.message IS NULL;
  GET DIAGNOSTICS row_count = ROW_COUNT;
  UPDATE orderhook.upkeep SET value = CASE
    WHEN first_block + step_blocks < pg_relation_size('orderhook.executions') / current_setting('block_size')::bigint
    THEN first_block + step_blocks ELSE -1 END
  WHERE name = 'empty_executions_block';
  RETURN row_count;
END
$body$;

-- The functions above are for the owner of the schema alone.
REVOKE ALL ON FUNCTION orderhook.forget_answers(bigint, bigint, integer, bigint),
  orderhook.remove_order(bigint, bigint, bigint, integer, bigint),
  orderhook.is_needed(bigint, bigint, bigint, bigint, bigint),
  orderhook.remove_old_orders(bigint, bigint, integer, integer, integer, bigint),
  orderhook.remove_empty_executions(integer) FROM PUBLIC;
