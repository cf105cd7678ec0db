import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { after, before, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { LineSplitter } from '../src/http/line-splitter.ts';
import { importOrders, REJECTED_LINES_TOLD_MAX } from '../src/http/order-import.ts';
import { OrderIntake } from '../src/http/order-intake.ts';
import { WorkTurns } from '../src/http/work-turns.ts';
import { AppError } from '../src/model/app-error.ts';
import type { OrderPut, OrderStored, Store } from '../src/store/store.ts';
import { startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';

const NEVER = new AbortController().signal;
const LARGEST = '9223372036854775807';

describe('orders in', () => {
  let server: TestServer;
  const commits: number[] = [];

  before(async () => {
    server = await startServer({ wrapStore: (store) => counting(store, commits) });
    await server.createVenue();
  });
  beforeEach(() => {
    commits.length = 0;
  });
  after(() => server.close());

  it('stores an order and records a closing when it came to be closed', async () => {
    const open = await server.putOrder('10', 'OPEN');
    assert.equal(open.status, 200);
    assert.deepEqual(open.json, { orderId: '10', orderState: 'OPEN' });
    const closed = await server.putOrder('10');
    assert.equal(closed.json.closing?.closedAt, '2026-01-05T09:00:00.000Z');
    assert.match(String(closed.json.closing?.closingId), /^\d+$/);
    assert.deepEqual((await server.putOrder('10')).json, { orderId: '10', orderState: 'CLOSED' });
  });

  it('closes a stored order once, and says so the second time', async () => {
    await server.putOrder('11', 'OPEN');
    const first = await server.post(`${VENUE}/orders/11/close`);
    assert.equal(first.status, 200);
    server.time.now += 1_000;
    const second = await server.post(`${VENUE}/orders/11/close`);
    assert.deepEqual({ ...first.json }, { ...second.json, alreadyClosed: false });
    const { json } = await server.get(`${VENUE}/orders/11`);
    assert.equal(json.closings.length, 1);
  });

  it('keeps the details as they came: every digit, field and blank', async () => {
    const details = `{"orderId": ${LARGEST} , "orderState":"OPEN","amount":1.10,"big":12345678901234567890,"é":"\\u00e9",\n"x":[ ]}`;
    const { status } = await server.put(`${VENUE}/orders/${LARGEST}`, details);
    assert.equal(status, 200);
    const { text, headers } = await server.get(`${VENUE}/orders/${LARGEST}`);
    assert.equal(headers['content-type'], 'application/json; charset=utf-8');
    assert.ok(text.endsWith(`"details":${details}}`), text);
    assert.ok(text.startsWith(`{"orderId":"${LARGEST}","orderState":"OPEN",`), text);
  });

  it('refuses an order whose id is not that of the path, or is none', async () => {
    const body = '{"orderId":12,"orderState":"OPEN"}';
    for (const path of ['13', '012', 'x', LARGEST]) {
      assert.deepEqual(wrongFields(await server.put(`${VENUE}/orders/${path}`, body)), [
        'orderId order_id_differs',
      ]);
    }
    for (const [id, wrong] of [
      ['9223372036854775808', 'orderId order_id_invalid'],
      ['0', 'orderId order_id_invalid'],
      ['-1', 'orderId order_id_invalid'],
      ['1.5', 'orderId order_id_invalid'],
      ['null', 'orderId order_id_missing'],
    ] as const) {
      const reply = await server.put(`${VENUE}/orders/12`, `{"orderId":${id},"orderState":"OPEN"}`);
      assert.equal(reply.status, 422);
      assert.deepEqual(wrongFields(reply), [wrong]);
    }
    assert.deepEqual(wrongFields(await server.put(`${VENUE}/orders/12`, '{"orderId":12}')), [
      'orderState order_state_missing',
    ]);
    assert.equal((await server.put(`${VENUE}/orders/12`, '')).status, 400);
    assert.equal((await server.get(`${VENUE}/orders/12`)).status, 404);
  });

  it('refuses what is nested so deep that reading it would end the stack', async () => {
    const deep = `{"orderId":9007199254740993,"orderState":"OPEN","x":${'['.repeat(20_000)}${']'.repeat(20_000)}}`;
    const { status, json } = await server.put(`${VENUE}/orders/9007199254740993`, deep);
    assert.equal(status, 422);
    assert.match(json.detail ?? '', /nested 100 levels deep at most/);
  });

  it('lists orders by state and id', async () => {
    await server.createVenue('LISTS');
    const venue = '/api/v1/institutions/LISTS';
    for (const [id, state] of [
      [1, 'OPEN'],
      [2, 'CLOSED'],
      [3, 'CLOSED'],
    ] as const) {
      await server.put(`${venue}/orders/${id}`, { orderId: id, orderState: state });
    }
    const ids = async (query: string) => {
      const { json } = await server.get(`${venue}/orders?${query}`);
      return [json.items.map(({ orderId }) => orderId), json.next] as const;
    };
    assert.deepEqual(await ids(''), [['3', '2', '1'], null]);
    assert.deepEqual(await ids('state=CLOSED'), [['3', '2'], null]);
    assert.deepEqual(await ids('query=2'), [['2'], null]);
    assert.deepEqual(await ids('query=two'), [[], null]);
    const [first, next] = await ids('limit=2');
    assert.deepEqual(first, ['3', '2']);
    assert.deepEqual(await ids(`limit=2&cursor=${next}`), [['1'], null]);
    const { json } = await server.get(`${venue}/orders?limit=1`);
    assert.deepEqual(Object.keys(json.items[0] as object), [
      'orderId',
      'orderState',
      'updatedAt',
      'lastClosedAt',
    ]);
  });

  it('shares commits between orders that arrive together', async () => {
    const replies = await Promise.all(
      Array.from({ length: 200 }, (_, index) => server.putOrder(String(1_000 + index))),
    );
    assert.ok(replies.every(({ status }) => status === 200));
    assert.equal(new Set(replies.map(({ json }) => json.closing?.closingId)).size, 200);
    assert.equal(
      commits.reduce((sum, count) => sum + count, 0),
      200,
    );
    assert.ok(commits.length <= 20, `${commits.length} commits`);
  });
});

describe('the intake', () => {
  const put = (orderId: string, details = ''): OrderPut => ({
    institutionId: 1,
    orderId,
    orderState: 'OPEN',
    details,
  });

  it('runs one commit at a time, and takes all that came meanwhile into the next', async () => {
    const store = new SlowStore();
    const intake = new OrderIntake({ store, clock: () => 5 });
    const answers = [intake.put(put('1'))];
    await store.begun(1);
    for (let id = 2; id <= 1_000; id += 1) answers.push(intake.put(put(String(id))));
    await store.letAllEnd();
    assert.deepEqual(
      (await Promise.all(answers)).map(({ orderId }) => orderId),
      Array.from({ length: 1_000 }, (_, index) => String(index + 1)),
    );
    assert.deepEqual(store.commits, [1, 500, 499]);
    assert.equal(store.mostAtOnce, 1);
  });

  it('bounds a commit by its bytes as well, and lets a large order through alone', async () => {
    const store = new SlowStore();
    const intake = new OrderIntake({ store, clock: () => 5 });
    const large = 'x'.repeat(5 * 1024 * 1024);
    const answers = ['1', '2', '3'].map((id) => intake.put(put(id, large)));
    await store.begun(1);
    await store.letAllEnd();
    await Promise.all(answers);
    assert.deepEqual(store.commits, [1, 1, 1]);
  });

  it('refuses more than there is room for, and has room again', async () => {
    const store = new SlowStore();
    const intake = new OrderIntake({ store, clock: () => 5 });
    const large = 'x'.repeat(8 * 1024 * 1024);
    const answers = Array.from({ length: 8 }, (_, id) => intake.put(put(String(id), large)));
    assert.throws(() => intake.put(put('9', 'x')), { code: 'too_many_requests', retryAfterSeconds: 1 });
    await store.begun(1);
    await store.letAllEnd();
    await Promise.all(answers);
    const late = intake.put(put('9', 'x'));
    await store.begun(9);
    await store.letAllEnd();
    assert.equal((await late).orderId, '9');
  });

  it('tells each request of a commit that the store is away', async () => {
    const away = new AppError('store_unavailable', 'away');
    const calls: number[] = [];
    const store = {
      async putOrders(puts: readonly OrderPut[]): Promise<OrderStored[]> {
        calls.push(puts.length);
        throw away;
      },
    };
    const intake = new OrderIntake({ store, clock: () => 5 });
    const settled = await Promise.allSettled(['1', '2', '3'].map((id) => intake.put(put(id))));
    assert.deepEqual(settled, Array(3).fill({ status: 'rejected', reason: away }));
    assert.deepEqual(calls, [3]);
  });

  it('stores the others when one of them breaks the commit', async () => {
    const store = {
      async putOrders(puts: readonly OrderPut[]): Promise<OrderStored[]> {
        if (puts.some(({ orderId }) => orderId === '2')) throw new Error('cannot be stored');
        return puts.map(({ orderId }) => ({ orderId, orderState: 'OPEN' }));
      },
    };
    const intake = new OrderIntake({ store, clock: () => 5 });
    const settled = await Promise.allSettled(['1', '2', '3'].map((id) => intake.put(put(id))));
    assert.deepEqual(
      settled.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
  });
});

describe('the import', () => {
  let server: TestServer;
  const commits: number[] = [];

  before(async () => {
    server = await startServer({ wrapStore: (store) => counting(store, commits) });
    await server.createVenue();
  });
  after(() => server.close());

  const send = (body: string | Buffer, type = 'application/x-ndjson') =>
    server.send('POST', `${VENUE}/orders/import`, { body, type });

  it('stores the good lines and rejects the bad ones by their number', async () => {
    const { status, json } = await send(
      [
        '\ufeff{"orderId":1,"orderState":"CLOSED"}',
        '',
        '{"orderId":2,"orderState":"OPEN"}\r',
        '{"orderId":3',
        '   ',
        '{"orderState":"OPEN"}',
        '{"orderId":9223372036854775808,"orderState":"OPEN"}',
        `{"orderId":${LARGEST},"orderState":"CLOSED","name":"Zoë 🎫"}`,
      ].join('\n'),
    );
    assert.equal(status, 200);
    assert.deepEqual(json, {
      received: 6,
      stored: 3,
      closed: 2,
      rejected: [
        {
          line: 4,
          message: "The order is not JSON: Expected ',' or '}' after property value at position 12.",
        },
        { line: 6, message: 'The order has no orderId.' },
        { line: 7, message: `orderId must be a JSON integer from 1 to ${LARGEST}.` },
      ],
      rejectedCount: 3,
    });
    assert.match((await server.get(`${VENUE}/orders/${LARGEST}`)).text, /"name":"Zoë 🎫"/);
  });

  it('takes plain text and plain bytes as well, and an empty body', async () => {
    const line = '{"orderId":4,"orderState":"OPEN"}\n';
    for (const type of ['text/plain', 'application/octet-stream', 'application/x-ndjson; charset=utf-8']) {
      assert.equal((await send(line, type)).json.stored, 1);
    }
    assert.deepEqual((await send('')).json, {
      received: 0,
      stored: 0,
      closed: 0,
      rejected: [],
      rejectedCount: 0,
    });
    assert.equal((await server.post(`${VENUE}/orders/import`)).status, 200);
  });

  it('rejects a line over 1 MiB and goes on behind it', async () => {
    const order = (id: number, bytes: number) => {
      const frame = `{"orderId":${id},"orderState":"OPEN","x":""}`;
      return frame.replace('""', `"${'x'.repeat(bytes - frame.length)}"`);
    };
    const limit = 1024 * 1024;
    const { json } = await send([order(21, limit), order(22, limit + 1), order(23, 100)].join('\r\n'));
    assert.equal(json.stored, 2);
    assert.deepEqual(json.rejected, [{ line: 2, message: `The line is longer than ${limit} bytes.` }]);
  });

  it('stores batches of 500, each in one commit', async () => {
    commits.length = 0;
    const lines = Array.from(
      { length: 1_200 },
      (_, index) => `{"orderId":${index + 1},"orderState":"CLOSED"}`,
    );
    const { json } = await send(lines.join('\n'));
    assert.equal(json.stored, 1_200);
    assert.deepEqual(commits, [500, 500, 200]);
  });

  it('lists the first thousand rejected lines and counts the others', async () => {
    const { json } = await send('no\n'.repeat(1_500));
    assert.equal(json.rejected.length, REJECTED_LINES_TOLD_MAX);
    assert.equal((json as unknown as { rejectedCount: number }).rejectedCount, 1_500);
  });

  it('finds the same lines wherever the chunks end, between the bytes of a character too', async () => {
    const lines = ['{"orderId":1,"orderState":"OPEN","a":"é🎫é"}', '', '{"orderId":2,"orderState":"Zürich"}'];
    const bytes = Buffer.from(lines.join('\r\n'));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 12 }),
        async (cuts) => {
          const puts: OrderPut[] = [];
          const places = [0, ...cuts.sort((one, other) => one - other), bytes.length];
          const chunks = places.slice(1).map((place, index) => bytes.subarray(places[index], place));
          const result = await importOrders(Readable.from(chunks), importParts(puts));
          assert.deepEqual(
            puts.map(({ details }) => details),
            [lines[0], lines[2]],
          );
          assert.equal(result.received, 2);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('rejects a line that is not UTF-8 rather than storing something else', async () => {
    const puts: OrderPut[] = [];
    const bytes = Buffer.from('{"orderId":1,"orderState":"caf\xe9"}\n', 'latin1');
    const result = await importOrders(Readable.from([bytes]), importParts(puts));
    assert.deepEqual(result.rejected, [{ line: 1, message: 'The text is not UTF-8.' }]);
    assert.equal(puts.length, 0);
  });

  it('reads the next batch while one is stored, and no further', async () => {
    const store = new SlowStore();
    let read = 0;
    async function* chunks() {
      for (let batch = 0; batch < 5; batch += 1) {
        read = batch + 1;
        yield Buffer.from('{"orderId":1,"orderState":"OPEN"}\n'.repeat(500));
      }
    }
    const result = importOrders(chunks(), { ...importParts([]), store });
    await store.begun(1);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(read, 2);
    await store.letAllEnd();
    assert.equal((await result).stored, 2_500);
    assert.equal(store.mostAtOnce, 1);
  });

  it('says how much is stored when the database goes away in the middle', async () => {
    let batches = 0;
    const store = {
      async putOrders(puts: readonly OrderPut[]): Promise<OrderStored[]> {
        batches += 1;
        if (batches === 3)
          throw new AppError('store_unavailable', 'The disk is full.', { retryAfterSeconds: 2 });
        return puts.map(({ orderId, orderState }) => ({ orderId, orderState }));
      },
    };
    const lines = Readable.from([Buffer.from('{"orderId":1,"orderState":"OPEN"}\n'.repeat(2_000))]);
    await assert.rejects(importOrders(lines, { ...importParts([]), store }), {
      code: 'store_unavailable',
      retryAfterSeconds: 2,
      message:
        /^The disk is full\. Of the lines up to 1000, 1000 orders are stored; of those after it, none\./,
    });
  });

  it('ends after the batch that is being stored when the service stops', async () => {
    const stopping = new AbortController();
    const store = {
      async putOrders(puts: readonly OrderPut[]): Promise<OrderStored[]> {
        stopping.abort();
        return puts.map(({ orderId, orderState }) => ({ orderId, orderState }));
      },
    };
    const lines = Readable.from([Buffer.from('{"orderId":1,"orderState":"OPEN"}\n'.repeat(2_000))]);
    await assert.rejects(importOrders(lines, { ...importParts([]), store, stopping: stopping.signal }), {
      code: 'store_unavailable',
      message: /^The service is stopping\. Of the lines up to 500, 500 orders are stored/,
    });
  });

  it('holds no more than a line', () => {
    const splitter = new LineSplitter(10);
    const lines = (text: string) => {
      splitter.push(Buffer.from(text));
      const found: string[] = [];
      for (let line = splitter.next(); line !== undefined; line = splitter.next()) found.push(String(line));
      return found;
    };
    assert.deepEqual(lines('0123456789'), []);
    assert.deepEqual(lines('\r\nab'), ['0123456789']);
    assert.deepEqual(lines('0123456789'), []);
    for (let index = 0; index < 1_000; index += 1) assert.deepEqual(lines('x'.repeat(1_000)), []);
    assert.deepEqual(lines('x\nshort\n0123456789x\n'), ['too_long', 'short', 'too_long']);
    assert.equal(splitter.end(), undefined);
  });
});

describe('an import over a socket', () => {
  it('answers the failure while the client still sends, and keeps the connection', async () => {
    const trouble: { error?: Error } = {};
    const server = await startServer({
      wrapStore: (store) => ({
        ...store,
        putOrders: (puts, now) =>
          trouble.error ? Promise.reject(trouble.error) : store.putOrders(puts, now),
      }),
    });
    try {
      await server.createVenue();
      const address = await server.app.listen({ host: '127.0.0.1', port: 0 });
      trouble.error = new AppError('store_unavailable', 'The disk is full.');
      const line = `{"orderId":1,"orderState":"OPEN","x":"${'x'.repeat(2_000)}"}\n`;
      const answer = await fetch(`${address}${VENUE}/orders/import`, {
        method: 'POST',
        headers: { authorization: `Bearer ${server.parts.adminKey}`, 'content-type': 'application/x-ndjson' },
        body: line.repeat(5_000),
      });
      assert.equal(answer.status, 503);
      assert.match(
        ((await answer.json()) as { detail: string }).detail,
        /The disk is full\. Of the lines up to 0/,
      );
    } finally {
      await server.close();
    }
  });
});

function importParts(puts: OrderPut[]) {
  const store = {
    async putOrders(given: readonly OrderPut[]): Promise<OrderStored[]> {
      puts.push(...given);
      return given.map(({ orderId, orderState }) => ({ orderId, orderState }));
    },
  };
  // A clock that stands still: no turn of the event loop is needed.
  const turns = new WorkTurns({ now: () => 0 });
  return { institutionId: 1, store, clock: () => 5, turns, progressMs: 60_000, stopping: NEVER };
}

/** Counts the orders of each commit. */
function counting(store: Store, commits: number[]): Store {
  return {
    ...store,
    putOrders(puts, closedAt) {
      commits.push(puts.length);
      return store.putOrders(puts, closedAt);
    },
  };
}

/** Holds each commit until the test lets it end. */
class SlowStore {
  readonly commits: number[] = [];
  mostAtOnce = 0;
  #open: (() => void) | undefined;
  #running = 0;

  async putOrders(puts: readonly OrderPut[]): Promise<OrderStored[]> {
    this.commits.push(puts.length);
    this.#running += 1;
    this.mostAtOnce = Math.max(this.mostAtOnce, this.#running);
    await new Promise<void>((resolve) => {
      this.#open = resolve;
    });
    this.#running -= 1;
    return puts.map(({ orderId, orderState }) => ({ orderId, orderState }));
  }

  async letAllEnd(): Promise<void> {
    for (let open = this.#open; open; open = this.#open) {
      this.#open = undefined;
      open();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async begun(count: number): Promise<void> {
    while (this.commits.length < count) await new Promise((resolve) => setImmediate(resolve));
  }
}
