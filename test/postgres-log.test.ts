/** Reading the log never skips a closing and never reads one twice, whatever the transactions do that write it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import type { Position } from '../src/store/store.ts';
import { orderText } from './store-contract.ts';
import { CODE, eventually, nextChange, putClosed, Venue } from './support/postgres-fixture.ts';
import { installedBin, openTestStore, PostgresServer } from './support/postgres-server.ts';

const run = promisify(execFile);
const close = `SELECT orderhook.close_order('${CODE}', $1::text)`;

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

describe('the log of the PostgreSQL store', () => {
  test('closings that commit late, out of order, in long transactions and at a high rate are each read once', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const one = await venue.createInterface();
    const committed = new Set<string>();
    let nextOrder = 1;
    let writing = true;

    async function writer(seed: number): Promise<void> {
      const client = await server.client(venue.url);
      for (let n = 0; n < 60; n += 1) {
        const ids: string[] = [];
        await client.query('BEGIN');
        for (let orders = 0; orders <= (n + seed) % 3; orders += 1) {
          const id = String(nextOrder);
          nextOrder += 1;
          await client.query(close, [orderText(id)]);
          ids.push(id);
        }
        if ((n * 7 + seed) % 4 === 0) await client.query(`SELECT pg_sleep(${((n + seed) % 5) / 200})`);
        if ((n * 3 + seed) % 6 === 0) {
          await client.query('ROLLBACK');
        } else {
          await client.query('COMMIT');
          for (const id of ids) committed.add(id);
        }
      }
      await client.end();
    }
    async function longWriter(): Promise<void> {
      const client = await server.client(venue.url);
      for (let n = 0; n < 3; n += 1) {
        const id = String(900_000 + n);
        await client.query('BEGIN');
        await client.query(close, [orderText(id)]);
        await client.query('SELECT pg_sleep(0.4)');
        await client.query('COMMIT');
        committed.add(id);
      }
      await client.end();
    }
    async function batches(): Promise<void> {
      for (let n = 0; n < 40; n += 1) {
        const ids = Array.from({ length: 25 }, (_, index) => 500_000 + n * 25 + index);
        await putClosed(venue.store, venue.id, ids);
        for (const id of ids) committed.add(String(id));
      }
    }
    async function read(limit: number): Promise<string[]> {
      const seen: string[] = [];
      let after: Position = await venue.cursorOf(one);
      for (;;) {
        const wasWriting = writing;
        const closings = await venue.store.waiting(venue.id, after, { limit, withDetails: false });
        seen.push(...closings.map(({ orderId }) => orderId));
        after = closings.at(-1)?.position ?? after;
        if (!wasWriting && closings.length === 0) return seen;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }

    const readers = [read(7), read(500)];
    await Promise.all([...[0, 1, 2, 3, 4, 5].map(writer), longWriter(), batches()]);
    writing = false;
    for (const seen of await Promise.all(readers)) {
      assert.equal(new Set(seen).size, seen.length, 'none is read twice');
      assert.deepEqual(new Set(seen), committed);
    }
  });

  test('an interface begins with what is committed after its creation, also of transactions that ran then', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [early, running] = [await server.client(venue.url), await server.client(venue.url)];
    await running.query('BEGIN');
    await running.query(close, [orderText(1)]);
    // A later transaction id, committed before the interface is there.
    await early.query(close, [orderText(2)]);
    const one = await venue.createInterface();
    assert.deepEqual(await venue.waiting(one), []);
    assert.equal((await venue.store.queueFigures(venue.id, one.id))?.waiting, 0);
    await venue.put(3);
    assert.deepEqual(
      await venue.waiting(one),
      [],
      'nothing is read before the running transaction has ended',
    );
    assert.equal((await venue.store.queueFigures(venue.id, one.id))?.waiting, 1);
    await running.query('COMMIT');
    const seen = await venue.waiting(one);
    assert.deepEqual(
      seen.map(({ orderId }) => orderId),
      ['1', '3'],
    );
    const rest = await venue.store.waiting(venue.id, seen[0]?.position as Position, {
      limit: 9,
      withDetails: true,
    });
    assert.deepEqual(
      rest.map(({ orderId, details }) => [orderId, details]),
      [['3', orderText(3)]],
    );
    const states: unknown[] = [];
    for (const id of ['1', '2', '3']) {
      const closings = await venue.store.closingsOf(venue.id, id, 1);
      states.push((await venue.store.deliveriesOf(venue.id, closings)).map(({ state }) => state));
    }
    assert.deepEqual(states, [['WAITING'], [], ['WAITING']]);
    await Promise.all([early.end(), running.end()]);
  });

  test('a closing behind a running transaction is told of again when it can be read', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const one = await venue.createInterface();
    const running = await server.client(venue.url);
    await running.query('BEGIN');
    await running.query('SELECT pg_current_xact_id()');
    await venue.put(1);
    const read: string[] = [];
    let isToldOf = false;
    venue.store.subscribe(async ({ kind }) => {
      if (kind !== 'closings') return;
      isToldOf = true;
      for (const { orderId } of await venue.waiting(one)) read.push(orderId);
    });
    assert.deepEqual(await venue.waiting(one), []);
    assert.ok((await venue.store.horizonLagMs()) >= 0);
    await eventually('it is told of while it cannot be read', () => isToldOf);
    const lagMs = await eventually(
      'the lag shows',
      async () => (await venue.store.horizonLagMs()) || undefined,
    );
    assert.ok(Number(lagMs) > 0);
    await running.query('COMMIT');
    await running.end();
    await eventually('it is read', () => read.includes('1'));
    assert.equal(await venue.store.horizonLagMs(), 0);
  });

  test('also when another thread reads than the one that is told', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const one = await venue.createInterface();
    const reader = await openTestStore(venue.url, { readsForAnother: true });
    t.after(() => reader.close());
    const running = await server.client(venue.url);
    await running.query('BEGIN');
    await running.query('SELECT pg_current_xact_id()');
    await venue.put(1);
    let timesTold = 0;
    venue.store.subscribe(({ kind }) => {
      if (kind === 'closings') timesTold += 1;
    });
    // Once by looking, for what is new there; not again.
    await eventually('it is told of by looking', () => timesTold > 0);
    await new Promise((passed) => setTimeout(passed, 100));
    const toldBefore = timesTold;
    assert.deepEqual(await venue.waiting(one, reader), []);
    await eventually('it is told of because somebody read', () => timesTold > toldBefore);
    await running.query('COMMIT');
    await running.end();
    assert.equal((await venue.waiting(one, reader)).length, 1);
  });

  test('two nodes that close one order at once record one closing', async (t) => {
    const venue = await Venue.open(server);
    const other = await openTestStore(venue.url);
    t.after(() => Promise.all([venue.store.close(), other.close()]));
    const one = await venue.createInterface();
    const put = (store: typeof other, id: number, state: string) =>
      store.putOrders(
        [{ institutionId: venue.id, orderId: String(id), orderState: state, details: orderText(id, state) }],
        Date.now(),
      );
    for (let id = 1; id <= 40; id += 1) {
      if (id % 2) await put(other, id, 'OPEN');
      const close = (store: typeof other) =>
        id % 4 === 1 ? store.closeOrder(venue.id, String(id), Date.now()) : put(store, id, 'CLOSED');
      await Promise.all([close(venue.store), close(other), close(venue.store), close(other)]);
      assert.equal((await venue.store.closingsOf(venue.id, String(id), 9)).length, 1);
    }
    assert.equal((await venue.waiting(one)).length, 40);
  });

  test('batches with the same orders in any order never wait for each other in a circle', async (t) => {
    const venue = await Venue.open(server);
    const other = await openTestStore(venue.url);
    t.after(() => Promise.all([venue.store.close(), other.close()]));
    const ids = Array.from({ length: 100 }, (_, index) => index + 1);
    const started = performance.now();
    await Promise.all(
      Array.from({ length: 12 }, (_, n) =>
        putClosed(n % 2 ? venue.store : other, venue.id, n % 3 ? ids : ids.toReversed()),
      ),
    );
    const [deadlocks] = await server.query(
      'SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()',
      venue.url,
    );
    assert.equal(deadlocks?.deadlocks, 0);
    assert.ok(performance.now() - started < 10_000);
  });

  test('a batch in which an order comes several times makes the closings it would make one by one', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const one = await venue.createInterface();
    const states = [
      [1, 'OPEN'],
      [1, 'CLOSED'],
      [2, 'CLOSED'],
      [1, 'CLOSED'],
      [1, 'OPEN'],
      [1, 'CLOSED'],
      [3, 'OPEN'],
    ] as const;
    const stored = await venue.store.putOrders(
      states.map(([id, state]) => ({
        institutionId: venue.id,
        orderId: String(id),
        orderState: state,
        details: orderText(id, state),
      })),
      Date.now(),
    );
    assert.deepEqual(
      stored.map(({ closing }) => closing !== undefined),
      [false, true, true, false, false, true, false],
    );
    assert.deepEqual(
      (await venue.waiting(one)).map(({ orderId }) => orderId),
      ['1', '2', '1'],
    );
    assert.equal((await venue.store.order(venue.id, '1'))?.orderState, 'CLOSED');
  });

  test('a nudge of another node, or of the outbox, wakes', async (t) => {
    const venue = await Venue.open(server);
    // By another URL, or they would take each other for threads of one node.
    const other = await openTestStore(`${venue.url}?application_name=other`);
    const pooled = await openTestStore(`${venue.url}?application_name=pooled`, { listen: false });
    t.after(() => Promise.all([venue.store.close(), other.close(), pooled.close()]));
    await venue.createInterface();
    for (const store of [other, pooled]) {
      await eventually('hears of closings', async () => {
        const heard = nextChange(store, 'closings');
        await venue.put(Date.now());
        return Promise.race([heard, new Promise<false>((resolve) => setTimeout(resolve, 400, false))]);
      });
    }
    const configured = nextChange(other, 'configuration');
    await venue.createInterface();
    assert.deepEqual(await configured, { kind: 'configuration', institutionId: venue.id });
    const one = await venue.createInterface();
    const { held } = await venue.store.holdLeases('node', 60_000);
    const fence = held.find(({ interfaceId }) => interfaceId === one.id)?.fence as number;
    const ended = nextChange(other, 'executions_ended');
    const executions = (['AUTOMATIC', 'MANUAL'] as const).map((trigger, index) => ({
      ...{ id: 50 + index, institutionId: venue.id, interfaceId: one.id, trigger, startedAt: 0, endedAt: 1 },
      ...({
        status: 'OK',
        looked: 0,
        filteredOut: 0,
        called: 0,
        delivered: 0,
        failed: 0,
        abandoned: 0,
      } as const),
    }));
    await venue.store.commitProgress([venue.progress(one, fence, { executions })], 'node');
    assert.deepEqual(await ended, { kind: 'executions_ended', executionIds: [51] });
    const closed = nextChange(other, 'closings');
    await server.query(`SELECT orderhook.close_order('${CODE}', '${orderText(77)}')`, venue.url);
    assert.deepEqual(await closed, { kind: 'closings', institutionIds: [venue.id] });
  });
});

describe('a dump restored into another cluster', () => {
  async function filled(on: PostgresServer) {
    const venue = await Venue.open(on);
    const [half, none] = [await venue.createInterface(), await venue.createInterface()];
    await venue.put(1, 2);
    await venue.put(3);
    const { held } = await venue.store.holdLeases('node', 60_000);
    const fence = held.find(({ interfaceId }) => interfaceId === half.id)?.fence as number;
    const seen = await venue.waiting(half);
    await venue.store.commitProgress(
      [venue.progress(half, fence, { cursor: seen[1]?.position as Position })],
      'node',
    );
    await venue.store.close();
    return { venue, half, none };
  }

  async function orders(url: string, { venue, half, none }: Awaited<ReturnType<typeof filled>>) {
    const store = await openTestStore(url);
    try {
      const read = async (one: typeof half) =>
        (await venue.waiting(one, store)).map(({ orderId }) => orderId).join(' ');
      const before = [await read(half), await read(none)];
      await putClosed(store, venue.id, [5]);
      return [...before, await read(half), await read(none)];
    } finally {
      await store.close();
    }
  }

  test('whose transaction ids are lower, nothing is lost and nothing is read again', async () => {
    const before = await filled(server);
    // As if it came from a cluster a billion transactions older.
    await server.query(
      `UPDATE orderhook.closings SET xid = xid + 1000000000;
       UPDATE orderhook.queues SET cursor_xid = cursor_xid + 1000000000, first_xmin = first_xmin + 1000000000,
         first_xmax = first_xmax + 1000000000;
       UPDATE orderhook.installation SET cluster = 'another'`,
      before.venue.url,
    );
    // The outbox is first to write there, before any node has started.
    await server.query(`SELECT orderhook.close_order('${CODE}', '${orderText(4)}')`, before.venue.url);
    assert.deepEqual(await orders(before.venue.url, before), ['3 4', '1 2 3 4', '3 4 5', '1 2 3 4 5']);
  });

  test('also when the cluster calls itself the same', async () => {
    const before = await filled(server);
    await server.query(
      `UPDATE orderhook.closings SET xid = xid + 1000000000;
       UPDATE orderhook.queues SET cursor_xid = cursor_xid + 1000000000, first_xmin = first_xmin + 1000000000,
         first_xmax = first_xmax + 1000000000`,
      before.venue.url,
    );
    assert.deepEqual(await orders(before.venue.url, before), ['3', '1 2 3', '3 5', '1 2 3 5']);
  });

  const bin = installedBin();
  test('with pg_dump and pg_restore', {
    skip: bin ? false : 'no PostgreSQL with pg_dump is installed',
  }, async (t) => {
    const [from, to] = await Promise.all([
      PostgresServer.start({ bin: bin as string }),
      PostgresServer.start({ bin: bin as string }),
    ]);
    t.after(() => Promise.all([from.remove(), to.remove()]));
    // The first cluster is ahead of the second by far.
    const burn = await from.client();
    for (let n = 0; n < 3_000; n += 1) await burn.query('SELECT pg_current_xact_id()');
    await burn.end();
    const before = await filled(from);
    const file = `${from.folder}/dump`;
    await run(`${bin}/pg_dump`, ['-Fc', '-f', file, before.venue.url]);
    const url = await to.database();
    await to.query('CREATE ROLE orderhook_outbox', url);
    await run(`${bin}/pg_restore`, ['--exit-on-error', '-d', url, file]);
    await to.query(`SELECT orderhook.close_order('${CODE}', '${orderText(4)}')`, url);
    assert.deepEqual(await orders(url, before), ['3 4', '1 2 3 4', '3 4 5', '1 2 3 4 5']);
  });
});
