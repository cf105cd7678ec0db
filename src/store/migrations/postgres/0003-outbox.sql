-- The outbox: an institution's own transaction stores an order and its closing, or neither. See docs/outbox.md.

-- The right to call close_order, and nothing else. Roles belong to the whole cluster, so one that is there is taken, and
-- a user who may not create roles goes without: docs/outbox.md says what to grant by hand.
DO $body$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'orderhook_outbox') THEN
    CREATE ROLE orderhook_outbox NOLOGIN;
  END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
  NULL;
END
$body$;

-- The rules are those of the PUT call. Runs with the rights of the schema's owner, so it looks names up in no schema of
-- the caller's.
CREATE FUNCTION orderhook.close_order(institution text, details text) RETURNS bigint
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
  -- Transactions that notify commit one after the other. Where thousands commit in a second, turn it off with
  -- SET orderhook.notify = 'off': the engines then see the closing when they look by themselves.
  IF made IS NOT NULL AND current_setting('orderhook.notify', true) IS DISTINCT FROM 'off' THEN
    PERFORM pg_notify('orderhook', json_build_object('closings', json_build_array(institution_key))::text);
  END IF;
  RETURN made;
END
$body$;

-- The text of a json value is the text that was given. jsonb is another spelling of it: its own order of fields and
-- blanks, and numbers with all their digits.
CREATE FUNCTION orderhook.close_order(institution text, details json) RETURNS bigint
LANGUAGE sql AS 'SELECT orderhook.close_order($1, $2::text)';
CREATE FUNCTION orderhook.close_order(institution text, details jsonb) RETURNS bigint
LANGUAGE sql AS 'SELECT orderhook.close_order($1, $2::text)';

-- All other functions are for the owner of the schema alone.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA orderhook FROM PUBLIC;
DO $body$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'orderhook_outbox') THEN
    GRANT USAGE ON SCHEMA orderhook TO orderhook_outbox;
    GRANT EXECUTE ON FUNCTION orderhook.close_order(text, text), orderhook.close_order(text, json),
      orderhook.close_order(text, jsonb) TO orderhook_outbox;
  END IF;
END
$body$;
