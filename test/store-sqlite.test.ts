import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { AppError, StartError } from '../src/model/app-error.ts';
import { readOrderDetails } from '../src/model/order.ts';
import { Database, ThreadLock } from '../src/store/sqlite/database.ts';
import { openSqliteStore } from '../src/store/sqlite/sqlite-store.ts';
import { orderText, storeContract } from './store-contract.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

storeContract('the SQLite store', async () => {
  const folder = temporaryFolder();
  const file = join(folder.path, 'orderhook.db');
  const store = openSqliteStore({ file });
  return {
    store,
    async pretendEarlierVersion() {
      const db = new DatabaseSync(file);
      db.exec("UPDATE upkeep SET value = 1000 WHERE name = 'empty_executions_to'");
      db.close();
    },
    async close() {
      await store.close();
      folder.remove();
    },
  };
});

test('a database of a newer version is refused, saying which version it has', () => {
  const folder = temporaryFolder();
  const file = join(folder.path, 'orderhook.db');
  const db = new DatabaseSync(file);
  db.exec('PRAGMA user_version = 99');
  db.close();
  assert.throws(
    () => openSqliteStore({ file }),
    (error) =>
      error instanceof StartError &&
      /schema version 99; this Orderhook knows versions up to \d+/.test(error.message),
  );
  folder.remove();
});

test('what is stored is there when the file is opened again', async () => {
  const folder = temporaryFolder();
  const file = join(folder.path, 'orderhook.db');
  const first = openSqliteStore({ file });
  const { id } = await first.createInstitution({ code: 'A', name: 'A', timeZone: 'UTC', createdAt: 0 });
  await first.putOrders([{ ...readOrderDetails(orderText(1)), institutionId: id }], 5);
  await first.close();
  const second = openSqliteStore({ file });
  assert.equal((await second.order(id, '1'))?.orderState, 'CLOSED');
  await second.close();
  folder.remove();
});

test('trouble with the file is told in words of ours, and has those of SQLite as its cause', () => {
  const folder = temporaryFolder();
  const db = new Database(join(folder.path, 'orderhook.db'));
  for (const [errcode, message] of [
    [5, 'The database cannot be used right now: another program holds its file.'],
    [13, 'The database cannot be used right now: its disk is full.'],
    [10 | (3 << 8), 'The database cannot be used right now: its disk does not work as it should.'],
    [15, 'The database cannot be used right now.'],
  ] as const) {
    const cause = Object.assign(new Error('/secret/place: words of SQLite'), { errcode });
    const fail = () => {
      throw cause;
    };
    for (const use of [() => db.write(fail), () => db.read(fail)]) {
      assert.throws(use, (error) => {
        assert.ok(error instanceof AppError);
        assert.deepEqual([error.code, error.message, error.cause], ['store_unavailable', message, cause]);
        return true;
      });
    }
  }
  const bug = Object.assign(new Error('no such column'), { errcode: 1 });
  assert.throws(() => db.read(() => assert.fail(bug)), bug);
  db.close();
  folder.remove();
});

test('threads of one process hear of each other and wait in line to write', async () => {
  const folder = temporaryFolder();
  const file = join(folder.path, 'orderhook.db');
  const lock = new ThreadLock();
  const store = openSqliteStore({ file, lockMemory: lock.memory });
  const { id } = await store.createInstitution({ code: 'A', name: 'A', timeZone: 'UTC', createdAt: 0 });
  const heard = new Promise((resolve) => store.subscribe(resolve));
  const puts = 300;
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
     (async () => {
       const { openSqliteStore } = await import(workerData.store);
       const store = openSqliteStore({ file: workerData.file, lockMemory: workerData.lockMemory });
       for (let i = 0; i < workerData.puts; i += 1) {
         const orderId = String(1_000 + i);
         const details = '{"orderId":' + orderId + ',"orderState":"CLOSED"}';
         await store.putOrders([{ institutionId: workerData.id, orderId, orderState: 'CLOSED', details }], i);
       }
       await store.close();
       parentPort.postMessage('done');
     })();`,
    {
      eval: true,
      workerData: {
        file,
        id,
        puts,
        lockMemory: lock.memory,
        store: new URL('../src/store/sqlite/sqlite-store.ts', import.meta.url).href,
      },
    },
  );
  const done = new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject));
  assert.deepEqual(await heard, { kind: 'closings', institutionIds: [id] });
  for (let i = 0; i < puts; i += 1) {
    await store.putOrders([{ ...readOrderDetails(orderText(5_000 + i)), institutionId: id }], i);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await done;
  const figures = await store.orders(id, { limit: 1_000 });
  assert.equal(figures.items.length, 2 * puts);
  await store.close();
  folder.remove();
});
