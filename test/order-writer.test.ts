import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { readOrderDetails } from '../src/model/order.ts';
import { createOrderWriter } from '../src/order-writer-thread.ts';
import { ThreadLock } from '../src/store/sqlite/database.ts';
import { openSqliteStore } from '../src/store/sqlite/sqlite-store.ts';
import { orderText } from './store-contract.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

const VENUE = { code: 'VENUE', name: 'Venue', timeZone: 'UTC', createdAt: 1 };

describe('the writer of orders in a thread', () => {
  test('stores what the store itself would, and tells the same of it', async (t) => {
    const folder = temporaryFolder();
    t.after(() => folder.remove());
    const lockMemory = new ThreadLock().memory;
    const file = join(folder.path, 'orderhook.db');
    const store = openSqliteStore({ file, lockMemory });
    t.after(() => store.close());
    const writer = createOrderWriter({ kind: 'sqlite', file, lockMemory });
    t.after(() => writer.stop());
    const [ours, theirs] = [
      (await store.createInstitution(VENUE)).id,
      (await store.createInstitution({ ...VENUE, code: 'OTHER' })).id,
    ];
    const texts = [
      orderText(1),
      orderText('9223372036854775807'),
      '{"orderId": 2, "orderState": "OPEN", "é": "\u{1F39F}"}',
      orderText(1),
    ];
    const putsOf = (institutionId: number) =>
      texts.map((text) => ({ ...readOrderDetails(text), institutionId }));
    let told = 0;
    store.subscribe(({ kind }) => {
      if (kind === 'closings') told += 1;
    });

    const stored = await writer.putOrders(putsOf(theirs), 5);
    assert.deepEqual(stored, await store.putOrders(putsOf(ours), 5));
    assert.equal((await store.order(theirs, '2'))?.details, texts[2]);
    for (let waited = 0; told < 2 && waited < 2_000; waited += 5) {
      await new Promise((passed) => setTimeout(passed, 5));
    }
    assert.equal(told, 2, 'closings of the thread are told of in this one');

    // Ended and begun anew, also in the middle.
    const many = Array.from({ length: 50 }, () => writer.putOrders(putsOf(theirs), 6));
    await writer.stop();
    for (const one of await Promise.all(many)) assert.equal(one.length, texts.length);
    assert.equal((await writer.putOrders(putsOf(theirs), 7)).length, texts.length);
  });

  test('what the database refuses is an error that can be acted on, and the next try finds the database', async (t) => {
    const folder = temporaryFolder();
    t.after(() => folder.remove());
    const file = join(folder.path, 'later', 'orderhook.db');
    const lockMemory = new ThreadLock().memory;
    const writer = createOrderWriter({ kind: 'sqlite', file, lockMemory });
    t.after(() => writer.stop());
    const puts = [{ ...readOrderDetails(orderText(1)), institutionId: 1 }];
    await assert.rejects(writer.putOrders(puts, 1), { code: 'store_unavailable' });
    mkdirSync(join(folder.path, 'later'));
    const store = openSqliteStore({ file, lockMemory });
    t.after(() => store.close());
    assert.equal((await store.createInstitution(VENUE)).id, 1);
    assert.equal((await writer.putOrders(puts, 1)).length, 1);
  });

  test('its errors have their cause with them, in words of ours and in those of the database', async (t) => {
    const folder = temporaryFolder();
    t.after(() => folder.remove());
    const file = join(folder.path, 'orderhook.db');
    const lockMemory = new ThreadLock().memory;
    const store = openSqliteStore({ file, lockMemory });
    t.after(() => store.close());
    await store.createInstitution(VENUE);
    const writer = createOrderWriter({ kind: 'sqlite', file, lockMemory });
    t.after(() => writer.stop());
    const db = new DatabaseSync(file);
    db.exec(
      "CREATE TRIGGER trouble BEFORE INSERT ON orders BEGIN SELECT RAISE(ABORT, 'secret of the database'); END",
    );
    db.close();
    const puts = [{ ...readOrderDetails(orderText(1)), institutionId: 1 }];
    await assert.rejects(writer.putOrders(puts, 1), (error: Error & { code?: string }) => {
      assert.match(error.message, /secret of the database/);
      assert.equal(error.code, 'ERR_SQLITE_ERROR');
      assert.match(String(error.stack), /orders\.ts/, 'where it happened');
      return true;
    });
  });
});
