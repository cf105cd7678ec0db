import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { brotliCompressSync, constants, zstdCompressSync } from 'node:zlib';
import { brotliWindowBits, type DecodedStart, DecodeQueue } from '../src/caller/decode-queue.ts';

const LIMITS = { keptMax: 1_024, bytesMax: 1_024 };
const TEXT = 'thank you, '.repeat(50);
const queue = () => new DecodeQueue(() => performance.now());

describe('the queue of bodies to decode', () => {
  it('decodes one after the other, in the order in which they came', async (t) => {
    // However busy the machine is, none of them is given up.
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const decode = queue();
    const bodies = [
      brotliCompressSync(TEXT),
      zstdCompressSync(TEXT),
      brotliCompressSync(''),
      zstdCompressSync(''),
    ];
    const order: number[] = [];
    const decoded = await Promise.all(
      bodies.map(
        (body, index) =>
          new Promise<DecodedStart | undefined>((resolve) => {
            decode.decode(index % 2 === 0 ? 'br' : 'zstd', body, LIMITS, (start) => {
              order.push(index);
              resolve(start);
            });
          }),
      ),
    );
    assert.deepEqual(
      decoded.map((start) => start?.kept.toString()),
      [TEXT, TEXT, '', ''],
    );
    assert.deepEqual(order, [0, 1, 2, 3]);
  });

  it('gives up what has not had its turn in time', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const decode = queue();
    const told: (DecodedStart | undefined)[] = [];
    for (let n = 0; n < 3; n++)
      decode.decode('br', brotliCompressSync(TEXT), LIMITS, (start) => told.push(start));
    t.mock.timers.tick(49);
    assert.equal(told.length, 0);
    t.mock.timers.tick(1);
    assert.deepEqual(told, [undefined, undefined, undefined]);
  });

  it('takes no more than wait for it already', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const decode = queue();
    let told = 0;
    for (let n = 0; n < 300; n++) decode.decode('br', brotliCompressSync(TEXT), LIMITS, () => told++);
    assert.equal(told, 300 - 257);
    t.mock.timers.tick(50);
    assert.equal(told, 300);
  });

  it('goes on after a body that it gave up', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const decode = queue();
    decode.decode('zstd', zstdCompressSync(TEXT), LIMITS, () => {});
    t.mock.timers.tick(50);
    const next = await new Promise<DecodedStart | undefined>((resolve) => {
      decode.decode('zstd', zstdCompressSync(TEXT), LIMITS, resolve);
    });
    assert.equal(next?.kept.toString(), TEXT);
  });

  it('reads the window of a Brotli stream from its first byte', () => {
    for (let bits = 10; bits <= 24; bits++) {
      const params = { [constants.BROTLI_PARAM_LGWIN]: bits };
      assert.equal(brotliWindowBits(brotliCompressSync(TEXT, { params })), bits);
    }
    assert.equal(brotliWindowBits(Buffer.from([0x11])), Number.POSITIVE_INFINITY);
  });
});
