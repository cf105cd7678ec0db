/** The server goes away and comes back: the store says so in time, and goes on by itself. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { StartError } from '../src/model/app-error.ts';
import { eventually, isUnavailable, nextChange, putClosed, Venue } from './support/postgres-fixture.ts';
import { installedBin, openTestStore, PostgresServer, startStandby } from './support/postgres-server.ts';

const TIMEOUT_MS = 2_000;

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

/** Puts orders one after the other until told to stop; the ids of those that were acknowledged. */
function keepPutting(venue: Venue): { stop(): Promise<{ acknowledged: string[]; refused: number }> } {
  let isOver = false;
  const acknowledged: string[] = [];
  let refused = 0;
  const done = (async () => {
    for (let id = 1; !isOver; id += 1) {
      try {
        await venue.put(id);
        acknowledged.push(String(id));
      } catch (error) {
        isUnavailable(error);
        refused += 1;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  })();
  return {
    async stop() {
      isOver = true;
      await done;
      return { acknowledged, refused };
    },
  };
}

describe('a PostgreSQL server in trouble', () => {
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    test(`stopped with ${signal} and started again under load: nothing acknowledged is lost`, async (t) => {
      const venue = await Venue.open(server);
      t.after(() => venue.store.close());
      const one = await venue.createInterface();
      const load = keepPutting(venue);
      await eventually('some are stored', async () => (await venue.waiting(one)).length > 20);
      await server.stop(signal);
      await assert.rejects(venue.store.check(), isUnavailable);
      await server.start();
      const before = await eventually('it goes on', async () => (await venue.waiting(one)).length);
      await eventually('more are stored', async () => (await venue.waiting(one)).length > before + 20);
      const { acknowledged, refused } = await load.stop();
      assert.ok(refused > 0);
      const stored = new Set((await venue.waiting(one)).map(({ orderId }) => orderId));
      assert.deepEqual(
        acknowledged.filter((id) => !stored.has(id)),
        [],
      );
      const heard = nextChange(venue.store, 'closings');
      const other = await openTestStore(venue.url);
      await eventually('it hears other nodes again', async () => {
        await putClosed(other, venue.id, [Date.now()]);
        return Promise.race([heard, new Promise<false>((resolve) => setTimeout(resolve, 100, false))]);
      });
      await other.close();
    });
  }

  test('connections that are cut are made again', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const one = await venue.createInterface();
    const load = keepPutting(venue);
    for (let cut = 0; cut < 5; cut += 1) {
      const before = (await eventually('it goes on', () => venue.waiting(one))).length;
      await server.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()`,
        venue.url,
      );
      await eventually('more are stored', async () => (await venue.waiting(one)).length > before);
    }
    const { acknowledged } = await load.stop();
    const stored = new Set((await venue.waiting(one)).map(({ orderId }) => orderId));
    assert.deepEqual(
      acknowledged.filter((id) => !stored.has(id)),
      [],
    );
  });

  test('a frozen server is told from a slow one in the time that was set, and found again when it thaws', async (t) => {
    const venue = await Venue.open(server, { timeoutMs: TIMEOUT_MS });
    t.after(() => venue.store.close());
    await venue.put(1);
    server.freeze();
    t.after(() => server.thaw());
    const started = performance.now();
    await assert.rejects(venue.put(2), isUnavailable);
    await assert.rejects(venue.store.check(), isUnavailable);
    assert.ok(performance.now() - started < 5 * TIMEOUT_MS);
    server.thaw();
    await eventually('it goes on', async () => {
      await venue.put(2);
      return true;
    });
    const other = await openTestStore(venue.url, { timeoutMs: TIMEOUT_MS });
    server.freeze();
    const closing = performance.now();
    await other.close();
    assert.ok(performance.now() - closing < 2 * TIMEOUT_MS, 'it can be closed while it is frozen');
    server.thaw();
    assert.equal((await venue.store.closingsOf(venue.id, '2', 9)).length, 1);
  });

  test('a statement that waits too long for a lock is given up, and its connection is used again', async (t) => {
    const venue = await Venue.open(server, { timeoutMs: TIMEOUT_MS, poolSize: 1 });
    t.after(() => venue.store.close());
    const sessions = () =>
      server.query(
        `SELECT pid FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'orderhook' ORDER BY pid`,
        venue.url,
      );
    await venue.put(1);
    const before = await eventually('one for statements, one for LISTEN', async () => {
      const all = await sessions();
      return all.length === 2 && all;
    });
    const holder = await server.client(venue.url);
    await holder.query('BEGIN; LOCK TABLE orderhook.orders IN EXCLUSIVE MODE');
    await assert.rejects(venue.put(1), (error: Error) => {
      isUnavailable(error);
      assert.match(String((error.cause as Error).message), /statement timeout/);
      return true;
    });
    await holder.query('ROLLBACK');
    await holder.end();
    await venue.put(1);
    assert.deepEqual(await sessions(), before);
  });

  test('too many connections, a full disk and a standby are troubles that pass', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    for (const code of ['53300', '53100', '25006', '57P03', '08006']) {
      await server.query(
        `CREATE OR REPLACE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE 'as if' USING ERRCODE = '${code}'; END $$;
         DROP TRIGGER IF EXISTS trouble ON orderhook.orders;
         CREATE TRIGGER trouble BEFORE INSERT ON orderhook.orders EXECUTE FUNCTION trouble()`,
        venue.url,
      );
      await assert.rejects(venue.put(1), isUnavailable, code);
    }
    await server.query('DROP TRIGGER trouble ON orderhook.orders', venue.url);
    await venue.put(1);
  });

  test('a server that refuses connections makes a start fail for now, not for good', async () => {
    const opened = openTestStore('postgres://postgres@127.0.0.1:1/x');
    await assert.rejects(opened, (error) => error instanceof StartError && error.mayPass);
  });
});

describe('failover', () => {
  const bin = installedBin();
  const skip = bin ? false : 'no PostgreSQL with pg_basebackup is installed';
  test('to a synchronous standby: all that was acknowledged is there, and the store follows', {
    skip,
  }, async (t) => {
    const primary = await PostgresServer.start({
      bin: bin as string,
      settings: ['wal_level=replica', 'synchronous_standby_names=*', 'synchronous_commit=local'],
    });
    t.after(() => primary.remove());
    await primary.query("ALTER ROLE postgres SET synchronous_commit = 'on'");
    const standby = await startStandby(primary);
    t.after(() => standby.remove());

    const single = await Venue.open(primary);
    await single.store.close();
    const database = single.url.split('/').at(-1);
    const hosts = `127.0.0.1:${standby.port},127.0.0.1:${primary.port}`;
    const url = `postgres://postgres@${hosts}/${database}?target_session_attrs=read-write`;
    const store = await openTestStore(url, { timeoutMs: TIMEOUT_MS });
    t.after(() => store.close());
    const venue = Object.assign(Object.create(Venue.prototype), { url, store, id: single.id }) as Venue;
    const one = await venue.createInterface();
    const load = keepPutting(venue);
    await eventually('some are stored', async () => (await venue.waiting(one)).length > 50);
    await primary.stop('SIGQUIT');
    await standby.query('SELECT pg_promote()');
    const before = await eventually('it goes on', async () => (await venue.waiting(one)).length);
    await eventually('more are stored', async () => (await venue.waiting(one)).length > before + 20);
    const { acknowledged } = await load.stop();
    const stored = new Set((await venue.waiting(one)).map(({ orderId }) => orderId));
    assert.ok(acknowledged.length > 50);
    assert.deepEqual(
      acknowledged.filter((id) => !stored.has(id)),
      [],
    );
  });

  test('a server that has become read-only is left for another', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [{ name } = {}] = await server.query('SELECT current_database() AS name', venue.url);
    await server.query(`ALTER DATABASE ${name} SET default_transaction_read_only = on`);
    await server.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
      venue.url,
    );
    await assert.rejects(venue.put(1), isUnavailable);
    await server.query(`ALTER DATABASE ${name} RESET default_transaction_read_only`);
    await venue.put(1);
  });
});
