-- Removal of what is old: partitions are dropped as a whole. The lock that this takes on the whole table is waited for only
-- so long, since everybody else waits behind it. Answers about how many rows went; null: something in it is needed.
CREATE FUNCTION orderhook.drop_partition(parent_name text, partition_name text, wait_ms integer) RETURNS bigint
LANGUAGE plpgsql AS $body$
DECLARE
  row_count bigint;
  is_needed boolean;
BEGIN
  IF parent_name = 'closings' THEN
    -- By a queue that has not passed it, by what is owed or abandoned, or by a resend.
    EXECUTE format($query$
      SELECT EXISTS (SELECT FROM orderhook.queues q WHERE NOT q.deleted AND (
          EXISTS (SELECT FROM orderhook.%1$I c WHERE c.institution_id = q.institution_id
            AND (c.xid, c.closing_id) > (q.cursor_xid, q.cursor_id))
          OR q.owed > 0 AND EXISTS (SELECT FROM orderhook.owed o
            JOIN orderhook.%1$I c ON c.institution_id = o.institution_id AND c.closing_id = o.closing_id
            WHERE o.institution_id = q.institution_id AND o.interface_id = q.interface_id)
          OR q.abandoned > 0 AND EXISTS (SELECT FROM orderhook.abandoned a
            JOIN orderhook.%1$I c ON c.institution_id = a.institution_id AND c.closing_id = a.closing_id
            WHERE a.institution_id = q.institution_id AND a.interface_id = q.interface_id)))
        OR EXISTS (SELECT FROM orderhook.resends r JOIN orderhook.executions e USING (institution_id, execution_id)
          JOIN orderhook.partitions p ON p.name = %2$L
          WHERE e.status = 'RUNNING' AND r.closed_from < p.to_at AND r.closed_to > p.from_at)
    $query$, partition_name, partition_name) INTO is_needed;
    IF is_needed THEN
      RETURN NULL;
    END IF;
  END IF;
  SELECT greatest(c.reltuples, 0)::bigint INTO row_count FROM pg_class c
  WHERE c.oid = ('orderhook.' || quote_ident(partition_name))::regclass;
  PERFORM set_config('lock_timeout', wait_ms::text, true);
  EXECUTE format('DROP TABLE orderhook.%I', partition_name);
  DELETE FROM orderhook.partitions WHERE name = partition_name;
  RETURN row_count;
END
$body$;

-- Removes a step of rows from a partition of the call log that is old in part.
CREATE FUNCTION orderhook.trim_attempts(partition_name text, before_at bigint, step_rows integer) RETURNS bigint
LANGUAGE plpgsql AS $body$
DECLARE
  row_count bigint;
BEGIN
  EXECUTE format('DELETE FROM orderhook.%1$I WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM orderhook.%1$I WHERE started_at < $1 LIMIT $2))', partition_name) USING before_at, step_rows;
  GET DIAGNOSTICS row_count = ROW_COUNT;
  RETURN row_count;
END
$body$;

REVOKE ALL ON FUNCTION orderhook.drop_partition(text, text, integer), orderhook.trim_attempts(text, bigint, integer)
  FROM PUBLIC;
