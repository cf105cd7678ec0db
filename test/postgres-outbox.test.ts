/** An order is closed by a function call in somebody else's transaction: if and only if that transaction commits. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { orderText } from './store-contract.ts';
import { CODE, eventually, nextChange, Venue } from './support/postgres-fixture.ts';
import { NotifyQueue } from './support/postgres-notify-queue.ts';
import { openTestStore, PostgresServer } from './support/postgres-server.ts';

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start({ settings: NotifyQueue.SERVER_SETTINGS });
});
after(() => server.remove());

async function fixture(t: { after(action: () => unknown): void }) {
  const venue = await Venue.open(server);
  const client = await server.client(venue.url);
  t.after(() => Promise.all([venue.store.close(), client.end()]));
  const one = await venue.createInterface();
  const close = async (details: string, type = 'text') =>
    (await client.query(`SELECT orderhook.close_order($1, $2::${type}) AS id`, [CODE, details])).rows[0]?.id;
  const waiting = async () => (await venue.waiting(one)).map(({ orderId }) => orderId);
  return { venue, client, one, close, waiting };
}

describe('the outbox', () => {
  test('stores the order and its closing when the transaction commits, and neither when it does not', async (t) => {
    const { venue, client, close, waiting } = await fixture(t);
    await client.query('BEGIN');
    await close(orderText(1));
    await client.query('ROLLBACK');
    assert.equal(await venue.store.order(venue.id, '1'), undefined);
    await client.query('BEGIN');
    const id = await close(orderText(1));
    assert.equal(await venue.store.order(venue.id, '1'), undefined);
    await client.query('COMMIT');
    assert.equal((await venue.store.order(venue.id, '1'))?.orderState, 'CLOSED');
    assert.deepEqual(
      (await venue.store.closingsOf(venue.id, '1', 9)).map(({ closingId }) => closingId),
      [Number(id)],
    );
    assert.deepEqual(await waiting(), ['1']);
  });

  test('follows the rules of PUT', async (t) => {
    const { venue, close, waiting } = await fixture(t);
    assert.equal(await close(orderText(1, 'OPEN')), null);
    assert.notEqual(await close(orderText(1)), null);
    assert.equal(await close(orderText(1)), null);
    assert.equal(await close(orderText(1, 'OPEN')), null);
    assert.notEqual(await close(orderText(1)), null);
    await venue.put(1);
    assert.deepEqual(await waiting(), ['1', '1']);
  });

  test('keeps the text as it was given, and the digits of jsonb', async (t) => {
    const { venue, close } = await fixture(t);
    const text =
      '{ "orderId": 9223372036854775807,\n "orderState":"CLOSED", "a": 1.50, "b": 12345678901234567890123 }';
    for (const type of ['text', 'json']) {
      await close(text, type);
      assert.equal((await venue.store.order(venue.id, '9223372036854775807'))?.details, text);
    }
    await close(text, 'jsonb');
    const details = (await venue.store.order(venue.id, '9223372036854775807'))?.details ?? '';
    assert.match(details, /"a": 1\.50/);
    assert.match(details, /"b": 12345678901234567890123/);
  });

  test('says what is wrong with an order', async (t) => {
    const { client, close } = await fixture(t);
    const cases: [details: string, message: RegExp][] = [
      ['{"orderId":1', /^The order is not JSON/],
      ['[]', /^An order is a JSON object/],
      ['{"orderState":"CLOSED"}', /^The order has no orderId/],
      ['{"orderId":null,"orderState":"CLOSED"}', /^The order has no orderId/],
      ['{"orderId":1}', /^The order has no orderState/],
      ['{"orderId":1,"orderState":5}', /^orderState must be a text/],
      ['{"orderId":1,"orderState":""}', /^orderState must be a text/],
      ['{"orderId":0,"orderState":"CLOSED"}', /^orderId must be an integer from 1 to/],
      ['{"orderId":1.0,"orderState":"CLOSED"}', /^orderId must be an integer from 1 to/],
      ['{"orderId":9223372036854775808,"orderState":"CLOSED"}', /^orderId must be an integer from 1 to/],
      [orderText(1, 'CLOSED', `,"filler":"${'x'.repeat(1024 * 1024)}"`), /^The order is larger than 1 MiB/],
    ];
    for (const [details, message] of cases) await assert.rejects(close(details), { message });
    await assert.rejects(client.query("SELECT orderhook.close_order('NOBODY', '{}')"), {
      message: 'There is no institution NOBODY.',
    });
    await assert.rejects(client.query(`SELECT orderhook.close_order('${CODE}', NULL::text)`), {
      message: 'The details of the order are NULL.',
    });
  });

  test('needs a role that can do nothing else', async (t) => {
    const { venue } = await fixture(t);
    await server.query(
      'CREATE ROLE stranger LOGIN; CREATE ROLE source LOGIN IN ROLE orderhook_outbox',
      venue.url,
    );
    const as = (user: string) =>
      server.client(venue.url.replace('postgres:', `${user}:`).replace(/\/\/postgres/, `//${user}`));
    const [stranger, source] = [await as('stranger'), await as('source')];
    t.after(() => Promise.all([stranger.end(), source.end()]));
    const call = `SELECT orderhook.close_order('${CODE}', '${orderText(1)}') AS id`;
    await assert.rejects(stranger.query(call), { code: '42501' });
    assert.ok((await source.query(call)).rows[0]?.id);
    for (const sql of [
      'SELECT * FROM orderhook.orders',
      'SELECT * FROM orderhook.api_keys',
      'DELETE FROM orderhook.closings',
      "SELECT orderhook.put_orders('{1}', '{1}', '{CLOSED}', '{x}', '{0}', 0)",
      "SELECT orderhook.make_partition('closings', 0)",
      'SELECT orderhook.rebase_log(true)',
      "SELECT orderhook.drop_partition('closings', 'x', 1)",
      'SELECT orderhook.tell_of_closing(1)',
      'CREATE TABLE orderhook.mine ()',
    ]) {
      await assert.rejects(source.query(sql), { code: '42501' }, sql);
    }
    // What it calls is looked up in no schema of the caller's.
    await server.query('GRANT CREATE ON SCHEMA public TO source', venue.url);
    await source.query(
      "CREATE FUNCTION public.json_typeof(json) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'taken over'; END $$",
    );
    await source.query('SET search_path = public, pg_catalog');
    assert.equal((await source.query(call)).rows[0]?.id, null);
  });

  test('works for a user who may not create roles, without the role', async (t) => {
    const url = await server.database();
    await server.query('CREATE ROLE owner LOGIN; DROP OWNED BY orderhook_outbox', url);
    const [{ name } = {}] = await server.query('SELECT current_database() AS name', url);
    await server.query(`GRANT CREATE ON DATABASE ${name} TO owner`, url);
    const store = await openTestStore(url.replace('//postgres', '//owner'), { schema: 'hook_x' });
    t.after(() => store.close());
    assert.deepEqual(await server.query("SELECT FROM pg_roles WHERE rolname = 'hook_x_outbox'", url), []);
    await store.createInstitution({ code: CODE, name: 'x', timeZone: 'UTC', createdAt: 0 });
    const client = await server.client(url.replace('//postgres', '//owner'));
    const { rows } = await client.query(`SELECT hook_x.close_order('${CODE}', '${orderText(1)}') AS id`);
    assert.ok(rows[0]?.id);
    await client.end();
  });

  for (const notify of ['on', 'off'] as const) {
    test(`takes no transaction with it when the queue of NOTIFY is full, with notify ${notify}`, async (t) => {
      const { venue, client, close, waiting } = await fixture(t);
      const queue = await NotifyQueue.of(server, venue.url);
      t.after(() => queue.close());
      await queue.fill();
      await assert.rejects(client.query("SELECT pg_notify('orderhook', '{}')"), /NOTIFY queue/);
      await client.query(`SET orderhook.notify = '${notify}'`);
      const told = nextChange(venue.store, 'closings');
      await client.query('BEGIN');
      await close(orderText(1));
      await client.query('COMMIT');
      assert.deepEqual(await waiting(), ['1']);
      assert.deepEqual((await told).institutionIds, [venue.id], 'found by looking');
      assert.deepEqual(queue.heard, []);

      await queue.release();
      await eventually('the queue has room again', async () => {
        await close(orderText(1, 'OPEN'));
        await close(orderText(1));
        return notify === 'off' || queue.heard.some((payload) => payload.includes('closings'));
      });
    });
  }

  test('the examples of docs/outbox.md do what the page says', async (t) => {
    const url = await server.database();
    const store = await openTestStore(url);
    t.after(() => store.close());
    const { id } = await store.createInstitution({
      code: 'MYVENUE',
      name: 'x',
      timeZone: 'UTC',
      createdAt: 0,
    });
    await server.query(
      `CREATE ROLE ticketing LOGIN;
       CREATE TABLE sales (order_id bigint PRIMARY KEY, state text, amount bigint);
       INSERT INTO sales VALUES (10000702652, 'OPEN', 40000);
       ALTER TABLE sales OWNER TO ticketing; GRANT CREATE ON SCHEMA public TO ticketing`,
      url,
    );
    const page = readFileSync(new URL('../docs/outbox.md', import.meta.url), 'utf8');
    const examples = [...page.matchAll(/^( *)```sql\n([\s\S]*?)^ *```/gm)].map(([, , sql]) => sql as string);
    assert.equal(examples.length, 4);
    const [grant, plain, trigger, notify] = examples as [string, string, string, string];
    await server.query(grant, url);
    const asTicketing = url.replace('//postgres', '//ticketing');
    await server.query(plain, asTicketing);
    await server.query(trigger, asTicketing);
    await server.query(notify, url);
    for (const orderId of ['10000702652', '10000702653']) {
      assert.equal((await store.closingsOf(id, orderId, 9)).length, 1, orderId);
    }
    assert.equal(JSON.parse((await store.order(id, '10000702653'))?.details ?? '').saleAmount, 25000);
    // Without NOTIFY.
    const before = await store.closingsOf(id, '10000702653', 9);
    await server.query("UPDATE sales SET state = 'OPEN'; UPDATE sales SET state = 'CLOSED'", asTicketing);
    assert.equal((await store.closingsOf(id, '10000702653', 9)).length, before.length + 1);
  });
});
