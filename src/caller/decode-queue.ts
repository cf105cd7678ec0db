/**
 * Decodes the starts of bodies in Brotli and zstd, with the decoders of Node.js, in a thread, one after the other.
 *
 * Promises that one decoder exists at a time, with a window that is bounded, so that however many callees send what wants
 * the most memory, it is wanted once; and that nobody waits longer than DECODE_MS. What is not decoded by then, or wants a
 * larger window, is not decoded at all.
 */
import {
  type BrotliDecompress,
  constants,
  createBrotliDecompress,
  createZstdDecompress,
  type ZstdDecompress,
} from 'node:zlib';
import type { InflatedStart, InflateLimits } from './inflate-start.ts';

export type SlowEncoding = 'br' | 'zstd';
export type DecodedStart = InflatedStart;

/** From the asking, waiting for others included. */
export const DECODE_MS = 50;
/** Bodies that wait; more are not decoded. */
const WAITING_MAX = 256;
/** 4 MiB: as much as Brotli's encoders use unless they are told to use more. */
const BROTLI_WINDOW_BITS_MAX = 22;
/** 8 MiB: as much as RFC 9659 lets content codings use. */
const ZSTD_WINDOW_BITS_MAX = 23;
/** Nothing is encoded to no more than this. A longer body that decodes to nothing is not of that encoding. */
const BYTES_OF_NOTHING_MAX: Readonly<Record<SlowEncoding, number>> = { br: 4, zstd: 16 };
/**
 * A body that is longer than what is wanted of it, and took longer than this, is followed by a rest of so many times as
 * long: some fill their whole window before they give out a byte, and would take a processor for good.
 */
const CHEAP_MS = 5;
const REST_FACTOR = 4;
/** Of decoded bytes: a decoder that is not wanted any more makes no more than these. */
const CHUNK_BYTES = 4 * 1024;

type Job = {
  readonly encoding: SlowEncoding;
  readonly encoded: Buffer;
  readonly limits: InflateLimits;
  readonly timer: NodeJS.Timeout;
  /** Undefined when nobody waits any more. */
  onDecoded: ((decoded: DecodedStart | undefined) => void) | undefined;
};

export class DecodeQueue {
  readonly #waiting: Job[] = [];
  readonly #now: () => number;
  #isBusy = false;

  /** `now`: milliseconds that only ever grow. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Tells what came of it, later or at once; undefined: it was not decoded. `encoded` may be cut anywhere. */
  decode(
    encoding: SlowEncoding,
    encoded: Buffer,
    limits: InflateLimits,
    onDecoded: (decoded: DecodedStart | undefined) => void,
  ): void {
    if (encoded.length === 0) return onDecoded({ kept: encoded, bytes: 0, isBroken: false });
    const isTooWide = encoding === 'br' && brotliWindowBits(encoded) > BROTLI_WINDOW_BITS_MAX;
    if (isTooWide || this.#waiting.length >= WAITING_MAX) return onDecoded(undefined);
    const timer = setTimeout(() => this.#tell(job, undefined), DECODE_MS);
    const job: Job = { encoding, encoded, limits, timer, onDecoded };
    this.#waiting.push(job);
    this.#next();
  }

  #next(): void {
    if (this.#isBusy) return;
    const job = this.#waiting.shift();
    if (job === undefined) return;
    if (job.onDecoded === undefined) return this.#next();
    this.#isBusy = true;
    this.#run(job);
  }

  #goOn(): void {
    this.#isBusy = false;
    this.#next();
  }

  #run(job: Job): void {
    const { keptMax, bytesMax } = job.limits;
    const decompress = open(job.encoding);
    const startedAt = this.#now();
    const pieces: Buffer[] = [];
    let bytes = 0;
    const end = (isBroken: boolean) => {
      // Its thread rests: the next one may have it, and its memory.
      decompress.removeAllListeners('data').destroy();
      this.#tell(job, { kept: Buffer.concat(pieces).subarray(0, keptMax), bytes, isBroken });
      const tookMs = this.#now() - startedAt;
      if (bytes <= bytesMax || tookMs <= CHEAP_MS) this.#goOn();
      else setTimeout(() => this.#goOn(), tookMs * REST_FACTOR).unref();
    };
    let isOver = false;
    const endOnce = (isBroken: boolean) => {
      if (isOver) return;
      isOver = true;
      end(isBroken);
    };
    decompress
      .on('data', (piece: Buffer) => {
        if (isOver) return;
        if (bytes < keptMax) pieces.push(piece);
        bytes += piece.length;
        if (bytes > bytesMax || job.onDecoded === undefined) endOnce(false);
      })
      .on('end', () => endOnce(bytes === 0 && job.encoded.length > BYTES_OF_NOTHING_MAX[job.encoding]))
      .on('error', () => endOnce(true))
      .end(job.encoded);
  }

  #tell(job: Job, decoded: DecodedStart | undefined): void {
    clearTimeout(job.timer);
    const { onDecoded } = job;
    job.onDecoded = undefined;
    onDecoded?.(decoded);
  }
}

function open(encoding: SlowEncoding): BrotliDecompress | ZstdDecompress {
  // Gives out at once what can be decoded, and is content with a stream that stops early.
  return encoding === 'br'
    ? createBrotliDecompress({
        chunkSize: CHUNK_BYTES,
        flush: constants.BROTLI_OPERATION_FLUSH,
        finishFlush: constants.BROTLI_OPERATION_FLUSH,
      })
    : createZstdDecompress({
        chunkSize: CHUNK_BYTES,
        flush: constants.ZSTD_e_flush,
        finishFlush: constants.ZSTD_e_flush,
        params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_BITS_MAX },
      });
}

/** What the first byte of a Brotli stream says of its window (RFC 7932, 9.1); infinite for what is none of these. */
export function brotliWindowBits(encoded: Buffer): number {
  const byte = encoded[0] as number;
  if ((byte & 1) === 0) return 16;
  const high = (byte >> 1) & 7;
  if (high !== 0) return 17 + high;
  const low = (byte >> 4) & 7;
  if (low === 0) return 17;
  // 1 is for large windows, an extension.
  return low === 1 ? Number.POSITIVE_INFINITY : 8 + low;
}
