/** What happens between a node and its database server is told to the log, whether or not a call was rejected for it. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { databaseEventLog } from '../src/database-log.ts';
import type { Log } from '../src/observe/log.ts';
import type { DatabaseEvent } from '../src/store/postgres/events.ts';
import { eventually, Venue } from './support/postgres-fixture.ts';
import { NotifyQueue } from './support/postgres-notify-queue.ts';
import { openTestStore, PostgresServer } from './support/postgres-server.ts';

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start({ settings: NotifyQueue.SERVER_SETTINGS });
});
after(() => server.remove());

async function fixture(t: { after(action: () => unknown): void }) {
  const events: DatabaseEvent[] = [];
  const venue = await Venue.open(server, { onEvent: (event) => events.push(event) });
  t.after(() => venue.store.close());
  const kinds = () => new Set(events.map(({ kind }) => kind));
  const told = (kind: DatabaseEvent['kind']) =>
    eventually(kind, () => events.find((one) => one.kind === kind)) as Promise<DatabaseEvent>;
  return { venue, events, kinds, told };
}

describe('a database server is heard of in the log', () => {
  test('not at all while all is well, nor when the store is closed', async (t) => {
    const { venue, events } = await fixture(t);
    await venue.put(1, 2);
    await venue.createInterface();
    const other: DatabaseEvent[] = [];
    await (await openTestStore(venue.url, { onEvent: (event) => other.push(event) })).close();
    assert.deepEqual([...events, ...other], []);
  });

  test('when connections break, with the cause, and when other nodes are heard again', async (t) => {
    const { venue, events, told } = await fixture(t);
    await venue.put(1);
    await server.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
      venue.url,
    );
    const lost = await told('listen_lost');
    assert.match(String(lost.cause), /terminat/i);
    await told('connection_lost');
    await told('listen_restored');
    assert.ok(events.every(({ server: name }) => name === undefined || /^[\d.]+:\d+$/.test(name)));
  });

  test('when a statement is repeated', async (t) => {
    const { venue, told } = await fixture(t);
    await server.query(
      `CREATE SEQUENCE tries;
       CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN IF nextval('tries') = 1 THEN RAISE 'as if' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$;
       CREATE TRIGGER trouble BEFORE INSERT ON orderhook.orders FOR EACH ROW EXECUTE FUNCTION trouble()`,
      venue.url,
    );
    await venue.put(1);
    assert.match(String((await told('statement_repeated')).cause), /as if/);
  });

  test('when a server of several is left, without user and password', async (t) => {
    const { venue } = await fixture(t);
    const events: DatabaseEvent[] = [];
    const port = new URL(venue.url).port;
    const url = venue.url.replace(/\/\/[^/]+\//, `//postgres:hidden@127.0.0.1:1,127.0.0.1:${port}/`);
    const store = await openTestStore(url, { onEvent: (event) => events.push(event) });
    t.after(() => store.close());
    const left = events.find(({ kind }) => kind === 'server_left');
    assert.equal(left?.server, '127.0.0.1:1');
    assert.match(String(left?.cause), /ECONNREFUSED/);
    assert.doesNotMatch(JSON.stringify(events), /hidden/);
  });

  test('when other nodes cannot be told, and they are told later', async (t) => {
    const { venue, events, told } = await fixture(t);
    const queue = await NotifyQueue.of(server, venue.url);
    t.after(() => queue.close());
    await queue.fill();
    events.length = 0;
    await venue.createInterface();
    assert.match(String((await told('notify_failed')).cause), /NOTIFY queue/);
    assert.deepEqual(queue.heard, []);
    await queue.release();
    await eventually('it is told', () => queue.heard.some((payload) => payload.includes('configuration')));
  });
});

describe('lines about the database server', () => {
  test('are few, and each says how many there would have been', () => {
    const lines: { level: string; fields: Record<string, unknown>; text: string }[] = [];
    const write = (level: string) => (fields: Record<string, unknown>, text: string) =>
      void lines.push({ level, fields, text });
    const log = { info: write('info'), warn: write('warn') } as unknown as Log;
    let now = 0;
    const told = databaseEventLog(log, () => now);
    const cause = new Error('gone');
    for (let times = 0; times < 1_000; times += 1) told({ kind: 'listen_lost', cause });
    told({ kind: 'listen_restored' });
    now = 9_999;
    told({ kind: 'listen_lost', cause });
    assert.equal(lines.length, 2);
    assert.deepEqual(lines[0], {
      level: 'warn',
      fields: { event: 'database.listen_lost', err: cause },
      text: 'other nodes are not heard at the moment; closings are found by looking',
    });
    assert.equal(lines[1]?.level, 'info');
    now = 10_000;
    told({ kind: 'listen_lost', server: 'a:5432' });
    assert.deepEqual(lines[2]?.fields, {
      event: 'database.listen_lost',
      server: 'a:5432',
      skippedLines: 1_000,
    });
  });
});
