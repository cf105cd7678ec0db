/**
 * The body of an answer: nobody wants it, but for its first bytes, which the call log keeps (contract, section 2.3).
 * Promises to hold no more than `ANSWER_BYTES_KEPT` of it and to decode no more than a little over the given limit,
 * whatever a callee sends. Never fails: a body that does not decode is an ignored body.
 */
import {
  type BrotliDecompress,
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  type Gunzip,
  type Inflate,
  type InflateRaw,
  type ZstdDecompress,
} from 'node:zlib';
import { ANSWER_BYTES_KEPT } from '../model/limits.ts';

type Decompress = Gunzip | Inflate | InflateRaw | BrotliDecompress | ZstdDecompress;

/** Counts bytes and keeps the first of them. */
export class BodyStart {
  /** Bytes that anybody reads. */
  readonly bytesMax: number;
  #bytes = 0;
  #kept: Buffer | undefined;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** False as soon as there are more bytes than anybody reads. It keeps a copy. */
  add(chunk: Buffer): boolean {
    const keep = ANSWER_BYTES_KEPT - this.#bytes;
    if (keep > 0) {
      const start = chunk.subarray(0, keep);
      this.#kept = this.#kept === undefined ? Buffer.from(start) : Buffer.concat([this.#kept, start]);
    }
    this.#bytes += chunk.length;
    return this.#bytes <= this.bytesMax;
  }

  text(): string {
    if (this.#kept === undefined) return '';
    // Where the body was cut, a character may be cut too: `stream` leaves it out.
    return this.#bytes > this.#kept.length
      ? new TextDecoder('utf-8', { ignoreBOM: true }).decode(this.#kept, { stream: true })
      : this.#kept.toString();
  }
}

/** Makes the decoder that a `content-encoding` asks for; undefined for one that we cannot or need not decode. */
export function decoderFor(contentEncoding: string | undefined): (() => Decompress) | 'deflate' | undefined {
  switch (contentEncoding?.trim().toLowerCase()) {
    case 'gzip':
    case 'x-gzip':
      return () => createGunzip(ZLIB_OPTIONS);
    case 'deflate':
      return 'deflate';
    case 'br':
      return () =>
        createBrotliDecompress({
          flush: constants.BROTLI_OPERATION_FLUSH,
          finishFlush: constants.BROTLI_OPERATION_FLUSH,
        });
    case 'zstd':
      return () =>
        createZstdDecompress({ flush: constants.ZSTD_e_flush, finishFlush: constants.ZSTD_e_flush });
    default:
      return undefined;
  }
}

/** Gives out at once what can be decoded, and is content with a stream that stops early. */
const ZLIB_OPTIONS = { flush: constants.Z_SYNC_FLUSH, finishFlush: constants.Z_SYNC_FLUSH };

/** Decodes a body into a `BodyStart`, a chunk at a time, until there is enough of it. */
export class BodyDecoder {
  readonly #start: BodyStart;
  readonly #onFull: () => void;
  readonly #make: (() => Decompress) | 'deflate';
  #encodedBytes = 0;
  #decompress: Decompress | undefined;
  #isFinished = false;
  #onFinish: (() => void) | undefined;

  /** `onFull` is called once, when there are more bytes than anybody reads: encoded or decoded. */
  constructor(make: (() => Decompress) | 'deflate', start: BodyStart, onFull: () => void) {
    this.#make = make;
    this.#start = start;
    this.#onFull = onFull;
  }

  add(chunk: Buffer): void {
    this.#encodedBytes += chunk.length;
    if (this.#encodedBytes > this.#start.bytesMax) {
      this.#onFull();
      return;
    }
    if (this.#isFinished || chunk.length === 0) return;
    this.#decompress ??= this.#open(chunk);
    this.#decompress.write(Buffer.from(chunk)); // it is read later
  }

  /** Calls back when all that was added is decoded, or cannot be. */
  end(onFinish: () => void): void {
    if (this.#decompress === undefined || this.#isFinished) {
      onFinish();
      return;
    }
    this.#onFinish = onFinish;
    this.#decompress.end();
  }

  destroy(): void {
    this.#isFinished = true;
    this.#onFinish = undefined;
    this.#decompress?.destroy();
  }

  #open(chunk: Buffer): Decompress {
    const decompress = this.#make === 'deflate' ? openDeflate(chunk) : this.#make();
    const finish = () => {
      if (this.#isFinished) return;
      this.#isFinished = true;
      this.#onFinish?.();
    };
    return decompress
      .on('data', (decoded: Buffer) => {
        if (!this.#isFinished && !this.#start.add(decoded)) this.#onFull();
      })
      .on('end', finish)
      .on('error', finish);
  }
}

/** Callees that say `deflate` send zlib's format, as the standard says, or the bare one; the first byte tells which. */
function openDeflate(chunk: Buffer): Decompress {
  return ((chunk[0] as number) & 0x0f) === 0x08
    ? createInflate(ZLIB_OPTIONS)
    : createInflateRaw(ZLIB_OPTIONS);
}
