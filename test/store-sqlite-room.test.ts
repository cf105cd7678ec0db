/** What the SQLite store keeps on disk: room comes back, the write-ahead log is cut, and what was removed is nowhere. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, type TestContext, test } from 'node:test';
import { readOrderDetails } from '../src/model/order.ts';
import { LOG_BYTES_KEPT } from '../src/store/sqlite/database.ts';
import { openSqliteStore } from '../src/store/sqlite/sqlite-store.ts';
import type { Position, Store } from '../src/store/store.ts';
import { INTERFACE, orderText } from './store-contract.ts';
import { runCommand, ServiceProcess } from './support/service-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

const OLD = Date.UTC(2026, 0, 5, 9);
const NOW = OLD + 1;
const MIGRATIONS = new URL('../src/store/migrations/sqlite/', import.meta.url);

type Opened = { store: Store; folder: string; file: string; institutionId: number };

async function openFolder(t: TestContext, prepare: (file: string) => void = () => {}): Promise<Opened> {
  const folder = temporaryFolder();
  const file = join(folder.path, 'orderhook.db');
  prepare(file);
  const store = openSqliteStore({ file });
  const closing = { isDone: false };
  const close = store.close;
  store.close = async () => {
    if (!closing.isDone) await close();
    closing.isDone = true;
  };
  t.after(async () => {
    await store.close();
    folder.remove();
  });
  const given = { code: 'VENUE', name: 'Venue', timeZone: 'UTC', createdAt: 0 };
  return { store, folder: folder.path, file, institutionId: (await store.createInstitution(given)).id };
}

/** A file as the first version made it. */
function makeOldFile(file: string): void {
  const db = new DatabaseSync(file);
  db.exec('PRAGMA page_size = 4096; PRAGMA journal_mode = WAL');
  const first = readdirSync(MIGRATIONS).sort()[0] as string;
  db.exec(readFileSync(new URL(first, MIGRATIONS), 'utf8'));
  db.exec('PRAGMA user_version = 1');
  db.close();
}

async function fill(
  { store, institutionId }: Opened,
  count: number,
  { characters = 2_000, state = 'OPEN', from = 1, at = OLD } = {},
): Promise<void> {
  const filler = 'x'.repeat(characters);
  for (let id = from; id <= count; id += 500) {
    const puts = Array.from({ length: Math.min(500, count - id + 1) }, (_, index) => ({
      ...readOrderDetails(orderText(id + index, state, `,"filler":"${filler}"`)),
      institutionId,
    }));
    await store.putOrders(puts, at);
  }
}

async function removeAll({ store }: Opened): Promise<void> {
  while ((await store.removeOrdersOlderThan(NOW, NOW)).hasMore);
}

/** How many steps that took. */
async function giveAllBack(store: Store): Promise<number> {
  for (let steps = 1; ; steps += 1) {
    const { hasMore, heldLogBytes } = await store.giveRoomBack();
    assert.equal(heldLogBytes, undefined);
    if (!hasMore) return steps;
  }
}

const sizeOf = (file: string) => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
const pragma = (file: string, name: string) => {
  const db = new DatabaseSync(file);
  try {
    return Number(db.prepare(`PRAGMA ${name}`).get()?.[name]);
  } finally {
    db.close();
  }
};

/** Names of the files in the folder that have the text in them. */
function filesWith(folder: string, text: string): string[] {
  return readdirSync(folder).filter((name) => readFileSync(join(folder, name)).includes(text));
}

/** Another program that has the file open, in a read transaction. */
async function startReader(t: TestContext, file: string): Promise<{ end(): Promise<void> }> {
  const script = `
    const { DatabaseSync } = require('node:sqlite');
    const db = new DatabaseSync(${JSON.stringify(file)});
    db.exec('BEGIN');
    db.prepare('SELECT count(*) FROM institutions').get();
    process.stdout.write('reads');
    setInterval(() => {}, 1_000);`;
  const child: ChildProcess = spawn(process.execPath, ['-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const end = async () => {
    child.kill('SIGKILL');
    await exited;
  };
  t.after(end);
  await once(child.stdout as NonNullable<typeof child.stdout>, 'data');
  return { end };
}

describe('the room that removed orders leave', () => {
  test('goes back to the system in small steps, and the file gets short', async (t) => {
    const opened = await openFolder(t);
    await fill(opened, 4_000);
    await giveAllBack(opened.store);
    const full = sizeOf(opened.file);
    assert.ok(full > 8_000_000, `${full}`);
    await removeAll(opened);
    const steps = await giveAllBack(opened.store);
    assert.ok(steps > 20, `${steps} steps`);
    assert.ok(sizeOf(opened.file) < full * 0.1, `${sizeOf(opened.file)} of ${full}`);
    assert.equal(sizeOf(`${opened.file}-wal`), 0);
    assert.equal(await giveAllBack(opened.store), 1, 'and that is all');
  });

  test('goes back too where the orders stay, without their details', async (t) => {
    const opened = await openFolder(t);
    await fill(opened, 4_000, { state: 'CLOSED' });
    await giveAllBack(opened.store);
    const full = sizeOf(opened.file);
    await removeAll(opened);
    await giveAllBack(opened.store);
    assert.deepEqual(await opened.store.order(opened.institutionId, '4000'), {
      orderId: '4000',
      orderState: 'CLOSED',
      updatedAt: OLD,
      removedAt: NOW,
    });
    assert.ok(sizeOf(opened.file) < full * 0.15, `${sizeOf(opened.file)} of ${full}`);
  });

  test('stays in the file where it is a small part of it, which is used again', async (t) => {
    const opened = await openFolder(t);
    await fill(opened, 4_000);
    await fill(opened, 4_000, { from: 501, at: NOW });
    await removeAll(opened);
    assert.ok(pragma(opened.file, 'freelist_count') > 40, 'there is some');
    assert.equal(await giveAllBack(opened.store), 1);
  });

  test('stays in a file of an earlier version until `compact` writes it anew', async (t) => {
    const opened = await openFolder(t, makeOldFile);
    await fill(opened, 2_000);
    await removeAll(opened);
    await giveAllBack(opened.store);
    const before = sizeOf(opened.file);
    assert.ok(before > 4_000_000, `${before}`);
    await opened.store.putOrders(
      [{ ...readOrderDetails(orderText(7)), institutionId: opened.institutionId }],
      NOW,
    );
    await opened.store.close();

    const { code, stdout } = await runCommand(['compact'], { ORDERHOOK_DATA: opened.folder });
    assert.equal(code, 0);
    assert.match(stdout, /is not in use: writing it anew\n.* MB before, .* MB given back\n$/);
    assert.ok(sizeOf(opened.file) < before * 0.1, `${sizeOf(opened.file)} of ${before}`);
    assert.equal(pragma(opened.file, 'auto_vacuum'), 2);
    assert.equal(pragma(opened.file, 'page_size'), 16_384);
    assert.equal(statSync(opened.file).mode & 0o777, 0o600);
    const again = openSqliteStore({ file: opened.file });
    t.after(() => again.close());
    assert.equal((await again.order(opened.institutionId, '7'))?.details, orderText(7));
    assert.equal((await again.order(opened.institutionId, '8'))?.details, undefined);
  });

  test('comes back at once by `compact` while a service works on the file', async (t) => {
    const opened = await openFolder(t);
    await fill(opened, 3_000);
    await removeAll(opened);
    await opened.store.close();
    const before = sizeOf(opened.file);
    const service = await ServiceProcess.start(opened.folder);
    t.after(() => service.stop());
    const compacting = runCommand(['compact'], { ORDERHOOK_DATA: opened.folder });
    const put = async (id: number) =>
      service.call('PUT', `/institutions/VENUE/orders/${10_000 + id}`, orderText(10_000 + id));
    for (let id = 0; id < 50; id += 1) await put(id);
    const { code, stdout } = await compacting;
    assert.equal(code, 0);
    assert.match(stdout, /is in use: giving its free pages back in small steps\n.* MB given back\n$/);
    assert.ok(sizeOf(opened.file) < before * 0.2, `${sizeOf(opened.file)} of ${before}`);
    await put(50);
    const { orderState } = await service.call('GET', '/institutions/VENUE/orders/10007');
    assert.equal(orderState, 'CLOSED');
  });

  test('`compact` says what it cannot do', async (t) => {
    const empty = temporaryFolder();
    t.after(() => empty.remove());
    const nowhere = await runCommand(['compact'], { ORDERHOOK_DATA: empty.path });
    assert.equal(nowhere.code, 1);
    assert.match(nowhere.stderr, /^orderhook: There is no database .*orderhook\.db\.\n$/);
    assert.deepEqual(readdirSync(empty.path), []);
    const server = await runCommand(['compact'], { ORDERHOOK_DATABASE_URL: 'postgres://localhost/x' });
    assert.match(server.stderr, /^orderhook: compact is for the embedded database\. PostgreSQL/);

    const opened = await openFolder(t, makeOldFile);
    await opened.store.close();
    const reader = await startReader(t, opened.file);
    const inUse = await runCommand(['compact'], { ORDERHOOK_DATA: opened.folder });
    assert.equal(inUse.code, 1);
    assert.match(inUse.stderr, /^orderhook: Another program has .* open\. Close it, and try again\.\n$/);
    assert.ok(!readdirSync(opened.folder).includes('orderhook.db.compacting'));
    await reader.end();

    const service = await ServiceProcess.start(opened.folder);
    t.after(() => service.stop());
    const old = await runCommand(['compact'], { ORDERHOOK_DATA: opened.folder });
    assert.equal(old.code, 1);
    assert.match(old.stderr, /made by an earlier version.*Stop the service once/);
  });
});

describe('the write-ahead log', () => {
  test('that a reader from outside held back is told of, and cut when the reader has gone', async (t) => {
    const opened = await openFolder(t);
    await giveAllBack(opened.store);
    const log = `${opened.file}-wal`;
    const reader = await startReader(t, opened.file);
    await fill(opened, 3_000, { characters: 15_000 });
    assert.ok(sizeOf(log) > LOG_BYTES_KEPT, `${sizeOf(log)}`);
    const { heldLogBytes, hasMore } = await opened.store.giveRoomBack();
    assert.equal(heldLogBytes, sizeOf(log));
    assert.equal(hasMore, false);
    await reader.end();
    assert.equal((await opened.store.giveRoomBack()).heldLogBytes, undefined);
    assert.equal(sizeOf(log), 0);
  });

  test('gets short by itself after a peak, where the service only writes on', async (t) => {
    const opened = await openFolder(t);
    const log = `${opened.file}-wal`;
    const reader = await startReader(t, opened.file);
    await fill(opened, 3_000, { characters: 15_000 });
    await reader.end();
    const peak = sizeOf(log);
    for (let n = 0; n < 5; n += 1) await fill(opened, 10);
    assert.ok(peak > LOG_BYTES_KEPT && sizeOf(log) <= LOG_BYTES_KEPT, `${sizeOf(log)} of ${peak}`);
  });

  test('is held back by no read of the store itself, one that ended early included', async (t) => {
    const opened = await openFolder(t);
    const { store, institutionId } = opened;
    const one = await store.createInterface(institutionId, INTERFACE, NOW);
    const large = Array.from({ length: 20 }, (_, index) => ({
      ...readOrderDetails(orderText(index + 1, 'CLOSED', `,"filler":"${'x'.repeat(500_000)}"`)),
      institutionId,
    }));
    await store.putOrders(large, NOW);
    const reader = openSqliteStore({ file: opened.file });
    t.after(() => reader.close());
    const cursor = (await reader.engineInterface(institutionId, one.id))?.cursor;
    const seen = await reader.waiting(institutionId, cursor as Position, { limit: 100, withDetails: true });
    assert.ok(seen.length > 0 && seen.length < large.length, 'it ended early');
    await store.closeOrder(institutionId, '1', NOW);
    await store.removeOrder(institutionId, '1', NOW);
    assert.equal(sizeOf(`${opened.file}-wal`), 0);
  });
});

describe('what was removed of an order', () => {
  test('is in no file of the folder, whatever became of the order before', async (t) => {
    const opened = await openFolder(t);
    const { store, institutionId, folder } = opened;
    const put = async (id: number, marker: string, characters: number) =>
      store.putOrders(
        [
          {
            ...readOrderDetails(
              orderText(id, 'OPEN', `,"a":"${'a'.repeat(characters)}","b":"${marker}","c":"${marker}"`),
            ),
            institutionId,
          },
        ],
        NOW,
      );
    for (let id = 1; id <= 300; id += 1) await put(id, `M${id}-first`, 200 + ((id * 37) % 4_000));
    // Longer, shorter, and too long for a page.
    for (const characters of [5_000, 100, 90_000, 300]) await put(150, `M150-${characters}`, characters);
    assert.notDeepEqual(filesWith(folder, 'M150-'), [], 'the test sees it');
    await store.removeOrder(institutionId, '150', NOW);
    assert.deepEqual(filesWith(folder, 'M150-'), []);
    assert.deepEqual(filesWith(folder, 'M151-first'), ['orderhook.db'], 'others are there');
    while ((await store.removeOrdersOlderThan(NOW + 1, NOW)).hasMore);
    await giveAllBack(store);
    assert.deepEqual(filesWith(folder, '-first'), [], 'age removes as thoroughly');
  });

  test('goes from the write-ahead log as soon as the reader has gone who held it', async (t) => {
    const { store, institutionId, folder, file } = await openFolder(t);
    await giveAllBack(store);
    const details = orderText(1, 'OPEN', ',"a":"MARKER"');
    await store.putOrders([{ ...readOrderDetails(details), institutionId }], NOW);
    const reader = await startReader(t, file);
    assert.equal(await store.removeOrder(institutionId, '1', NOW), true);
    assert.ok(filesWith(folder, 'MARKER').length > 0);
    assert.ok(((await store.giveRoomBack()).heldLogBytes ?? 0) > 0);
    await reader.end();
    // Another thread's store does it too: what is owed is kept in the database.
    const other = openSqliteStore({ file });
    t.after(() => other.close());
    await giveAllBack(other);
    assert.deepEqual(filesWith(folder, 'MARKER'), []);
  });

  test('goes from the write-ahead log after a crash between the removal and the cut', async (t) => {
    const { store, institutionId, folder, file } = await openFolder(t);
    const details = orderText(1, 'OPEN', ',"a":"MARKER"');
    await store.putOrders([{ ...readOrderDetails(details), institutionId }], NOW);
    const removal = new DatabaseSync(file);
    removal.exec("PRAGMA secure_delete = ON; UPDATE orders SET details = ''");
    removal.close();
    assert.deepEqual(filesWith(folder, 'MARKER'), ['orderhook.db-wal']);
    const next = openSqliteStore({ file });
    t.after(() => next.close());
    await giveAllBack(next);
    assert.deepEqual(filesWith(folder, 'MARKER'), []);
  });

  test('is nowhere while a service runs that called for it and kept the answer', async (t) => {
    const folder = temporaryFolder();
    const { createServer } = await import('node:http');
    const callee = createServer((_request, response) => {
      response.setHeader('x-customer', 'MARKER-IN-HEADER');
      response.end('thank you, MARKER-IN-ANSWER');
    });
    await new Promise<void>((resolve) => callee.listen(0, '127.0.0.1', resolve));
    const { port } = callee.address() as { port: number };
    const service = await ServiceProcess.start(folder.path);
    t.after(async () => {
      await service.stop();
      callee.closeAllConnections();
      callee.close();
      folder.remove();
    });
    const { code, interfaceId } = await service.setUp(`http://127.0.0.1:${port}`, {
      schedule: { launch: 'AUTOMATIC', frequencyMinutes: 0 },
      interface: { filter: 'OrderDetailsData.Name=MARKER.*' },
    });
    const order = `/institutions/${code}/orders/5`;
    await service.call('PUT', order, orderText(5, 'CLOSED', ',"name":"MARKER-IN-DETAILS"'));
    const stateOf = async () => (await service.call('GET', order)).deliveries[0].state;
    await until('it is delivered', async () => (await stateOf()) === 'DELIVERED');
    assert.notDeepEqual(filesWith(folder.path, 'MARKER-IN-ANSWER'), []);
    assert.equal((await service.request('DELETE', order)).status, 204);
    for (const marker of ['DETAILS', 'ANSWER', 'HEADER']) {
      assert.deepEqual(filesWith(folder.path, `MARKER-IN-${marker}`), []);
    }
    const left = await service.call('GET', order);
    assert.equal(left.details, undefined);
    assert.ok(left.removedAt);
    assert.deepEqual(
      [left.orderState, left.closings.length, left.deliveries[0].state],
      ['CLOSED', 1, 'DELIVERED'],
    );
    const calls = await service.call('GET', `/institutions/${code}/interfaces/${interfaceId}/calls`);
    assert.deepEqual(
      [calls.items[0].outcome, calls.items[0].status, calls.items[0].response.bodyStart],
      ['DELIVERED', 200, ''],
    );
    assert.equal((await service.request('DELETE', order)).status, 204);
    assert.equal((await service.request('DELETE', `/institutions/${code}/orders/6`)).status, 404);
  });
});
