import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { constants, deflateRawSync, deflateSync, gzipSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { gunzipStart, inflateStart } from '../src/caller/inflate-start.ts';

const LIMITS = { keptMax: 1_024, bytesMax: 64 * 1024 };

/** The smallest blocks that zlib makes have 127 symbols, and after 64 of them nobody goes on. */
const ENOUGH_BYTES = 8_000;
const TEXT = fc
  .oneof(
    fc.uint8Array({ maxLength: 3_000 }),
    fc
      .array(fc.constantFrom('{"id": ', 'order', '12345', ' ', 'thank you', '\n', 'ééé'), { maxLength: 900 })
      .map((words) => Buffer.from(words.join(''))),
    fc
      .tuple(fc.uint8Array({ maxLength: 40 }), fc.nat(3_000))
      .map(([bytes, times]) => Buffer.alloc(bytes.length * times, Buffer.from(bytes))),
  )
  .map((bytes) => Buffer.from(bytes));
const OPTIONS = fc.record({
  level: fc.integer({ min: 0, max: 9 }),
  memLevel: fc.integer({ min: 1, max: 9 }),
  windowBits: fc.integer({ min: 9, max: 15 }),
  strategy: fc.constantFrom(
    constants.Z_DEFAULT_STRATEGY,
    constants.Z_FILTERED,
    constants.Z_HUFFMAN_ONLY,
    constants.Z_RLE,
    constants.Z_FIXED,
  ),
});
const ENCODINGS = [
  ['gzip', gzipSync, gunzipStart],
  ['zlib', deflateSync, inflateStart],
  ['bare deflate', deflateRawSync, inflateStart],
] as const;

describe('the start of a compressed body', () => {
  for (const [name, encode, decode] of ENCODINGS) {
    it(`in ${name} is what zlib compressed, whatever it was and however it was compressed`, () => {
      fc.assert(
        fc.property(TEXT, OPTIONS, (text, options) => {
          const decoded = decode(encode(text, options), LIMITS);
          assert.equal(decoded.isBroken, false);
          assert.deepEqual(decoded.kept, text.subarray(0, LIMITS.keptMax));
          if (text.length <= LIMITS.bytesMax && options.memLevel > 4)
            assert.equal(decoded.bytes, text.length);
          else assert.ok(decoded.bytes <= LIMITS.bytesMax + 0xffff);
        }),
        { numRuns: 400 },
      );
    });

    it(`in ${name} that is cut anywhere is the start of it, and not broken`, () => {
      fc.assert(
        fc.property(TEXT, OPTIONS, fc.double({ min: 0, max: 1, noNaN: true }), (text, options, share) => {
          const encoded = encode(text, options);
          const decoded = decode(encoded.subarray(0, Math.floor(encoded.length * share)), LIMITS);
          assert.equal(decoded.isBroken, false);
          assert.deepEqual(decoded.kept, text.subarray(0, decoded.kept.length));
        }),
        { numRuns: 200 },
      );
    });
  }

  it('that was changed in any place is decoded as far as zlib decodes it', () => {
    fc.assert(
      fc.property(
        TEXT,
        OPTIONS,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (text, options, place, change) => {
          const encoded = deflateRawSync(text, options);
          const at = place % Math.min(encoded.length, 300);
          encoded[at] = (encoded[at] as number) ^ change;
          let theirs: Buffer | undefined;
          try {
            theirs = inflateRawSync(encoded, { finishFlush: constants.Z_SYNC_FLUSH });
          } catch {}
          // The first byte tells whether it is bare; here it is.
          if (((encoded[0] as number) & 0x0f) === 8) return;
          const ours = inflateStart(encoded, LIMITS);
          if (theirs === undefined) {
            // zlib comes to the fault; this does too, unless it has had enough before.
            assert.ok(ours.isBroken || ours.bytes > ENOUGH_BYTES, `${ours.bytes} bytes`);
          } else {
            assert.equal(ours.isBroken, false);
            assert.deepEqual(ours.kept, theirs.subarray(0, ours.kept.length));
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it('costs a bounded amount of work: what is kept, or counted, or a number of blocks', () => {
    const zeros = gzipSync(Buffer.alloc(40 * 1024 * 1024)).subarray(0, 4_096);
    const counted = gunzipStart(zeros, LIMITS);
    assert.deepEqual(counted.kept, Buffer.alloc(LIMITS.keptMax));
    assert.ok(counted.bytes > LIMITS.bytesMax && counted.bytes <= LIMITS.bytesMax + 258, `${counted.bytes}`);
    // Stored blocks of nothing, as many as fit, and then a byte.
    const nothing = Buffer.from([0, 0, 0, 0xff, 0xff]);
    const late = Buffer.concat([...Array<Buffer>(63).fill(nothing), deflateRawSync('x')]);
    assert.equal(inflateStart(late, LIMITS).kept.toString(), 'x');
    const tooLate = Buffer.concat([...Array<Buffer>(64).fill(nothing), deflateRawSync('x')]);
    assert.deepEqual(
      { ...inflateStart(tooLate, LIMITS) },
      { kept: Buffer.alloc(0), bytes: 0, isBroken: false },
    );
  });

  it('may consist of several members, and what is behind the last is ignored', () => {
    const members = Buffer.concat([gzipSync('one '), gzipSync(''), gzipSync('two')]);
    assert.equal(gunzipStart(members, LIMITS).kept.toString(), 'one two');
    const trailed = Buffer.concat([members, Buffer.from('no gzip')]);
    assert.deepEqual(
      [gunzipStart(trailed, LIMITS).kept.toString(), gunzipStart(trailed, LIMITS).isBroken],
      ['one two', false],
    );
  });

  it('may have a head with a name, a comment and more', () => {
    const bare = deflateRawSync('text');
    const head = Buffer.from([0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3, 2, 0, 7, 7]);
    const names = Buffer.from('name\0comment\0\x12\x34', 'latin1');
    const whole = Buffer.concat([head, names, bare, Buffer.alloc(8)]);
    assert.equal(gunzipStart(whole, LIMITS).kept.toString(), 'text');
    for (let cut = 0; cut < head.length + names.length; cut++) {
      assert.equal(gunzipStart(whole.subarray(0, cut), LIMITS).isBroken, false);
    }
  });

  for (const [what, bytes] of [
    ['text', Buffer.from('plain text')],
    ['another method', Buffer.from([0x1f, 0x8b, 7, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3])],
    ['flags that nobody knows', Buffer.from([0x1f, 0x8b, 8, 0xe0, 0, 0, 0, 0, 0, 3, 1, 2, 3])],
    ['a block of no kind', Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 7])],
  ] as const) {
    it(`that says gzip and is ${what} is broken`, () => {
      assert.deepEqual(
        { ...gunzipStart(bytes, LIMITS) },
        { kept: Buffer.alloc(0), bytes: 0, isBroken: true },
      );
    });
  }
});
