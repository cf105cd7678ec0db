import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  brotliCompressSync,
  constants,
  deflateRawSync,
  deflateSync,
  gzipSync,
  zstdCompressSync,
} from 'node:zlib';
import { ANSWER_BYTES_KEPT, ANSWER_BYTES_MAX } from '../src/model/limits.ts';
import { assertDelivered, assertFailed, until, withCallee } from './support/callee-calls.ts';
import { answer, type Script, startCallee } from './support/scripted-callee.ts';

const encoded =
  (encoding: string, body: Buffer): Script =>
  (socket) =>
    socket.write(answer('200 OK', body, `Content-Encoding: ${encoding}`));

describe('an answer that is compressed although nobody asked for it', () => {
  const text = 'thank you, '.repeat(50);
  for (const [encoding, body] of [
    ['gzip', gzipSync(text)],
    ['GZip', gzipSync(text)],
    ['x-gzip', gzipSync(text)],
    ['deflate', deflateSync(text)],
    ['deflate', deflateRawSync(text)],
    ['br', brotliCompressSync(text)],
    ['zstd', zstdCompressSync(text)],
    ['identity', Buffer.from(text)],
  ] as const) {
    it(`${encoding} is decoded, and its connection serves the next call`, () =>
      withCallee(encoded(encoding, body), async ({ callee, call }) => {
        for (let n = 0; n < 3; n++) assertDelivered(await call(), text);
        assert.equal(callee.accepted, 1);
      }));
  }

  it('in pieces, it is put together', () =>
    withCallee(
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n');
        const bytes = gzipSync(text);
        for (const byte of bytes) socket.write(`1\r\n${String.fromCharCode(byte)}\r\n`, 'latin1');
        socket.write('0\r\n\r\n');
      },
      async ({ call }) => assertDelivered(await call(), text),
    ));

  it('with an encoding that we do not know it is kept as it came', () =>
    withCallee(encoded('rot13', Buffer.from('gunax lbh')), async ({ call }) =>
      assertDelivered(await call(), 'gunax lbh'),
    ));

  for (const encoding of ['gzip', 'deflate', 'br', 'zstd']) {
    it(`what says ${encoding} and is not is kept as it came`, () =>
      withCallee(encoded(encoding, Buffer.from('plain text')), async ({ callee, call }) => {
        for (let n = 0; n < 2; n++) assertDelivered(await call(), 'plain text');
        assert.equal(callee.accepted, 1);
      }));
  }

  it('with a stream that stops early, what was decoded is kept', () =>
    withCallee(encoded('gzip', gzipSync(text).subarray(0, -8)), async ({ call }) =>
      assertDelivered(await call(), text),
    ));

  it('with a stream that breaks, what was decoded is kept', () =>
    withCallee(
      (socket) => {
        const start = gzipSync('before the break', { finishFlush: constants.Z_SYNC_FLUSH });
        socket.write(
          `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: ${start.length + 4}\r\n\r\n`,
        );
        socket.write(start, () => setTimeout(() => socket.write(Buffer.alloc(4, 0xff)), 20));
      },
      async ({ call }) => assertDelivered(await call(), 'before the break'),
    ));

  it('with a window that is too large, it is kept as it came, and its connection too', () => {
    // The shortest stream with a window of 16 MiB: nothing.
    const body = Buffer.from([0x0f, 0x03]);
    return withCallee(encoded('br', body), async ({ callee, call }) => {
      for (let n = 0; n < 2; n++) assertDelivered(await call(), body.toString());
      assert.equal(callee.accepted, 1);
    });
  });

  it('by many at once, small ones in gzip are all decoded', () =>
    withCallee(encoded('gzip', gzipSync(text)), async ({ call }) => {
      for (const outcome of await Promise.all(Array.from({ length: 500 }, () => call())))
        assertDelivered(outcome, text);
    }));

  it('and has no body, it is delivered', () =>
    withCallee(encoded('gzip', Buffer.alloc(0)), async ({ call }) => assertDelivered(await call(), '')));

  it('and is reset before its end, it is a reset', () =>
    withCallee(
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5000\r\n\r\n');
        socket.write(gzipSync(text), () => setTimeout(() => socket.resetAndDestroy(), 20));
      },
      async ({ call }) => {
        const outcome = await call();
        assertFailed(outcome, 'reset');
        assert.equal(outcome.answer?.bodyStart, text);
      },
    ));
});

describe('an answer that grows', () => {
  const mebibytes = (count: number) => Buffer.alloc(count * 1024 * 1024, 'z');

  it('a gzip bomb is dropped as soon as 64 KiB are decoded, although it goes on', () =>
    withCallee(
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n');
        // 10 MiB in 10 KiB, and then silence: only counting what is decoded ends this in time.
        socket.write(gzipSync(mebibytes(10)).subarray(0, -100));
      },
      async ({ caller, call }) => {
        const before = process.memoryUsage().rss;
        const outcome = await call();
        assertDelivered(outcome, 'z'.repeat(ANSWER_BYTES_KEPT));
        await until(() => caller.openConnections === 0, 'the connection is dropped');
        assert.ok(process.memoryUsage().rss - before < 64 * 1024 * 1024);
      },
    ));

  const brotli = (windowBits: number) =>
    brotliCompressSync(mebibytes(40), {
      params: { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_LGWIN]: windowBits },
    });
  /** By hand (RFC 8878, 3.1.1): no encoder makes a window that is larger than what it is given. 40 MiB of one letter. */
  const zstd = (windowBits: number) =>
    Buffer.concat([
      Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, (windowBits - 10) << 3]),
      // Blocks of 128 KiB, which repeat a byte.
      ...Array.from({ length: 320 }, (_, n) => Buffer.from([n === 319 ? 0x03 : 0x02, 0, 0x10, 0x7a])),
    ]);
  const BOMBS = [
    ['gzip', 'gzip', gzipSync(mebibytes(40))],
    ['deflate', 'deflate', deflateSync(mebibytes(40))],
    ['bare deflate', 'deflate', deflateRawSync(mebibytes(40))],
    ['br with a window of 4 MiB', 'br', brotli(22)],
    ['br with a window of 16 MiB', 'br', brotli(24)],
    ['zstd with a window of 8 MiB', 'zstd', zstd(23)],
    ['zstd with a window of 128 MiB', 'zstd', zstd(27)],
  ] as const;

  it('as a bomb of any kind, 64 at once, costs no memory, no call, and no other callee', () =>
    withCallee(
      (socket, { text }) => {
        const [, encoding, bomb] = BOMBS[Number(text.split(' ')[1]?.slice(1))] as (typeof BOMBS)[number];
        encoded(encoding, bomb)(socket, { text, connection: 0, onConnection: 0 });
      },
      async ({ call }) => {
        const other = await startCallee((socket) => socket.write(answer('200 OK', 'fine')));
        let most = 0;
        const watching = setInterval(() => {
          most = Math.max(most, process.memoryUsage.rss());
        }, 2);
        try {
          for (const [index, [what]] of BOMBS.entries()) {
            assertDelivered(await call(`${other.origin}/`), 'fine');
            const before = process.memoryUsage.rss();
            most = before;
            let isOver = false;
            const bombs = Promise.all(Array.from({ length: 64 }, () => call(`/${index}`))).finally(() => {
              isOver = true;
            });
            do assertDelivered(await call(`${other.origin}/`), 'fine');
            while (!isOver);
            for (const outcome of await bombs) assertDelivered(outcome);
            const grown = (most - before) / 1024 / 1024;
            assert.ok(grown < 64, `${what}: ${grown} MiB`);
          }
        } finally {
          clearInterval(watching);
          await other.close();
        }
      },
    ));

  for (const [what, encoding, bomb] of BOMBS.slice(0, 3)) {
    it(`the start of a bomb in ${what} is known all the same`, () =>
      withCallee(encoded(encoding, bomb), async ({ call }) => {
        for (const outcome of await Promise.all(Array.from({ length: 64 }, () => call())))
          assertDelivered(outcome, 'z'.repeat(ANSWER_BYTES_KEPT));
      }));
  }

  it('compressed bytes have a limit too', () =>
    withCallee(
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n');
        // Empty gzip members: bytes without end that decode to nothing.
        const nothing = gzipSync('');
        socket.write(
          Buffer.concat(Array<Buffer>(Math.ceil(ANSWER_BYTES_MAX / nothing.length) + 1).fill(nothing)),
        );
      },
      async ({ caller, call }) => {
        const outcome = await call();
        assertDelivered(outcome, '');
        await until(() => caller.openConnections === 0, 'the connection is dropped');
      },
    ));
});
