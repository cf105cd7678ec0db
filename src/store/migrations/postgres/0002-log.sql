-- How closings get into the log, whoever puts them there: the store and the outbox both call put_orders.

-- Tells one server's copies of the data from another's: a dump restored elsewhere finds another one.
DO $body$
DECLARE
  identity text := 'SELECT system_identifier::text FROM pg_catalog.pg_control_system()';
BEGIN
  IF NOT has_function_privilege('pg_catalog.pg_control_system()', 'execute') THEN
    -- Weaker: only a restore into a database of another name or number is noticed by writers; a start still notices all.
    identity := 'SELECT oid::text || '' '' || datname FROM pg_catalog.pg_database WHERE datname = current_database()';
  END IF;
  EXECUTE format('CREATE FUNCTION orderhook.cluster_id() RETURNS text LANGUAGE sql STABLE AS %L', identity);
END
$body$;
INSERT INTO orderhook.installation (cluster) VALUES (orderhook.cluster_id());

-- The greatest place in the log that anything names.
CREATE FUNCTION orderhook.log_end() RETURNS bigint LANGUAGE sql STABLE AS $body$
  SELECT coalesce(greatest(
    (SELECT max(newest.xid) FROM orderhook.institutions i CROSS JOIN LATERAL
      (SELECT c.xid FROM orderhook.closings c WHERE c.institution_id = i.institution_id
       ORDER BY c.xid DESC, c.closing_id DESC LIMIT 1) newest),
    (SELECT max(greatest(cursor_xid, first_xmax)) FROM orderhook.queues)), 0)
$body$;

-- Transaction ids start again lower in the cluster into which a dump is restored. From then on an offset is added to
-- them, so that the log goes on after everything in it. Nothing that is stored has to change.
CREATE FUNCTION orderhook.rebase_log(even_on_this_cluster boolean) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
  PERFORM FROM orderhook.installation FOR UPDATE;  -- two that find it at once
  UPDATE orderhook.installation
  SET cluster = orderhook.cluster_id(), xid_offset = greatest(xid_offset, orderhook.log_end() + 1)
  WHERE cluster <> orderhook.cluster_id()
    OR even_on_this_cluster
      AND orderhook.log_end() >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint + xid_offset;
END
$body$;

-- This transaction's place in the log. Assigns the transaction id.
CREATE FUNCTION orderhook.log_xid() RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
  place bigint;
BEGIN
  SELECT pg_current_xact_id()::text::bigint + xid_offset INTO place
  FROM orderhook.installation WHERE cluster = orderhook.cluster_id();
  IF NOT found THEN
    PERFORM orderhook.rebase_log(false);
    SELECT pg_current_xact_id()::text::bigint + xid_offset INTO STRICT place FROM orderhook.installation;
  END IF;
  RETURN place;
END
$body$;

-- Everything before this place is committed or never will be.
CREATE FUNCTION orderhook.log_horizon() RETURNS bigint LANGUAGE sql STABLE AS $body$
  SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + xid_offset FROM orderhook.installation
$body$;

-- Makes the partition for a moment, if there is none. The new table is attached instead of created in place: that locks
-- out neither readers nor writers of the others.
CREATE FUNCTION orderhook.make_partition(parent_name text, at bigint) RETURNS boolean LANGUAGE plpgsql AS $body$
DECLARE
  monday constant bigint := 345600000;             -- 1970-01-05
  span bigint;
  lower_at bigint;
  upper_at bigint;
  partition_name text;
BEGIN
  IF EXISTS (SELECT FROM orderhook.partitions p WHERE p.parent = parent_name AND p.from_at <= at AND at < p.to_at) THEN
    RETURN false;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('orderhook.partitions', 0));
  IF EXISTS (SELECT FROM orderhook.partitions p WHERE p.parent = parent_name AND p.from_at <= at AND at < p.to_at) THEN
    RETURN false;
  END IF;
  SELECT partition_days * 86400000::bigint INTO STRICT span FROM orderhook.installation;
  lower_at := floor((at - monday)::numeric / span) * span + monday;
  upper_at := lower_at + span;
  -- The length may have been another when the neighbours were made.
  SELECT greatest(lower_at, max(p.to_at) FILTER (WHERE p.to_at <= at)),
         least(upper_at, min(p.from_at) FILTER (WHERE p.from_at > at))
  INTO lower_at, upper_at FROM orderhook.partitions p WHERE p.parent = parent_name;
  partition_name := parent_name || '_' || to_char(to_timestamp(lower_at / 1000.0) AT TIME ZONE 'UTC', 'YYYYMMDD');
  EXECUTE format('CREATE TABLE orderhook.%I (LIKE orderhook.%I INCLUDING ALL)', partition_name, parent_name);
  EXECUTE format('ALTER TABLE orderhook.%I ATTACH PARTITION orderhook.%I FOR VALUES FROM (%s) TO (%s)',
    parent_name, partition_name, lower_at, upper_at);
  INSERT INTO orderhook.partitions VALUES (parent_name, lower_at, upper_at, partition_name);
  RETURN true;
END
$body$;

-- Stores orders; an order that is CLOSED and was not makes a closing. Answers the closings made, by the place of their
-- order in the arrays. An order may come once per segment; segments are done one after the other.
CREATE FUNCTION orderhook.put_orders(
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

-- Closes a stored order whose details are still `details_before`. The new text is made by the caller, which keeps numbers
-- as they were written; `changed` tells it to read the order again.
CREATE FUNCTION orderhook.close_stored_order(
  institution bigint, order_number bigint, details_before text, details_after text, at bigint)
RETURNS TABLE (result text, closing_id bigint, closed_at bigint) LANGUAGE plpgsql AS $body$
DECLARE
  stored orderhook.orders%ROWTYPE;
  made bigint;
BEGIN
  SELECT * INTO stored FROM orderhook.orders o
  WHERE o.institution_id = institution AND o.order_id = order_number FOR UPDATE;
  IF NOT found THEN
    RETURN QUERY SELECT 'unknown', NULL::bigint, NULL::bigint;
  ELSIF stored.order_state = 'CLOSED' THEN
    RETURN QUERY SELECT 'already_closed', stored.last_closing_id, stored.last_closed_at;
  ELSIF stored.details <> details_before THEN
    RETURN QUERY SELECT 'changed', NULL::bigint, NULL::bigint;
  ELSE
    SELECT p.closing_id INTO STRICT made FROM orderhook.put_orders(
      ARRAY[institution], ARRAY[order_number], ARRAY['CLOSED'], ARRAY[details_after], ARRAY[0], at) p;
    RETURN QUERY SELECT 'closed', made, at;
  END IF;
END
$body$;
