/** Answers byte for byte: what they say, where they end, and what is none. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { noKnownHead } from '../src/caller/answer-reader.ts';
import { haveSameHeaders } from '../src/model/outcome.ts';
import {
  type AnswerRow,
  bytesOf,
  everyByte,
  type ReadResult,
  readAnswer,
  readAnswerGroups,
  readingOf,
} from './support/answer-rows.ts';
import { assertDelivered, assertFailed, until, withCallee } from './support/callee-calls.ts';
import { SeededRandom } from './support/crash-random.ts';
import { startNodeClient } from './support/node-client.ts';

const GROUPS = readAnswerGroups();
/** Rows as short as this are cut at every place. */
const SHORT_BYTES_MAX = 300;
const RANDOM_CUTS = 20;
const SEED = Math.floor(Math.random() * 1_000_000_000);

describe(`answers as data (cuts of seed ${SEED})`, () => {
  const random = new SeededRandom(SEED);
  for (const { title, rows } of GROUPS) {
    describe(title, () => {
      for (const row of rows) {
        it(`${row.what}: ${describeExpected(row)}`, () => {
          const bytes = bytesOf(row.bytes);
          const { expect } = row;
          const whole = readAnswer(bytes);
          assertExpected(whole, row);
          for (const cuts of cutsOf(bytes.length, random)) {
            const reading = readAnswer(bytes, cuts);
            assert.deepEqual(readingOf(reading), readingOf(whole), `cut at ${JSON.stringify(cuts)}`);
          }
          const slow = readAnswer(bytes, everyByte(bytes.length));
          assert.deepEqual(readingOf(slow), readingOf(whole), 'byte by byte');
          const known = noKnownHead();
          for (const what of ['with a head that is not known yet', 'with one that is']) {
            assert.deepEqual(readingOf(readAnswer(bytes, [], { known })), readingOf(whole), what);
          }
          if ('protocol' in expect) assert.equal(slow.overAt, bytes.length, 'refused at the last byte');
          if ('keepsAlive' in expect && slow.end === 'whole')
            assert.equal(slow.overAt, bytes.length - (expect.beyond ?? 0), 'over where it ends');
        });
      }
    });
  }

  it('there are as many as are promised, and each says why', () => {
    const least = {
      'status lines': 30,
      headers: 60,
      lengths: 40,
      'transfer codings': 40,
      chunks: 60,
      trailers: 15,
    };
    for (const [title, count] of Object.entries(least)) {
      const found = GROUPS.find((group) => group.title === title);
      assert.ok((found?.rows.length ?? 0) >= count, title);
    }
    const rows = GROUPS.flatMap((group) => group.rows);
    assert.ok(rows.length >= 300);
    assert.deepEqual(
      rows
        .filter(({ why }) => !/RFC \d{4}, (\d|appendix)|contract, 2\.3|bounded/.test(why))
        .map(({ what }) => what),
      [],
    );
  });
});

describe('answers as data, for Node’s own client', () => {
  let client: Awaited<ReturnType<typeof startNodeClient>>;
  before(async () => {
    client = await startNodeClient();
  });
  after(() => client.close());

  for (const { title, rows } of GROUPS) {
    it(`${title}: it makes the same of them, or the row says why not`, async () => {
      for (const row of rows) {
        const theirs = await client.read({ bytes: bytesOf(row.bytes), closes: row.closes === true });
        const isSame = JSON.stringify(theirs) === JSON.stringify(asNodeWould(row));
        assert.equal(isSame, row.nodeDiffers === undefined, `${row.what}: ${JSON.stringify(theirs)}`);
      }
    });
  }
});

/** What Node's client would have to come to if it read as we do. */
function asNodeWould({ expect, closes }: AnswerRow): object {
  if ('keepsAlive' in expect)
    return { end: 'whole', status: expect.status, body: bytesOf(expect.body).toString('latin1') };
  if ('waits' in expect && closes === undefined) return { end: 'waits' };
  return { end: 'enough' in expect ? 'enough' : 'error' };
}

function describeExpected({ expect, closes }: AnswerRow): string {
  if ('protocol' in expect) return 'is refused at once';
  if ('waits' in expect) return closes ? 'is cut off' : 'is not whole yet';
  if ('enough' in expect) return 'is read enough';
  return expect.keepsAlive ? 'is taken' : 'is taken, and its connection is not used again';
}

function assertExpected(result: ReadResult, { expect, closes }: AnswerRow): void {
  const body = result.body.toString('latin1');
  const isOpen = result.end === 'until_close';
  assert.equal(result.head?.answer.status, expect.status);
  if ('enough' in expect) {
    assert.equal(result.end, 'enough');
    assert.equal(body.length, expect.bodyBytes);
    return;
  }
  assert.equal(body, bytesOf(expect.body ?? '').toString('latin1'));
  if ('protocol' in expect) {
    assert.equal(result.end, 'protocol');
    assert.ok(result.refusal?.includes(expect.protocol), result.refusal);
  } else if ('waits' in expect) {
    assert.ok(result.end === 'waits' || (isOpen && !closes), result.end);
  } else {
    assert.ok(result.end === 'whole' || (isOpen && closes), `${result.end} ${result.refusal}`);
    assert.equal(result.idleMs > 0, expect.keepsAlive, 'keepsAlive');
    assert.equal(result.hasBeyond, expect.beyond !== undefined, 'beyond');
    for (const [name, value] of Object.entries(expect.headers ?? {}))
      assert.equal(result.head?.answer.headers[name], value, name);
  }
}

/** Every place for a short one; a few at random for a long one. */
function cutsOf(length: number, random: SeededRandom): readonly (readonly number[])[] {
  if (length <= SHORT_BYTES_MAX) return [...everyByte(length)].map((at) => [at]);
  return Array.from({ length: RANDOM_CUTS }, () =>
    Array.from({ length: random.integer(1, 5) }, () => random.integer(1, length - 1)).sort((a, b) => a - b),
  );
}

const head = (lines: readonly string[]) =>
  `HTTP/1.1 200 OK\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`;
const LINE = fc.stringMatching(/^[!-~ ]{0,20}$/);
const CHUNK = fc.string({ minLength: 1, maxLength: 40, unit: 'binary-ascii' });

/** An answer, its body, and how it ends. */
const ANSWER = fc
  .record({
    provisional: fc.array(
      fc.constantFrom('HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n'),
    ),
    filler: fc.array(
      LINE.map((line) => `X-Filler: ${line}`),
      { maxLength: 3 },
    ),
    chunks: fc.array(CHUNK, { maxLength: 4 }),
    how: fc.constantFrom('length', 'chunked', 'until_close'),
    trailer: fc.array(
      LINE.map((line) => `X-Trailer: ${line}`),
      { maxLength: 2 },
    ),
    extension: fc.constantFrom('', ';a=b', ';a="x y"'),
  })
  .map(({ provisional, filler, chunks, how, trailer, extension }) => {
    const body = chunks.join('');
    const framed = {
      length: [`Content-Length: ${body.length}`, body],
      until_close: ['Connection: close', body],
      chunked: [
        'Transfer-Encoding: chunked',
        [
          ...chunks.map((chunk) => `${chunk.length.toString(16)}${extension}\r\n${chunk}\r\n`),
          '0\r\n',
          ...trailer.map((line) => `${line}\r\n`),
          '\r\n',
        ].join(''),
      ],
    }[how] as [string, string];
    return { how, body, text: `${provisional.join('')}${head([...filler, framed[0]])}${framed[1]}` };
  });

describe('an answer', () => {
  it('is the same wherever it is cut, and ends where it ends', () => {
    fc.assert(
      fc.property(
        ANSWER,
        fc.array(fc.nat()),
        fc.constantFrom('', 'HTTP/1.1 500 Next\r\n\r\n'),
        (answer, at, behind) => {
          const isOpen = answer.how === 'until_close';
          const bytes = bytesOf(answer.text + (isOpen ? '' : behind));
          const cuts = at.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b);
          const read = readAnswer(bytes, cuts, { answerEnd: answer.text.length });
          assert.equal(read.body.toString('latin1'), answer.body);
          assert.equal(read.end, isOpen ? 'until_close' : 'whole');
          assert.equal(read.hasBeyond, !isOpen && behind !== '');
          assert.deepEqual(readingOf(read), readingOf(readAnswer(bytes)));
        },
      ),
    );
  });

  it('that was not all sent is not over', () => {
    fc.assert(
      fc.property(ANSWER, fc.nat(), ({ text, how }, at) => {
        fc.pre(how !== 'until_close');
        assert.equal(readAnswer(bytesOf(text.slice(0, at % text.length))).end, 'waits');
      }),
    );
  });

  it('with the head of the one before it has the same head object, and another has not', () => {
    const known = noKnownHead();
    const text = `${head(['Content-Length: 2'])}ok`;
    const first = readAnswer(bytesOf(text), [], { known }).head;
    assert.ok(first);
    assert.equal(readAnswer(bytesOf(text), [], { known }).head, first);
    assert.deepEqual(readAnswer(bytesOf(text), [5, 20], { known }).head, first);
    const other = readAnswer(bytesOf(text.replace('200', '500')), [], { known });
    assert.equal(other.head?.answer.status, 500);
    assert.equal(other.body.toString(), 'ok');
  });

  it('is known by all of its head, not by its start', () => {
    const known = noKnownHead();
    readAnswer(bytesOf(head(['Content-Length: 0'])), [], { known });
    const longer = readAnswer(bytesOf(`${head(['Content-Length: 0']).slice(0, -2)}X: y\r\n\r\n`), [], {
      known,
    });
    assert.deepEqual({ ...longer.head?.answer.headers }, { 'content-length': '0', x: 'y' });
  });

  it('whose head is known and odd, or known and behind an interim one, leaves no connection', () => {
    for (const text of ['HTTP/1.1 204 No\n\n', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n']) {
      const known = noKnownHead();
      for (let n = 0; n < 3; n++) assert.equal(readAnswer(bytesOf(text), [], { known }).idleMs, 0);
    }
    const known = noKnownHead();
    const plain = bytesOf('HTTP/1.1 204 No\r\n\r\n');
    assert.equal(readAnswer(plain, [], { known }).end, 'whole');
    const stray = bytesOf('\r\nHTTP/1.1 204 No\r\n\r\n');
    const halfLineEnd = readAnswer(bytesOf('\rHTTP/1.1 204 No\r\n\r\n'), [1], { known });
    assert.equal(halfLineEnd.end, 'protocol');
    for (const [bytes, idleMs] of [
      [plain, 1_000],
      [stray, 0],
      [plain, 1_000],
    ] as const)
      assert.equal(readAnswer(bytes, [], { known }).idleMs, idleMs);
  });

  it('has no header that did not come', () => {
    const { headers } = readAnswer(bytesOf(head(['Content-Length: 0']))).head?.answer ?? {};
    assert.ok(headers);
    for (const name of ['constructor', 'toString', 'valueOf', 'hasOwnProperty', '__proto__'])
      assert.equal(headers[name], undefined, name);
  });

  it('has the headers that the call log gives back', () => {
    const { headers } =
      readAnswer(bytesOf(head(['Constructor: a', '__proto__: b', 'X: c', 'Content-Length: 0']))).head
        ?.answer ?? {};
    assert.ok(headers);
    const kept = JSON.parse(JSON.stringify(headers));
    assert.ok(haveSameHeaders(headers, kept) && haveSameHeaders(kept, headers));
    assert.ok(!haveSameHeaders(headers, { ...kept, y: 'd' }));
  });

  it('in chunks of one byte is handed on in few parts', () => {
    const bytes = bytesOf([head(['Transfer-Encoding: chunked']), ['1\r\nx\r\n', 5_000], '0\r\n\r\n']);
    const { sinkCalls, body } = readAnswer(bytes, [10_000, 20_000]);
    assert.equal(body.length, 5_000);
    assert.equal(sinkCalls, 1 + 3);
  });

  it('holds no more than its head, however it trickles', () => {
    for (const [prefix, end] of [
      ['', 'whole'],
      ['y', 'protocol'],
    ] as const) {
      const line = `X: ${prefix}`;
      const room = 64 * 1024 - head([line, 'Content-Length: 0']).length;
      const bytes = bytesOf([
        head([line, 'Content-Length: 0']).slice(0, 17 + line.length),
        ['y', room + prefix.length],
        '\r\nContent-Length: 0\r\n\r\n',
      ]);
      const { heldBytesMax, ...result } = readAnswer(bytes, everyByte(bytes.length));
      assert.equal(result.end, end);
      assert.ok(heldBytesMax <= 64 * 1024, `${heldBytesMax} bytes`);
    }
  });

  it('has no line of sizes over its limit, wherever it is cut', () => {
    for (const [zeros, end] of [
      [16 * 1024 - 3, 'whole'],
      [16 * 1024 - 2, 'protocol'],
      [16 * 1024 - 1, 'protocol'],
    ] as const) {
      const bytes = bytesOf([head(['Transfer-Encoding: chunked']), ['0', zeros], '2\r\nok\r\n0\r\n\r\n']);
      assert.equal(readAnswer(bytes).end, end, `${zeros} zeros`);
      assert.equal(readAnswer(bytes, everyByte(bytes.length)).end, end, `${zeros} zeros, byte by byte`);
    }
  });

  it('that cannot be read is shown, as far as it came', async () => {
    for (const [said, shown] of [
      ['SSH-2.0-OpenSSH_9.2p1\r\n', /no status line: "SSH-2\.0-OpenSSH_9\.2p1\\r\\n"$/],
      ['HTTP/1.1 200 OK\r\nX: y\r\nX-(: z\r\n', /no header: "X-\(: z\\r\\n"$/],
      ['HTTP/1.1 200 OK\r\nX: a\0b\r\n', /a control character in a header: "X: a\\u0000b\\r\\n"$/],
      [`HTTP/1.1 200 OK\r\n(${'x'.repeat(5_000)}`, /no header: "\(x{99}…"$/],
    ] as const) {
      await withCallee(
        (socket) => socket.write(said, 'latin1'),
        async ({ call }) => assertFailed(await call(), 'protocol', shown),
      );
    }
  });
});

describe('how long an idle connection is kept', () => {
  for (const [what, lines, keptMs] of [
    ['without a word', [], 4_000],
    ['as long as the callee says, less a second', ['Keep-Alive: timeout=10, max=5'], 9_000],
    ['a minute at the longest', ['Keep-Alive: timeout=3600'], 60_000],
    ['not at all when that is a second', ['Keep-Alive: timeout=1'], 0],
  ] as const) {
    it(`${what}: ${keptMs} ms`, async (t) => {
      t.mock.timers.enable({ apis: ['setInterval'] });
      let now = 0;
      await withCallee(
        (socket) => socket.write(head([...lines, 'Content-Length: 0'])),
        async ({ callee, caller, call }) => {
          assertDelivered(await call());
          now += keptMs - 1;
          t.mock.timers.tick(100);
          assert.equal(caller.openConnections, keptMs === 0 ? caller.openConnections : 1);
          now += 2;
          // Nobody has looked at the clock since; the next call does.
          assertDelivered(await call());
          assert.equal(callee.accepted, 2);
          await until(() => caller.openConnections === (keptMs === 0 ? 0 : 1), 'the first one is closed');
        },
        { now: () => now },
      );
    });
  }

  it('HTTP/1.0 keeps none, unless it says so', async () => {
    for (const [line, accepted] of [
      ['X: y', 2],
      ['Connection: Keep-Alive', 1],
    ] as const) {
      await withCallee(
        (socket) => socket.write(`HTTP/1.0 200 OK\r\n${line}\r\nContent-Length: 0\r\n\r\n`),
        async ({ callee, call }) => {
          for (let n = 0; n < 2; n++) assertDelivered(await call());
          assert.equal(callee.accepted, accepted);
        },
      );
    }
  });

  it('one on which the callee speaks without being asked is closed, and spoils no call', () =>
    withCallee(
      (socket) => {
        socket.write(head(['Content-Length: 0']));
        setTimeout(() => socket.write('HTTP/1.1 500 Unasked\r\nContent-Length: 0\r\n\r\n'), 5);
      },
      async ({ callee, caller, call }) => {
        for (let n = 1; n <= 3; n++) {
          assertDelivered(await call());
          await until(() => caller.openConnections === 0, 'the connection is closed');
          assert.equal(callee.accepted, n);
        }
      },
    ));
});

/** So long that a test which waits for them does not end. */
const ENDLESS_LIMITS = { connectMs: 600_000, firstByteMs: 600_000, exchangeMs: 600_000 };

describe('answers over a real connection', () => {
  for (const said of [
    'S',
    'HTTP/2',
    'HTTP/1.1 20x',
    'HTTP/1.1 200 OK\nX-(',
    'HTTP/1.1 200 OK\r\nX\u0001',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2x',
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'f'.repeat(13)}`,
  ]) {
    it(`${JSON.stringify(said)} is refused at once, though the callee says no more`, () =>
      withCallee(
        (socket) => socket.write(said, 'latin1'),
        async ({ call }) => assertFailed(await call(), 'protocol', /^The answer is not HTTP\/1\.1: /),
        { limits: ENDLESS_LIMITS },
      ));
  }

  for (const [what, said] of [
    ['with line feeds alone', 'HTTP/1.1 200 OK\nContent-Length: 2\n\nok'],
    ['behind 100', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    ['behind an empty line', '\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    ['with a padded length', 'HTTP/1.1 200 OK\r\nContent-Length: 002\r\n\r\nok'],
    ['with both lengths', `${head(['Content-Length: 9', 'Transfer-Encoding: chunked'])}2\r\nok\r\n0\r\n\r\n`],
    [
      'in HTTP/1.0 with chunks',
      'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n02\r\nok\r\n0\r\n\r\n',
    ],
    ['with 40 KiB of head', head([`X: ${'y'.repeat(40 * 1024)} `, 'Content-Length: 2']).concat('ok')],
  ] as const) {
    it(`one ${what} is delivered, and its connection is not used again`, () =>
      withCallee(
        (socket) => socket.write(said),
        async ({ callee, caller, call }) => {
          for (let n = 1; n <= 2; n++) {
            assertDelivered(await call(), 'ok');
            await until(() => caller.openConnections === 0, 'the connection is closed');
            assert.equal(callee.accepted, n);
          }
        },
      ));
  }

  it('one without end is read enough: it is delivered, and its connection is dropped', async () => {
    for (const said of ['1\r\nx\r\n', `1;${'e'.repeat(10_000)}\r\nx\r\n`]) {
      await withCallee(
        (socket) => {
          socket.write(head(['Transfer-Encoding: chunked']));
          // No more than its limit: a reader without one would wait for the rest.
          socket.write(said.repeat(Math.ceil((256 * 1024) / said.length)));
        },
        async ({ caller, call }) => {
          const outcome = await call();
          assertDelivered(outcome);
          assert.match(outcome.answer?.bodyStart ?? '', /^x+$/);
          await until(() => caller.openConnections === 0, 'the connection is dropped');
        },
        { limits: ENDLESS_LIMITS },
      );
    }
  });

  it('interim heads without end are refused', () =>
    withCallee(
      (socket) => socket.write('HTTP/1.1 100 Continue\r\n\r\n'.repeat(3_000)),
      async ({ call }) => assertFailed(await call(), 'protocol', /heads of more than 65536 bytes/),
      { limits: ENDLESS_LIMITS },
    ));

  it('a decoder that is slower than the connection does not touch the call after it', () =>
    withCallee(
      (socket, { text }) =>
        socket.write(
          text.includes('/bomb')
            ? head(['Content-Encoding: br', 'Content-Length: 4']).concat('\x0b\x02\x80x')
            : head(['Content-Length: 0']),
          'latin1',
        ),
      async ({ call }) => {
        const outcomes = await Promise.all(
          Array.from({ length: 40 }, (_, n) => call(n % 2 === 0 ? '/bomb' : '/plain')),
        );
        for (const outcome of outcomes) assertDelivered(outcome);
      },
    ));

  it('a request that would end its own line is not sent', () =>
    withCallee(
      (socket) => socket.write(head(['Content-Length: 0'])),
      async ({ callee, call }) => {
        for (const path of ['/a\r\nX: y', '/a\nb', '/é', '/a\0']) assertFailed(await call(path), 'protocol');
        assert.equal(callee.accepted, 0);
      },
    ));
});
