-- A full queue of NOTIFY (a session somewhere on the server that listens and stands in a transaction) makes every
-- transaction that notifies fail as it commits, where nobody can catch it: the order system's own, because of a hint that
-- the engines can do without. So a closing is told of only while there is much room in that queue. Asking how much there is
-- also frees what everybody has read; once it is full, nothing else does.
CREATE FUNCTION orderhook.tell_of_closing(institution_key bigint) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
  -- Transactions that notify commit one after the other. Where thousands commit in a second, turn it off with
  -- SET orderhook.notify = 'off': the engines then see the closing when they look by themselves.
  IF current_setting('orderhook.notify', true) IS DISTINCT FROM 'off' AND pg_notification_queue_usage() < 0.5 THEN
    PERFORM pg_notify('orderhook', json_build_object('closings', json_build_array(institution_key))::text);
  END IF;
END
$body$;
REVOKE ALL ON FUNCTION orderhook.tell_of_closing(bigint) FROM PUBLIC;

-- The rules are those of the PUT call. Runs with the rights of the schema's owner, so it looks names up in no schema of
-- the caller's.
CREATE OR REPLACE FUNCTION orderhook.close_order(institution text, details text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  institution_key bigint;
  given json;
  id_text text;
  state text;
  made bigint;
BEGIN
  SELECT i.institution_id INTO institution_key FROM orderhook.institutions i WHERE i.code = institution;
  IF NOT found THEN
    RAISE EXCEPTION 'There is no institution %.', coalesce(institution, 'NULL') USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF details IS NULL THEN
    RAISE EXCEPTION 'The details of the order are NULL.' USING ERRCODE = 'null_value_not_allowed';
  END IF;
  IF octet_length(details) > 1048576 THEN
    RAISE EXCEPTION 'The order is larger than 1 MiB.' USING ERRCODE = 'program_limit_exceeded';
  END IF;
  BEGIN
    given := details::json;
  EXCEPTION WHEN invalid_text_representation THEN
    RAISE EXCEPTION 'The order is not JSON: %.', sqlerrm USING ERRCODE = 'invalid_text_representation';
  END;
  IF json_typeof(given) <> 'object' THEN
    RAISE EXCEPTION 'An order is a JSON object with its details.' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF coalesce(json_typeof(given -> 'orderState'), 'null') = 'null' THEN
    RAISE EXCEPTION 'The order has no orderState.' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  state := given ->> 'orderState';
  IF json_typeof(given -> 'orderState') <> 'string' OR length(state) NOT BETWEEN 1 AND 64 THEN
    RAISE EXCEPTION 'orderState must be a text of 1 to 64 characters.' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF coalesce(json_typeof(given -> 'orderId'), 'null') = 'null' THEN
    RAISE EXCEPTION 'The order has no orderId.' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  id_text := given ->> 'orderId';
  IF id_text !~ '^[1-9][0-9]{0,18}$' OR id_text::numeric > 9223372036854775807 THEN
    RAISE EXCEPTION 'orderId must be an integer from 1 to 9223372036854775807.' USING ERRCODE = 'invalid_parameter_value';
  END IF;

  SELECT p.closing_id INTO made FROM orderhook.put_orders(
    ARRAY[institution_key], ARRAY[id_text::bigint], ARRAY[state], ARRAY[details], ARRAY[0],
    floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) p;
  IF made IS NOT NULL THEN
    PERFORM orderhook.tell_of_closing(institution_key);
  END IF;
  RETURN made;
END
$body$;
