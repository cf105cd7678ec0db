/** Answers byte for byte: what they say, where they end, and what is none. */
import assert from 'node:assert/strict';
import { get } from 'node:http';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type AnswerHead, ProtocolError } from '../src/caller/answer-head.ts';
import { AnswerReader, noKnownHead } from '../src/caller/answer-reader.ts';
import { assertDelivered, assertFailed, until, withCallee } from './support/callee-calls.ts';
import { startCallee } from './support/scripted-callee.ts';

type Read = {
  head: AnswerHead | undefined;
  body: string;
  isOver: boolean;
  /** The end of the connection is the end of the answer. */
  endsWithConnection: boolean;
  /** Nothing came behind the end. */
  isAll: boolean;
};

/** Reads `text` in the pieces that end at `cuts`; each piece is overwritten after it was read, as those of sockets are. */
function read(text: string, cuts: readonly number[] = [], reader = new AnswerReader(noKnownHead())): Read {
  const result: Read = { head: undefined, body: '', isOver: false, endsWithConnection: false, isAll: true };
  const sink = {
    onHead(head: AnswerHead) {
      assert.equal(result.head, undefined);
      result.head = head;
    },
    onBody(bytes: Buffer) {
      assert.ok(bytes.length > 0);
      result.body += bytes.toString('latin1');
    },
    onEnough() {
      assert.fail('nothing here is too long');
    },
  };
  reader.begin();
  const bytes = Buffer.from(text, 'latin1');
  let from = 0;
  for (const cut of [...cuts, bytes.length]) {
    const piece = Buffer.alloc(cut - from + 3, 'HTTP/1.1 200 spare');
    bytes.copy(piece, 0, from, cut);
    result.isAll = reader.read(piece, cut - from, sink) && result.isAll;
    piece.fill('#');
    from = cut;
  }
  result.isOver = reader.isOver;
  result.endsWithConnection = reader.endsWithConnection;
  return result;
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
          const text = answer.text + (isOpen ? '' : behind);
          const cuts = at.map((place) => place % (text.length + 1)).sort((a, b) => a - b);
          const whole = read(text, cuts);
          assert.equal(whole.body, answer.body);
          assert.equal(whole.isOver, !isOpen);
          assert.equal(whole.endsWithConnection, isOpen);
          assert.equal(whole.isAll, isOpen || behind === '');
          assert.deepEqual(whole.head, read(text).head);
        },
      ),
    );
  });

  it('that was not all sent is not over', () => {
    fc.assert(
      fc.property(ANSWER, fc.nat(), ({ text, how }, at) => {
        fc.pre(how !== 'until_close');
        assert.equal(read(text.slice(0, at % text.length)).isOver, false);
      }),
    );
  });

  it('is read as Node.js reads it', async (t) => {
    const samples = fc.sample(ANSWER, { numRuns: 50, seed: 7 });
    const callee = await startCallee((socket, { text }) => {
      socket.end(samples[Number(text.split(' ')[1]?.slice(1))]?.text ?? '', 'latin1');
    });
    t.after(() => callee.close());
    for (const [index, { text }] of samples.entries()) {
      const theirs = await new Promise<{ headers: object; body: string }>((resolve, reject) => {
        get(`${callee.origin}/${index}`, { agent: false }, (response) => {
          let body = '';
          response.setEncoding('latin1').on('data', (part) => {
            body += part;
          });
          response.on('end', () => resolve({ headers: response.headers, body }));
        }).on('error', reject);
      });
      const ours = read(text);
      assert.deepEqual(ours.head?.answer.headers, { ...theirs.headers });
      assert.equal(ours.body, theirs.body);
    }
  });

  it('with the head of the one before it has the same head object, and another has not', () => {
    const reader = new AnswerReader(noKnownHead());
    const text = `${head(['Content-Length: 2'])}ok`;
    const first = read(text, [], reader).head;
    assert.ok(first);
    assert.equal(read(text, [], reader).head, first);
    assert.deepEqual(read(text, [5, 20], reader).head, first);
    const other = read(text.replace('200', '500'), [], reader);
    assert.equal(other.head?.answer.status, 500);
    assert.equal(other.body, 'ok');
  });

  it('is known by all of its head, not by its start', () => {
    const reader = new AnswerReader(noKnownHead());
    read(head(['Content-Length: 0']), [], reader);
    const longer = read(`${head(['Content-Length: 0']).slice(0, -2)}X: y\r\n\r\n`, [], reader);
    assert.deepEqual(longer.head?.answer.headers, { 'content-length': '0', x: 'y' });
  });

  for (const [what, text, expected] of [
    ['a value over several lines', head(['X: a', ' b', '\tc', 'Content-Length: 0']), { x: 'a b c' }],
    [
      'a name that objects have too',
      head(['constructor: a', 'Constructor: b', 'Content-Length: 0']),
      { constructor: 'a, b' },
    ],
    ['the name __proto__', head(['__proto__: a', 'Content-Length: 0']), JSON.parse('{"__proto__": "a"}')],
    ['a value in UTF-8', head(['X: \u00c3\u00a9', 'Content-Length: 0']), { x: 'é' }],
    ['an empty value', head(['X:', 'Content-Length: 0']), { x: '' }],
    ['a length that is told twice', head(['Content-Length: 0', 'Content-Length: 0']), {}],
  ] as const) {
    it(`may have ${what}`, () => {
      const { head: found, isOver } = read(text);
      assert.ok(isOver);
      for (const [name, value] of Object.entries(expected)) {
        assert.deepEqual(Object.getOwnPropertyDescriptor(found?.answer.headers, name)?.value, value);
      }
    });
  }

  for (const [what, text] of [
    ['a line that ends without a carriage return', 'HTTP/1.1 200 OK\nContent-Length: 0\n\r\n\r\n'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status below 100', 'HTTP/1.1 099 OK\r\n\r\n'],
    ['HTTP/2', 'HTTP/2 200\r\n\r\n'],
    ['a header without a colon', head(['X'])],
    ['a header without a name', head([': x'])],
    ['a space before the colon', head(['X : y'])],
    ['a zero byte in a value', head(['X: a\0b'])],
    ['a carriage return in a value', head(['X: a\rb'])],
    ['two lengths', head(['Content-Length: 1', 'Content-Length: 2'])],
    ['a negative length', head(['Content-Length: -1'])],
    ['a length with a sign', head(['Content-Length: +1'])],
    ['a length beyond counting', head(['Content-Length: 9999999999999999'])],
    ['a length and chunks', head(['Content-Length: 1', 'Transfer-Encoding: chunked'])],
    ['a chunk without a size', `${head(['Transfer-Encoding: chunked'])}\r\n`],
    ['a chunk with a size that is none', `${head(['Transfer-Encoding: chunked'])}0x1\r\na\r\n`],
    ['a chunk that is longer than it says', `${head(['Transfer-Encoding: chunked'])}1\r\nab\r\n`],
    [
      'a chunk’s size in a line without end',
      `${head(['Transfer-Encoding: chunked'])}1;${'x'.repeat(20_000)}`,
    ],
    ['trailers without end', `${head(['Transfer-Encoding: chunked'])}0\r\n${'X: y\r\n'.repeat(5_000)}`],
    ['a change to another protocol', 'HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n'],
  ] as const) {
    it(`has not ${what}`, () => {
      assert.throws(() => read(text), ProtocolError);
      const everyByte = Array.from({ length: Math.min(text.length, 500) }, (_, at) => at);
      assert.throws(() => read(text, everyByte), ProtocolError);
    });
  }
});

it('may have spaces before the extension of a chunk, which Node.js refuses', () => {
  assert.equal(read(`${head(['Transfer-Encoding: chunked'])}1 ; x\r\na\r\n0 \r\n\r\n`).body, 'a');
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

describe('answers over a real connection', () => {
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
