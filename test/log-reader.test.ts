import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createLogReader, type LogReader } from '../src/engine/log-reader.ts';
import { startLogReaderThread } from '../src/log-reader-thread.ts';
import { readOrderDetails } from '../src/model/order.ts';
import { ThreadLock } from '../src/store/sqlite/database.ts';
import { openSqliteStore } from '../src/store/sqlite/sqlite-store.ts';
import type { Position, Store } from '../src/store/store.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

const ORDERS = 1_000;

describe('the reader of the log', () => {
  const folder = temporaryFolder();
  const file = join(folder.path, 'orderhook.db');
  const lockMemory = new ThreadLock().memory;
  let store: Store;
  let thread: LogReader & { stop(): Promise<void> };
  let institutionId: number;
  let start: Position;

  before(async () => {
    store = openSqliteStore({ file, lockMemory });
    const venue = { code: 'VENUE', name: 'Venue', timeZone: 'UTC', createdAt: 1 };
    institutionId = (await store.createInstitution(venue)).id;
    start = 0 as unknown as Position;
    const texts = Array.from({ length: ORDERS }, (_, index) => {
      const orderType = index % 3 === 0 ? 'SALE' : 'OPTION';
      return JSON.stringify({
        orderId: index + 1,
        orderState: 'CLOSED',
        orderType,
        filler: 'x'.repeat(1_500),
      });
    });
    await store.putOrders(
      texts.map((text) => ({ ...readOrderDetails(text), institutionId })),
      1,
    );
    thread = await startLogReaderThread({ kind: 'sqlite', file, lockMemory }, 'silent');
  });
  after(async () => {
    await thread.stop();
    await store.close();
    folder.remove();
  });

  async function readAll(reader: LogReader, filter: string | undefined) {
    const found: (readonly [orderId: string, passes: boolean])[] = [];
    for (let from = start; ; ) {
      const page = await reader.read({ institutionId, interfaceId: 1, after: from, limit: 250, filter });
      const last = page.positions.at(-1);
      if (last === undefined) return found;
      from = last;
      assert.equal(page.closingIds.length, page.orderIds.length);
      for (const [index, orderId] of page.orderIds.entries()) {
        found.push([orderId, page.passes[index] as boolean]);
      }
    }
  }

  for (const place of ['the thread that asks', 'a thread of its own']) {
    const reader = () => (place === 'a thread of its own' ? thread : createLogReader(store));

    test(`in ${place}, each closing comes once, in order, with the filter's answer`, async () => {
      const found = await readAll(reader(), 'OrderDetailsData.OrderType=SALE');
      const wanted = Array.from({ length: ORDERS }, (_, index) => [String(index + 1), index % 3 === 0]);
      assert.deepEqual(found, wanted);
    });

    test(`in ${place}, everything passes where there is no filter`, async () => {
      const found = await readAll(reader(), undefined);
      assert.equal(found.length, ORDERS);
      assert.ok(found.every(([, passes]) => passes));
    });

    test(`in ${place}, what cannot be answered is an error, and the next question is answered`, async () => {
      await assert.rejects(readAll(reader(), 'OrderDetailsData.OrderType'), /position|condition|=|operator/i);
      assert.equal((await readAll(reader(), undefined)).length, ORDERS);
    });
  }
});
