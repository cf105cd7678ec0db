import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { importOrders, REJECTED_LINES_TOLD_MAX } from '../src/http/order-import.ts';
import { WorkTurns } from '../src/http/work-turns.ts';
import { ORDER_BYTES_MAX } from '../src/model/limits.ts';
import type { OrderPut, OrderStored } from '../src/store/store.ts';
import { ADMIN_KEY, startServer, VENUE } from './support/http-server.ts';
import { until } from './support/until.ts';

/** A thread whose time passes only by work, and whose event loop turns only when the test says so. */
class FakeThread {
  now = 0;
  #callbacks: (() => void)[] = [];

  readonly turns = new WorkTurns({
    now: () => this.now,
    nextTurn: (callback) => this.#callbacks.push(callback),
  });

  /** Lets the event loop turn once, and promises go on. */
  async turn(): Promise<void> {
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    for (const callback of callbacks) callback();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** One of these does `steps` steps of this many milliseconds, and says when. */
async function work(
  thread: FakeThread,
  key: string,
  steps: number,
  stepMs: number,
  log: string[],
): Promise<void> {
  for (let left = steps; left > 0; ) {
    left = await thread.turns.run(key, (isOver) => {
      let now = left;
      do {
        thread.now += stepMs;
        log.push(key);
        now -= 1;
      } while (now > 0 && !isOver());
      return now;
    });
  }
}

describe('work in turns', () => {
  it('is done at once while the slice lasts, and then rests for four turns of the event loop', async () => {
    const thread = new FakeThread();
    const log: string[] = [];
    const done = work(thread, 'a', 25, 1, log);
    await new Promise((resolve) => setImmediate(resolve));
    const counts = [log.length];
    for (let turn = 0; turn < 8; turn += 1) {
      await thread.turn();
      counts.push(log.length);
    }
    assert.deepEqual(counts, [10, 10, 10, 10, 20, 20, 20, 20, 25]);
    await done;
  });

  it('counts what goes on between two steps of one turn: reading the next bytes is most of it at times', async () => {
    const thread = new FakeThread();
    await thread.turns.run('a', () => {});
    thread.now += 10;
    await thread.turns.run('a', () => {});
    let isDone = false;
    const waiting = thread.turns.run('a', () => {
      isDone = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(isDone, false);
    for (let turn = 0; turn < 4; turn += 1) await thread.turn();
    await waiting;
  });

  it('does not count the time of other turns', async () => {
    const thread = new FakeThread();
    for (let turn = 0; turn < 100; turn += 1) {
      await thread.turns.run('a', () => {});
      await thread.turn();
      thread.now += 10;
    }
  });

  it('lets each key have a slice in turn, however many wait with one', async () => {
    const thread = new FakeThread();
    const log: string[] = [];
    const all = [
      ...Array.from({ length: 20 }, () => work(thread, 'many', 20, 1, log)),
      work(thread, 'one', 20, 1, log),
      work(thread, 'other', 20, 1, log),
    ];
    for (let turn = 0; turn < 4 * 7; turn += 1) await thread.turn();
    const slices = log.filter((_, index) => index % 10 === 0);
    assert.deepEqual(slices.slice(0, 7), ['many', 'many', 'one', 'other', 'many', 'one', 'other']);
    for (let turn = 0; turn < 4 * 40; turn += 1) await thread.turn();
    await Promise.all(all);
  });

  it('goes on after a step that failed', async () => {
    const thread = new FakeThread();
    await assert.rejects(
      thread.turns.run('a', () => {
        thread.now += 10;
        throw new Error('no');
      }),
      /no/,
    );
    const next = thread.turns.run('a', () => 7);
    for (let turn = 0; turn < 4; turn += 1) await thread.turn();
    assert.equal(await next, 7);
  });
});

const LONG = ORDER_BYTES_MAX - 64;
function longLine(start: string, middle: string, end: string): string {
  return `${start}${middle.repeat(Math.floor((LONG - start.length - end.length) / middle.length))}${end}\n`;
}

/** Bodies that cost a reader more than a sender, and how many of their lines are received, and rejected. */
const BODIES: readonly [name: string, body: string, received: number, rejected: number][] = [
  ['no JSON', 'x\n'.repeat(100_000), 100_000, 100_000],
  ['broken objects', '{x}\n'.repeat(50_000), 50_000, 50_000],
  ['empty objects', '{}\n'.repeat(50_000), 50_000, 50_000],
  ['newlines', '\n'.repeat(400_000), 0, 0],
  ['blank lines', ' \t\r\n'.repeat(100_000), 0, 0],
  ['one endless line', 'x'.repeat(8 * 1024 * 1024), 1, 1],
  ['blanks without an end', ' '.repeat(8 * 1024 * 1024), 1, 1],
  ['a long line, wrong at the end', longLine('{"orderId":1,"orderState":"X","a":[', '1,', ''), 1, 1],
  ['a long line of names, wrong at the end', longLine('{', '"orderId":1,', ''), 1, 1],
  ['brackets', longLine('', '[', ''), 1, 1],
  [
    'a long line of deep lists',
    longLine('{"orderId":1,"orderState":"X","a":[', `${'['.repeat(98)}${']'.repeat(98)},`, '0]}'),
    1,
    0,
  ],
  [
    'a long line with an id that is too great',
    longLine('{"orderId":99999999999999999999,"orderState":"X","a":[', '1.0,', '0]}'),
    1,
    1,
  ],
  [
    'a long line with the greatest id',
    longLine('{"orderId":9223372036854775807,"orderState":"X","a":[', '1.0,', '0]}'),
    1,
    0,
  ],
];

describe('an import', () => {
  for (const [name, body, received, rejectedCount] of BODIES) {
    it(`never works for long without a rest: ${name}`, async () => {
      /** Every look at the clock takes a tenth of a millisecond, so a slice is over after a hundred. */
      let looks = 0;
      let rests = 0;
      let lastRestAt = 0;
      let longest = 0;
      const turns = new WorkTurns({
        now: () => {
          looks += 1;
          return looks / 10;
        },
        nextTurn(callback) {
          longest = Math.max(longest, looks - lastRestAt);
          lastRestAt = looks;
          rests += 1;
          setImmediate(callback);
        },
      });
      const before = looks;
      const result = await importOrders(chunksOf(body), { ...importParts([]), turns });
      assert.equal(result.received, received);
      assert.equal(result.rejectedCount, rejectedCount);
      assert.equal(result.rejected.length, Math.min(rejectedCount, REJECTED_LINES_TOLD_MAX));
      // Each line, or each stretch of a long one, was preceded by a look at the clock.
      const lines = body.split('\n').length - 1;
      assert.ok(looks - before >= lines, `${looks} looks for ${lines} lines`);
      assert.ok(rests >= lines / 200, `${rests} rests`);
      assert.ok(longest <= 105, `${longest} looks without a rest`);
    });
  }

  it('finds the same lines in chunks of any size, one byte each too', async () => {
    const line = fc.oneof(
      fc.constantFrom(
        '',
        ' ',
        '\t\r',
        'x',
        '{}',
        '{"orderId":1,"orderState":"A"}',
        '\ufeff{"orderId":2,"orderState":"é"}',
      ),
      fc.json(),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 12 }),
        fc.integer({ min: 1, max: 40 }),
        async (lines, size) => {
          const body = Buffer.from(lines.join('\n'));
          const chunks = Array.from({ length: Math.ceil(body.length / size) }, (_, index) =>
            body.subarray(index * size, (index + 1) * size),
          );
          const [whole, cut]: OrderPut[][] = [[], []];
          const results = [
            await importOrders(Readable.from([body]), importParts(whole as OrderPut[])),
            await importOrders(Readable.from(chunks), importParts(cut as OrderPut[])),
          ];
          assert.deepEqual(results[1], results[0]);
          assert.deepEqual(cut, whole);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('says the same of a line whether or not it still tells of it', async () => {
    const line = fc.oneof(
      fc.constantFrom(
        ' {"orderId":1,"orderState":"A"} ',
        '\ufeff{"orderId":1,"orderState":"A"}',
        '{"orderId":1.5,"orderState":"A"}',
        '{"a":{}',
        '"{}"',
        '{}}',
      ),
      fc.json(),
      fc.json().map((text) => `{"orderId":7,"orderState":"A","x":${text}}`),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(line, { minLength: 1, maxLength: 5 }), async (lines) => {
        const [first, late]: OrderPut[][] = [[], []];
        const told = await importOrders(
          Readable.from([Buffer.from(lines.join('\n'))]),
          importParts(first as OrderPut[]),
        );
        const flood = 'x\n'.repeat(REJECTED_LINES_TOLD_MAX);
        const untold = await importOrders(
          Readable.from([Buffer.from(flood + lines.join('\n'))]),
          importParts(late as OrderPut[]),
        );
        assert.equal(untold.rejectedCount - REJECTED_LINES_TOLD_MAX, told.rejectedCount);
        assert.deepEqual(late, first);
      }),
      { numRuns: 20 },
    );
  });

  it('of rubbish alone ends when the service stops', async () => {
    const stopping = new AbortController();
    async function* endless() {
      for (;;) {
        yield Buffer.from('x\n'.repeat(1_000));
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    setImmediate(() => stopping.abort());
    await assert.rejects(importOrders(endless(), { ...importParts([]), stopping: stopping.signal }), {
      code: 'store_unavailable',
      message: /^The service is stopping/,
    });
  });

  it('that waits for its sender ends when the service stops', async () => {
    const stopping = new AbortController();
    const silent = new Readable({ read() {} });
    const result = importOrders(silent.iterator({ destroyOnReturn: false }), {
      ...importParts([]),
      stopping: stopping.signal,
    });
    setImmediate(() => stopping.abort());
    await assert.rejects(result, { code: 'store_unavailable' });
    silent.destroy();
  });
});

describe('a closing beside an import of rubbish', () => {
  it('is answered while the import still runs, over one connection and over several', async () => {
    const server = await startServer();
    try {
      await server.createVenue();
      await server.createVenue('OTHER');
      const address = new URL(await server.app.listen({ host: '127.0.0.1', port: 0 }));
      const body = 'x\n'.repeat(200_000);
      const sockets = Array.from({ length: 4 }, () => {
        const socket = connect(Number(address.port), address.hostname);
        socket.setEncoding('utf8');
        socket.write(
          `POST /api/v1/institutions/OTHER/orders/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${ADMIN_KEY}\r\n` +
            `Content-Type: application/x-ndjson\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
        );
        let answer = '';
        socket.on('data', (text: string) => {
          answer += text;
        });
        return { socket, answer: () => answer };
      });
      let answeredBefore = 0;
      while (sockets.some(({ answer }) => answer() === '')) {
        const put = await fetch(`${address.origin}${VENUE}/orders/1`, {
          method: 'PUT',
          headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' },
          body: '{"orderId":1,"orderState":"CLOSED"}',
        });
        assert.equal(put.status, 200);
        await put.body?.cancel();
        answeredBefore += 1;
      }
      assert.ok(answeredBefore > 3, `${answeredBefore} were answered before the imports were`);
      for (const { socket, answer } of sockets) {
        if (!socket.closed) await once(socket, 'close');
        assert.match(answer(), /"rejectedCount":200000/);
      }
    } finally {
      await server.close();
    }
  });

  it('needs no turn of its own', async () => {
    const server = await startServer();
    try {
      await server.createVenue();
      // More than a slice of work stands in the line of another institution.
      await server.createVenue('OTHER');
      const rubbish = server.send('POST', '/api/v1/institutions/OTHER/orders/import', {
        body: 'x\n'.repeat(100_000),
        type: 'application/x-ndjson',
      });
      let isOver = false;
      rubbish.then(() => {
        isOver = true;
      });
      assert.equal((await server.putOrder('5')).status, 200);
      assert.equal(isOver, false);
      await until('the import is over', () => isOver);
    } finally {
      await server.close();
    }
  });
});

function chunksOf(body: string): Readable {
  const bytes = Buffer.from(body);
  const size = 64 * 1024;
  return Readable.from(
    Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
      bytes.subarray(index * size, (index + 1) * size),
    ),
  );
}

function importParts(puts: OrderPut[]) {
  const store = {
    async putOrders(given: readonly OrderPut[]): Promise<OrderStored[]> {
      puts.push(...given);
      return given.map(({ orderId, orderState }) => ({ orderId, orderState }));
    },
  };
  const { signal } = new AbortController();
  return {
    institutionId: 1,
    store,
    clock: () => 5,
    turns: new WorkTurns(),
    progressMs: 60_000,
    stopping: signal,
  };
}
