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
import { answer, type Script } from './support/scripted-callee.ts';

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
    it(`what says ${encoding} and is not is an ignored body`, () =>
      withCallee(encoded(encoding, Buffer.from('plain text')), async ({ callee, call }) => {
        for (let n = 0; n < 2; n++) assertDelivered(await call());
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

  for (const [encoding, bomb] of [
    ['gzip', gzipSync(mebibytes(40))],
    ['br', brotliCompressSync(mebibytes(40), { params: { [constants.BROTLI_PARAM_QUALITY]: 3 } })],
    ['zstd', zstdCompressSync(mebibytes(40))],
  ] as const) {
    it(`fifty ${encoding} bombs of 40 MiB at once cost neither time nor memory`, () =>
      withCallee(
        encoded(encoding, bomb),
        async ({ call }) => {
          const before = process.memoryUsage();
          const outcomes = await Promise.all(Array.from({ length: 50 }, () => call()));
          for (const outcome of outcomes) assertDelivered(outcome, 'z'.repeat(ANSWER_BYTES_KEPT));
          const after = process.memoryUsage();
          const grown = after.arrayBuffers + after.heapUsed - before.arrayBuffers - before.heapUsed;
          assert.ok(grown < 100 * 1024 * 1024, `${grown} bytes`);
        },
        { limits: { connectMs: 2_000, firstByteMs: 2_000, exchangeMs: 4_000 } },
      ));
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
