/** Partitions are there before they are needed and go as a whole; what is read often is found by an index. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ORDER_PASS_EVERY_MS, type Position } from '../src/store/store.ts';
import { orderText } from './store-contract.ts';
import { attempt, LEASE_MS, putClosed, Venue } from './support/postgres-fixture.ts';
import { openTestStore, PostgresServer } from './support/postgres-server.ts';

const MS_PER_DAY = 86_400_000;

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

const partitions = (url: string, parent: string) =>
  server.query(
    `SELECT name, from_at::float8, to_at::float8 FROM orderhook.partitions WHERE parent = '${parent}' ORDER BY from_at`,
    url,
  ) as Promise<{ name: string; from_at: number; to_at: number }[]>;

describe('the schema', () => {
  test('has the institution first in every primary key, but for what the installation has once', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const keys = (await server.query(
      `SELECT c.relname AS name, c.relispartition AS is_partition, (
         SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = c.oid AND i.indisprimary) AS first
       FROM pg_class c WHERE c.relnamespace = 'orderhook'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY name`,
      venue.url,
    )) as { name: string; is_partition: boolean; first: string | null }[];
    const others = keys.filter(({ first }) => first !== 'institution_id').map(({ name }) => name);
    assert.deepEqual(others, ['counters', 'installation', 'migrations', 'nodes', 'partitions', 'upkeep']);
    assert.ok(keys.filter(({ is_partition }) => is_partition).length >= 4, 'partitions are looked at too');
  });
});

describe('partitions', () => {
  test('are made ahead, without gaps, and none is for everything else', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    for (const parent of ['closings', 'attempts']) {
      const all = await partitions(venue.url, parent);
      assert.ok((all[0]?.from_at ?? 0) <= Date.now());
      assert.ok((all.at(-1)?.to_at ?? 0) > Date.now() + 14 * MS_PER_DAY);
      for (const [index, { from_at }] of all.slice(1).entries()) assert.equal(from_at, all[index]?.to_at);
      assert.equal(new Date(all[0]?.from_at ?? 0).getUTCDay(), 1, 'weeks begin on Monday');
    }
    const byDefault = await server.query(
      "SELECT FROM pg_class WHERE relispartition AND pg_get_expr(relpartbound, oid) LIKE '%DEFAULT%'",
      venue.url,
    );
    assert.deepEqual(byDefault, []);
  });

  test('are made ahead by retention as time goes on', async (t) => {
    const clock = { ahead: 0, now: () => Date.now() + clock.ahead };
    const venue = await Venue.open(server, { clock });
    t.after(() => venue.store.close());
    const lastDay = async (parent: string) => (await partitions(venue.url, parent)).at(-1)?.to_at ?? 0;
    clock.ahead = 100 * MS_PER_DAY;
    await venue.store.removeOlderThan(0);
    for (const parent of ['closings', 'attempts']) {
      assert.ok((await lastDay(parent)) > clock.now() + 14 * MS_PER_DAY, parent);
    }
  });

  test('a time that has none gets one, whoever comes with it, and two that come at once get the same', async (t) => {
    const venue = await Venue.open(server);
    const other = await openTestStore(venue.url);
    t.after(() => Promise.all([venue.store.close(), other.close()]));
    const one = await venue.createInterface();
    const far = Date.UTC(2031, 0, 1, 12);
    const put = (store: typeof other, id: number) =>
      store.putOrders(
        [{ institutionId: venue.id, orderId: String(id), orderState: 'CLOSED', details: orderText(id) }],
        far,
      );
    await Promise.all([put(venue.store, 1), put(other, 2), put(venue.store, 3), put(other, 4)]);
    await venue.store.putOrders(
      [{ institutionId: venue.id, orderId: '5', orderState: 'CLOSED', details: orderText(5) }],
      0,
    );
    assert.equal((await venue.waiting(one)).length, 5);
    const template = { method: 'GET', url: one.url, userAgent: 'x' } as const;
    const callTemplateId = await venue.store.callTemplateId(venue.id, one.id, template);
    const fence = (await venue.store.holdLeases('a', LEASE_MS)).held[0]?.fence as number;
    const attempts = [0, far, far + 40 * MS_PER_DAY].map((startedAt) => ({
      ...attempt('1', { startedAt }),
      callTemplateId,
    }));
    assert.deepEqual(await venue.store.commitProgress([venue.progress(one, fence, { attempts })], 'a'), []);
    assert.equal((await venue.store.calls(venue.id, one.id, { limit: 9 }))?.items.length, 3);
  });

  test('another length is kept to from the next partition on', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    await server.query('UPDATE orderhook.installation SET partition_days = 1', venue.url);
    const before = await partitions(venue.url, 'closings');
    const end = before.at(-1)?.to_at as number;
    await server.query(
      `SELECT orderhook.make_partition('closings', at) FROM unnest('{${end + MS_PER_DAY},${end}}'::bigint[]) at`,
      venue.url,
    );
    const added = (await partitions(venue.url, 'closings')).slice(before.length);
    assert.deepEqual(
      added.map(({ from_at, to_at }) => [from_at, to_at]),
      [
        [end, end + MS_PER_DAY],
        [end + MS_PER_DAY, end + 2 * MS_PER_DAY],
      ],
    );
  });

  test('old ones are dropped when every queue has passed them, and not before', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [one, paused] = [await venue.createInterface(), await venue.createInterface()];
    const longAgo = Date.now() - 60 * MS_PER_DAY;
    const put = (id: number, at: number) =>
      venue.store.putOrders(
        [{ institutionId: venue.id, orderId: String(id), orderState: 'CLOSED', details: orderText(id) }],
        at,
      );
    await put(1, longAgo);
    await put(2, Date.now());
    const seen = await venue.waiting(one);
    const { held } = await venue.store.holdLeases('a', LEASE_MS);
    const fenceOf = (id: number) => held.find(({ interfaceId }) => interfaceId === id)?.fence as number;
    const template = { method: 'GET', url: one.url, userAgent: 'x' } as const;
    const callTemplateId = await venue.store.callTemplateId(venue.id, one.id, template);
    const cursor = seen[1]?.position as Position;
    const attempts = [longAgo, Date.now()].map((startedAt) => ({
      ...attempt('1', { startedAt }),
      callTemplateId,
    }));
    await venue.store.commitProgress([venue.progress(one, fenceOf(one.id), { cursor, attempts })], 'a');
    const removeOld = async () => {
      while ((await venue.store.removeOlderThan(Date.now() - 30 * MS_PER_DAY)) > 0);
    };
    const oldest = async (parent: string) => (await partitions(venue.url, parent))[0]?.from_at as number;
    await removeOld();
    assert.ok((await oldest('attempts')) > longAgo, 'the call log is dropped');
    assert.equal((await venue.store.calls(venue.id, one.id, { limit: 9 }))?.items.length, 1);
    assert.ok((await oldest('closings')) < longAgo, 'a queue has not passed it');
    assert.equal((await venue.waiting(paused)).length, 2);

    const owed = [{ closingId: seen[0]?.closingId as number, orderId: '1', attempts: 1, dueAt: 0 }];
    await venue.store.commitProgress([venue.progress(paused, fenceOf(paused.id), { cursor, owed })], 'a');
    await removeOld();
    assert.ok((await oldest('closings')) < longAgo, 'a closing in it is owed');
    const settled = owed.map(({ closingId }) => closingId);
    await venue.store.commitProgress([venue.progress(paused, fenceOf(paused.id), { settled })], 'a');

    // Somebody who uses the table is waited for only so long.
    const reader = await server.client(venue.url);
    await reader.query('BEGIN; LOCK TABLE orderhook.closings IN ACCESS SHARE MODE');
    await removeOld();
    assert.ok((await oldest('closings')) < longAgo);
    await reader.query('ROLLBACK');
    await reader.end();
    await removeOld();
    assert.ok((await oldest('closings')) > longAgo);
    assert.deepEqual(await venue.store.closingsOf(venue.id, '1', 9), []);
    assert.equal((await venue.store.closingsOf(venue.id, '2', 9)).length, 1);
  });
});

describe('with many orders', () => {
  test('nothing that is done often looks through a whole table, whether or not statistics are there', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    /** Looks through whole tables so far. A session tells of its own when it ends. */
    const scans = async () => {
      await server.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
        venue.url,
      );
      return server.query(
        `SELECT relname, seq_scan::int FROM pg_stat_user_tables
         WHERE schemaname = 'orderhook' AND relname ~ '^(orders|closings_|attempts_|owed)' ORDER BY relname`,
        venue.url,
      );
    };
    const built = await scans(); // building an index is such a look
    const one = await venue.createInterface();
    for (let n = 0; n < 20; n += 1) {
      const ids = Array.from({ length: 500 }, (_, index) => n * 500 + index + 1);
      await putClosed(venue.store, venue.id, ids);
    }
    const { store } = venue;
    const fence = (await store.holdLeases('a', LEASE_MS)).held[0]?.fence as number;
    const template = { method: 'GET', url: one.url, userAgent: 'x' } as const;
    const callTemplateId = await store.callTemplateId(venue.id, one.id, template);
    const commit = async (more: Parameters<Venue['progress']>[2]) =>
      assert.deepEqual(await store.commitProgress([venue.progress(one, fence, more)], 'a'), []);
    const seen = await venue.waiting(one);
    for (let at = 0; at < 5_000; at += 500) {
      const batch = seen.slice(at, at + 500);
      await commit({
        cursor: batch.at(-1)?.position as Position,
        owed: batch.map(({ closingId, orderId }) => ({ closingId, orderId, attempts: 1, dueAt: at })),
        attempts: batch.map(({ closingId, orderId }) => ({
          ...attempt(orderId, { closingId, outcome: 'FAILED' }),
          callTemplateId,
        })),
      });
    }
    let passes = 0;
    async function doEverything(): Promise<void> {
      const cursor = await venue.cursorOf(one);
      for (const withDetails of [true, false]) {
        assert.equal((await store.waiting(venue.id, cursor, { limit: 60, withDetails })).length, 60);
        assert.equal((await store.owed(venue.id, one.id, { dueBy: 900, limit: 60, withDetails })).length, 60);
      }
      await venue.put(1, 2, 3);
      await store.closeOrder(venue.id, '4', Date.now());
      await store.order(venue.id, '4');
      await store.orders(venue.id, { limit: 50 });
      await store.orders(venue.id, { limit: 50, state: 'CLOSED' });
      await store.deliveriesOf(venue.id, await store.closingsOf(venue.id, '7', 9));
      for (const query of [{}, { outcome: 'FAILED' }, { orderId: '7' }] as const) {
        assert.ok(((await store.calls(venue.id, one.id, { limit: 50, ...query }))?.items.length ?? 0) > 0);
      }
      assert.equal(await store.removeOrder(venue.id, '9', Date.now()), true);
      passes += 1;
      await store.removeOrdersOlderThan(passes * ORDER_PASS_EVERY_MS, Date.now());
      await store.engineInterfaces();
      await store.queueFigures(venue.id, one.id);
      const settled = (await store.owed(venue.id, one.id, { limit: 3, withDetails: false })).map(
        ({ closingId }) => closingId,
      );
      await commit({ settled, abandoned: [{ closingId: 1, orderId: '1', attempts: 12 }], resent: [5] });
    }
    await doEverything();
    assert.deepEqual(await scans(), built);
    await server.query('ANALYZE', venue.url);
    for (let n = 0; n < 3; n += 1) await doEverything();
    assert.deepEqual(await scans(), built);
  });

  test('the count of what waits is exact while it is small and close when it is large', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const one = await venue.createInterface();
    const other = await venue.store.createInstitution({
      code: 'B',
      name: 'B',
      timeZone: 'UTC',
      createdAt: 0,
    });
    const both = Array.from({ length: 500 }, (_, index) => (index % 5 < 3 ? venue.id : other.id));
    for (let n = 0; n < 60; n += 1) {
      const puts = both.map((institutionId, index) => {
        const orderId = String(n * 500 + index + 1);
        return { institutionId, orderId, orderState: 'CLOSED', details: orderText(orderId) };
      });
      await venue.store.putOrders(puts, Date.now());
      if (n === 9) assert.equal((await venue.store.queueFigures(venue.id, one.id))?.waiting, 3_000);
    }
    const { waiting } = await venue.store.queueTotals();
    assert.ok(Math.abs(waiting - 18_000) < 200, `${waiting}`);
    assert.equal((await venue.store.queueFigures(venue.id, one.id))?.waiting, 18_000);
    for (let n = 0; n < 20; n += 1) {
      await putClosed(
        venue.store,
        venue.id,
        Array.from({ length: 300 }, (_, index) => 50_000 + n * 300 + index),
      );
      await putClosed(
        venue.store,
        other.id,
        Array.from({ length: 200 }, (_, index) => 60_000 + n * 200 + index),
      );
    }
    const figures = await venue.store.queueFigures(venue.id, one.id);
    assert.ok(Math.abs((figures?.waiting ?? 0) - 24_000) < 500, `${figures?.waiting}`);
  });
});
