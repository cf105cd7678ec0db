/**
 * The body of an answer: nobody wants it, but for its first bytes, which the call log keeps (contract, section 2.3).
 * Promises to hold a bounded part of it, whatever a callee sends, and never to fail: a body that cannot be decoded, or not
 * within what `Decoding` has for it, is kept as it came.
 */
import { ANSWER_BYTES_KEPT } from '../model/limits.ts';
import { type DecodedStart, DecodeQueue, type SlowEncoding } from './decode-queue.ts';
import { gunzipStart, inflateStart } from './inflate-start.ts';

/** The body of one answer. */
export type Body = {
  /** False as soon as there are more bytes than anybody reads. Bytes are copied, as far as they are kept. */
  add(chunk: Buffer): boolean;
  /** Tells the first bytes, as text, at once or a little later. Once, and nothing is added after it. */
  finish(onText: (text: string) => void): void;
  /** Nobody waits for it any more. */
  drop(): void;
};

/** Counts bytes and keeps the first of them. */
export class PlainBody implements Body {
  readonly #bytesMax: number;
  #bytes = 0;
  #kept: Buffer | undefined;
  #keptLength = 0;

  /** `bytesMax`: bytes that anybody reads. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(chunk: Buffer): boolean {
    if (this.#keptLength < ANSWER_BYTES_KEPT) this.#keep(chunk);
    this.#bytes += chunk.length;
    return this.#bytes <= this.#bytesMax;
  }

  finish(onText: (text: string) => void): void {
    onText(
      this.#kept === undefined
        ? ''
        : textOf(this.#kept.subarray(0, this.#keptLength), this.#bytes > this.#keptLength),
    );
  }

  drop(): void {}

  #keep(chunk: Buffer): void {
    if (this.#kept === undefined) {
      // Most bodies come in one piece.
      this.#kept = Buffer.from(chunk.subarray(0, ANSWER_BYTES_KEPT));
      this.#keptLength = this.#kept.length;
      return;
    }
    if (this.#kept.length < ANSWER_BYTES_KEPT) this.#kept = grown(this.#kept, ANSWER_BYTES_KEPT);
    this.#keptLength += chunk.copy(this.#kept, this.#keptLength);
  }
}

/** `isCut`: where the body was cut, a character may be cut too: `stream` leaves it out. */
function textOf(kept: Buffer, isCut: boolean): string {
  return isCut
    ? new TextDecoder('utf-8', { ignoreBOM: true }).decode(kept, { stream: true })
    : kept.toString();
}

function grown(bytes: Buffer, length: number): Buffer {
  const larger = Buffer.allocUnsafe(length);
  bytes.copy(larger);
  return larger;
}

export type Encoding = 'gzip' | 'deflate' | SlowEncoding;

const ENCODINGS: ReadonlyMap<string, Encoding> = new Map([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['deflate', 'deflate'],
  ['br', 'br'],
  ['zstd', 'zstd'],
]);

/** What a `content-encoding` says; undefined for what we cannot or need not decode. */
export function encodingOf(contentEncoding: string | undefined): Encoding | undefined {
  return contentEncoding === undefined ? undefined : ENCODINGS.get(contentEncoding.trim().toLowerCase());
}

/** How much of an encoded body is held until it is decoded: what the kept bytes are made of, in all but strange cases. */
const HELD_BYTES_MAX: Readonly<Record<Encoding, number>> = {
  gzip: 4 * 1024,
  deflate: 4 * 1024,
  br: 16 * 1024,
  // Its blocks, of up to 128 KiB decoded, come out whole.
  zstd: 64 * 1024,
};
const HELD_BYTES_MIN = 512;
/** Of all bodies of a caller together: beyond that they are kept as they come. */
const HELD_BYTES_OF_ALL_MAX = 4 * 1024 * 1024;

/** What all encoded bodies of a caller share. */
export class Decoding {
  readonly queue: DecodeQueue;
  #heldBytes = 0;

  /** `now`: milliseconds that only ever grow. */
  constructor(now: () => number) {
    this.queue = new DecodeQueue(now);
  }

  /** Whether so many more bytes may be held. */
  take(bytes: number): boolean {
    if (this.#heldBytes + bytes > HELD_BYTES_OF_ALL_MAX) return false;
    this.#heldBytes += bytes;
    return true;
  }

  giveBack(bytes: number): void {
    this.#heldBytes -= bytes;
  }
}

/** Holds the first bytes of an encoded body until it is whole, and decodes them then. */
export class EncodedBody implements Body {
  readonly #encoding: Encoding;
  readonly #bytesMax: number;
  readonly #decoding: Decoding;
  #bytes = 0;
  #held: Buffer | undefined;
  #heldLength = 0;
  /** Taken of what all may hold. */
  #takenBytes = 0;
  /** Bytes that were held when it was looked how much they decode to. */
  #lookedAt = 0;
  #isOver = false;

  /** `bytesMax`: bytes that anybody reads, encoded or decoded. */
  constructor(encoding: Encoding, bytesMax: number, decoding: Decoding) {
    this.#encoding = encoding;
    this.#bytesMax = bytesMax;
    this.#decoding = decoding;
  }

  add(chunk: Buffer): boolean {
    if (this.#heldLength === this.#bytes) this.#hold(chunk);
    this.#bytes += chunk.length;
    return this.#bytes <= this.#bytesMax;
  }

  /**
   * Looks whether what came so far decodes to more bytes than anybody reads, of a body that is long in coming: a callee
   * that sends a bomb and then nothing is not waited for.
   */
  look(onEnough: () => void): void {
    if (this.#isOver || this.#heldLength < Math.max(1, this.#lookedAt * 2)) return;
    this.#lookedAt = this.#heldLength;
    this.#decode(this.#bytesMax, (decoded) => {
      if (!this.#isOver && decoded !== undefined && decoded.bytes > this.#bytesMax) onEnough();
    });
  }

  finish(onText: (text: string) => void): void {
    this.#isOver = true;
    const held = this.#heldBytes();
    // Decoded bytes behind the kept ones are not even counted.
    this.#decode(ANSWER_BYTES_KEPT, (decoded) => {
      this.drop();
      if (decoded === undefined || (decoded.isBroken && decoded.bytes === 0)) {
        onText(textOf(held.subarray(0, ANSWER_BYTES_KEPT), this.#bytes > ANSWER_BYTES_KEPT));
      } else {
        onText(textOf(decoded.kept, decoded.bytes > decoded.kept.length));
      }
    });
  }

  drop(): void {
    this.#isOver = true;
    this.#decoding.giveBack(this.#takenBytes);
    this.#takenBytes = 0;
    this.#held = undefined;
  }

  #heldBytes(): Buffer {
    return this.#held?.subarray(0, this.#heldLength) ?? Buffer.alloc(0);
  }

  #hold(chunk: Buffer): void {
    const wanted = Math.min(this.#heldLength + chunk.length, HELD_BYTES_MAX[this.#encoding]);
    const room = this.#held?.length ?? 0;
    if (wanted > room) {
      const length = Math.min(Math.max(wanted, room * 2, HELD_BYTES_MIN), HELD_BYTES_MAX[this.#encoding]);
      if (this.#decoding.take(length - this.#takenBytes)) {
        this.#takenBytes = length;
        this.#held = this.#held === undefined ? Buffer.allocUnsafe(length) : grown(this.#held, length);
      }
    }
    if (this.#held !== undefined) this.#heldLength += chunk.copy(this.#held, this.#heldLength);
  }

  #decode(bytesMax: number, onDecoded: (decoded: DecodedStart | undefined) => void): void {
    const limits = { keptMax: ANSWER_BYTES_KEPT, bytesMax };
    const encoded = this.#heldBytes();
    switch (this.#encoding) {
      case 'gzip':
        onDecoded(gunzipStart(encoded, limits));
        break;
      case 'deflate':
        onDecoded(inflateStart(encoded, limits));
        break;
      default:
        this.#decoding.queue.decode(this.#encoding, encoded, limits, onDecoded);
    }
  }
}
