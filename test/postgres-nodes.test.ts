/** Several nodes on one database: starting at once, sharing the interfaces, and what a node may do that was asleep. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { StartError } from '../src/model/app-error.ts';
import type { ExternalInterface } from '../src/model/entities.ts';
import type { Position, Store } from '../src/store/store.ts';
import { orderText } from './store-contract.ts';
import { attempt, eventually, LEASE_MS, Venue } from './support/postgres-fixture.ts';
import { openTestStore, PostgresServer } from './support/postgres-server.ts';

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

describe('starting', () => {
  test('nodes that start at once on an empty database all come up, and apply each migration once', async () => {
    const url = await server.database();
    const stores = await Promise.all(Array.from({ length: 6 }, () => openTestStore(url, { poolSize: 2 })));
    const rows = await server.query('SELECT version FROM orderhook.migrations ORDER BY version', url);
    assert.deepEqual(
      rows.map(({ version }) => version),
      rows.map((_row, index) => index + 1),
    );
    await Promise.all(stores.map((store) => store.close()));
  });

  test('a schema of a newer version is refused, saying which version it has', async () => {
    const url = await server.database();
    await (await openTestStore(url)).close();
    await server.query("INSERT INTO orderhook.migrations VALUES (99, '0099-future.sql')", url);
    await assert.rejects(
      openTestStore(url),
      (error) =>
        error instanceof StartError &&
        /schema version 99; this Orderhook knows versions up to \d+/.test(error.message),
    );
  });

  test('a user who may not create the schema, a wrong password or database, and a wrong URL are told to a person', async () => {
    const url = await server.database();
    await server.query('CREATE ROLE nobody LOGIN; REVOKE CREATE ON DATABASE postgres FROM PUBLIC', url);
    const wrong: [url: string, message: RegExp][] = [
      [url.replace('//postgres', '//nobody'), /may not create the schema orderhook/],
      [url.replace('//postgres', '//unknown'), /cannot be used\. Tried .*unknown/],
      [`${url}x`, /cannot be used\. Tried .*does not exist/],
      ['mysql://host/db', /must look like postgres:/],
      [`${url}?target_session_attrs=standby`, /must have target_session_attrs=read-write or primary/],
    ];
    for (const [each, message] of wrong) {
      await assert.rejects(
        openTestStore(each),
        (error) => error instanceof StartError && message.test(error.message),
        each,
      );
    }
  });

  test('a database that loses what it acknowledged is refused where it cannot be changed for the session', async () => {
    const url = await server.database();
    await server.query(
      'CREATE ROLE careless SUPERUSER LOGIN; ALTER ROLE careless SET synchronous_commit = off',
      url,
    );
    const careless = url.replace('//postgres', '//careless');
    await assert.rejects(openTestStore(careless, { listen: false }), (error) => error instanceof StartError);
    await (await openTestStore(careless)).close();
  });

  test('several schemas in one database keep apart', async () => {
    const url = await server.database();
    const [one, other] = await Promise.all([
      openTestStore(url, { schema: 'one' }),
      openTestStore(url, { schema: 'other' }),
    ]);
    const given = { code: 'A', name: 'A', timeZone: 'UTC', createdAt: 0 };
    await one.createInstitution(given);
    assert.equal(await other.institutionByCode('A'), undefined);
    await other.createInstitution(given);
    await Promise.all([one.close(), other.close()]);
  });
});

describe('leases', () => {
  /** What each node holds after all have had enough turns to give back and take. */
  async function settle(store: Store, nodes: readonly string[]): Promise<number[][]> {
    const all: number[][] = [];
    for (let turn = 0; turn < 6; turn += 1) {
      for (const [index, node] of nodes.entries()) {
        const { held, excess } = await store.holdLeases(node, LEASE_MS);
        if (excess.length > 0) await store.releaseLeases(node, excess);
        all[index] = held.map(({ interfaceId }) => interfaceId).filter((id) => !excess.includes(id));
      }
    }
    const ids = all.flat();
    assert.equal(new Set(ids).size, ids.length, 'none is held by two');
    return all;
  }
  const counts = (all: number[][]) => all.map((ids) => ids.length).sort();

  async function interfaces(venue: Venue, count: number): Promise<ExternalInterface[]> {
    const made: ExternalInterface[] = [];
    for (let n = 0; n < count; n += 1) made.push(await venue.createInterface());
    return made;
  }

  test('interfaces spread evenly over the nodes that live, and move as little as they must', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    await interfaces(venue, 7);
    const alone = await settle(venue.store, ['a']);
    assert.deepEqual(counts(alone), [7]);
    const two = await settle(venue.store, ['a', 'b']);
    assert.deepEqual(counts(two), [3, 4]);
    const three = await settle(venue.store, ['a', 'b', 'c']);
    assert.deepEqual(counts(three), [2, 2, 3]);
    const again = await settle(venue.store, ['a', 'b', 'c']);
    assert.deepEqual(again, three, 'then they stay');
    await venue.store.releaseLeases('b');
    assert.deepEqual(counts(await settle(venue.store, ['a', 'c'])), [3, 4]);
    const crowd = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'];
    assert.deepEqual(counts(await settle(venue.store, crowd)), [0, 0, 1, 1, 1, 1, 1, 1, 1]);
  });

  test('nodes that ask at the same moment never get the same interface', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    await interfaces(venue, 12);
    const taken = await Promise.all(
      ['a', 'b', 'c', 'd'].map((node) => venue.store.holdLeases(node, LEASE_MS)),
    );
    const ids = taken.flatMap(({ held }) => held.map(({ interfaceId }) => interfaceId));
    assert.equal(new Set(ids).size, ids.length);
    assert.deepEqual(counts(await settle(venue.store, ['a', 'b', 'c', 'd'])), [3, 3, 3, 3]);
  });

  test('a node whose time is over can change nothing, before and after another has taken over', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [one] = (await interfaces(venue, 1)) as [ExternalInterface];
    await venue.put(1, 2);
    const seen = await venue.waiting(one);
    const callTemplateId = await venue.store.callTemplateId(venue.id, one.id, {
      method: 'GET',
      url: one.url,
      userAgent: 'x',
    });
    const { held } = await venue.store.holdLeases('asleep', 150);
    const fence = held[0]?.fence as number;
    const late = () =>
      venue.progress(one, fence, {
        cursor: seen[1]?.position as Position,
        attempts: [{ ...attempt('1'), callTemplateId }],
        owed: [{ closingId: seen[0]?.closingId as number, orderId: '1', attempts: 1, dueAt: 0 }],
      });
    await eventually('the lease is over', async () => {
      const [{ over } = {}] = await server.query(
        'SELECT expires_at < clock_timestamp() AS over FROM orderhook.nodes',
        venue.url,
      );
      return over === true;
    });
    assert.deepEqual(await venue.store.commitProgress([late()], 'asleep'), [one.id]);
    const taken = (await venue.store.holdLeases('awake', LEASE_MS)).held[0];
    assert.equal(taken?.interfaceId, one.id);
    assert.ok(taken.fence > fence);
    assert.deepEqual(await venue.store.commitProgress([late()], 'asleep'), [one.id]);
    assert.deepEqual((await venue.store.holdLeases('asleep', LEASE_MS)).held, []);
    assert.deepEqual(await venue.store.commitProgress([late()], 'asleep'), [one.id]);
    assert.equal((await venue.waiting(one)).length, 2);
    assert.deepEqual((await venue.store.calls(venue.id, one.id, { limit: 9 }))?.items, []);
    assert.deepEqual(await venue.store.queueFigures(venue.id, one.id).then((figures) => figures?.owed), 0);
    assert.deepEqual(await venue.store.commitProgress([{ ...late(), fence: taken.fence }], 'awake'), []);
    assert.equal((await venue.waiting(one)).length, 0);
  });

  test('what was done under a lease that was given back, or held earlier, is refused', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [one] = (await interfaces(venue, 1)) as [ExternalInterface];
    await venue.put(1);
    const cursor = (await venue.waiting(one))[0]?.position as Position;
    const fence = (await venue.store.holdLeases('a', LEASE_MS)).held[0]?.fence as number;
    const late = () => venue.store.commitProgress([venue.progress(one, fence, { cursor })], 'a');
    await venue.store.releaseLeases('a', [one.id]);
    assert.deepEqual(await late(), [one.id], 'nobody holds it');
    await venue.store.holdLeases('b', LEASE_MS);
    await venue.store.releaseLeases('b');
    const again = (await venue.store.holdLeases('a', LEASE_MS)).held[0];
    assert.equal(again?.interfaceId, one.id);
    assert.deepEqual(await late(), [one.id], 'another held it between');
    assert.equal((await venue.waiting(one)).length, 1);
  });

  test('a commit that waits while its interface changes hands is refused', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [one, kept] = (await interfaces(venue, 2)) as [ExternalInterface, ExternalInterface];
    await venue.put(1);
    const { held } = await venue.store.holdLeases('old', LEASE_MS);
    const fenceOf = (id: number) => held.find(({ interfaceId }) => interfaceId === id)?.fence as number;
    const position = (await venue.waiting(one))[0]?.position as Position;
    const taking = await server.client(venue.url);
    await taking.query('BEGIN');
    await taking.query(
      `UPDATE orderhook.queues SET owner = 'new', fence = fence + 1 WHERE interface_id = ${one.id}`,
    );
    const commit = venue.store.commitProgress(
      [one, kept].map((each) => venue.progress(each, fenceOf(each.id), { cursor: position })),
      'old',
    );
    await eventually('the commit waits for the row', async () => {
      const rows = await server.query(
        "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        venue.url,
      );
      return rows.length === 1;
    });
    await taking.query('COMMIT');
    await taking.end();
    assert.deepEqual(await commit, [one.id]);
    assert.equal((await venue.waiting(one)).length, 1);
    assert.equal((await venue.waiting(kept)).length, 0);
  });

  test('a commit that is made again, because its answer was lost, counts once', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [one] = (await interfaces(venue, 1)) as [ExternalInterface];
    await venue.put(1);
    const closingId = (await venue.waiting(one))[0]?.closingId as number;
    const template = { method: 'GET', url: one.url, userAgent: 'x' } as const;
    const callTemplateId = await venue.store.callTemplateId(venue.id, one.id, template);
    const fence = (await venue.store.holdLeases('a', LEASE_MS)).held[0]?.fence as number;
    const progress = venue.progress(one, fence, {
      attempts: [{ ...attempt('1', { closingId }), callTemplateId }],
      owed: [{ closingId, orderId: '1', attempts: 1, dueAt: 5 }],
    });
    assert.deepEqual(await venue.store.commitProgress([progress], 'a'), []);
    assert.deepEqual(await venue.store.commitProgress([progress], 'a'), []);
    assert.equal((await venue.store.calls(venue.id, one.id, { limit: 9 }))?.items.length, 1);
    assert.equal((await venue.store.queueFigures(venue.id, one.id))?.owed, 1);
    // Two of the same interface in one call are done one after the other.
    const settled = venue.progress(one, fence, { settled: [closingId] });
    const owed = venue.progress(one, fence, { owed: [{ closingId, orderId: '1', attempts: 2, dueAt: 6 }] });
    assert.deepEqual(await venue.store.commitProgress([settled, owed], 'a'), []);
    const list = await venue.store.owed(venue.id, one.id, { limit: 9, withDetails: true });
    assert.deepEqual(list, [{ closingId, orderId: '1', attempts: 2, dueAt: 6, details: orderText(1) }]);
    assert.equal((await venue.store.queueFigures(venue.id, one.id))?.owed, 1);
  });

  test('a callee that sends the one character that PostgreSQL cannot keep does not stop the commit', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [one] = (await interfaces(venue, 1)) as [ExternalInterface];
    const template = { method: 'GET', url: one.url, userAgent: 'x' } as const;
    const callTemplateId = await venue.store.callTemplateId(venue.id, one.id, template);
    const fence = (await venue.store.holdLeases('a', LEASE_MS)).held[0]?.fence as number;
    const answer = { status: 200, headers: { 'x-a': 'b\0' }, bodyStart: 'a\0b' };
    const attempts = [{ ...attempt('1', { answer, detail: '\0' }), callTemplateId }];
    assert.deepEqual(await venue.store.commitProgress([venue.progress(one, fence, { attempts })], 'a'), []);
    const [logged] = (await venue.store.calls(venue.id, one.id, { limit: 9 }))?.items ?? [];
    assert.equal(logged?.answer?.bodyStart, 'a\uFFFDb');
    await assert.rejects(
      venue.store.createInstitution({ code: 'X', name: 'a\0', timeZone: 'UTC', createdAt: 0 }),
      { code: 'invalid_value' },
    );
  });
});

describe('behind a pooler that keeps no sessions', () => {
  test('nothing stays in the session that the next statement may not find', async (t) => {
    const venue = await Venue.open(server, { listen: false, poolSize: 1 });
    t.after(() => venue.store.close());
    const one = await venue.createInterface();
    await venue.put(1);
    const fence = (await venue.store.holdLeases('a', LEASE_MS)).held[0]?.fence as number;
    const [closing] = await venue.waiting(one);
    await venue.store.commitProgress(
      [venue.progress(one, fence, { cursor: closing?.position as Position })],
      'a',
    );
    const sessions = await server.query(
      `SELECT l.locktype FROM pg_locks l JOIN pg_stat_activity a USING (pid)
       WHERE l.locktype = 'advisory' AND a.datname = current_database()`,
      venue.url,
    );
    assert.deepEqual(sessions, []);
    assert.equal((await venue.waiting(one)).length, 0);
  });
});
