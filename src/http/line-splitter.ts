/**
 * Cuts a stream of bytes into lines, wherever its chunks begin and end, holding no more than one line of at most the given
 * length: a line that came in a million chunks is kept in one piece, and of a blank line nothing is made at all.
 */

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const KEPT_BYTES_FIRST = 4 * 1024;

/**
 * The bytes of a line without its end, which hold until the next call; that it was longer than allowed, in which case its
 * bytes are gone; or that it has only blanks of JSON (RFC 8259, section 2).
 */
export type Line = Buffer | 'too_long' | 'blank';

export class LineSplitter {
  readonly #bytesMax: number;
  #chunk: Buffer = Buffer.alloc(0);
  /** In the chunk, where the next line begins. */
  #at = 0;
  /** The beginning of a line whose end has not come, in the first bytes. */
  #kept: Buffer = Buffer.alloc(0);
  #keptBytes = 0;
  #isTooLong = false;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** More of the stream, when `next` found no line any more. */
  push(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#at = 0;
  }

  /** Undefined when the line that begins now has no end yet. */
  next(): Line | undefined {
    const chunk = this.#chunk;
    const start = this.#at;
    const end = chunk.indexOf(NEWLINE, start);
    if (end === -1) {
      if (start < chunk.length) this.#keep(chunk, start, chunk.length);
      this.#at = chunk.length;
      return undefined;
    }
    this.#at = end + 1;
    if (this.#keptBytes === 0 && !this.#isTooLong) return this.#lineOf(chunk, start, end);
    this.#keep(chunk, start, end);
    return this.#takeKept();
  }

  /** The last line, when no newline ended it. */
  end(): Line | undefined {
    return this.#keptBytes > 0 || this.#isTooLong ? this.#takeKept() : undefined;
  }

  #keep(chunk: Buffer, start: number, end: number): void {
    const bytes = this.#keptBytes + end - start;
    // One byte more is allowed here, for the carriage return that may end the line.
    if (this.#isTooLong || bytes > this.#bytesMax + 1) {
      this.#isTooLong = true;
      this.#keptBytes = 0;
      return;
    }
    if (bytes > this.#kept.length) {
      const room = Math.max(bytes, Math.min(2 * this.#kept.length, this.#bytesMax + 1), KEPT_BYTES_FIRST);
      const larger = Buffer.allocUnsafeSlow(room);
      this.#kept.copy(larger, 0, 0, this.#keptBytes);
      this.#kept = larger;
    }
    chunk.copy(this.#kept, this.#keptBytes, start, end);
    this.#keptBytes = bytes;
  }

  #takeKept(): Line {
    const bytes = this.#keptBytes;
    const isTooLong = this.#isTooLong;
    this.#keptBytes = 0;
    this.#isTooLong = false;
    return isTooLong ? 'too_long' : this.#lineOf(this.#kept, 0, bytes);
  }

  #lineOf(bytes: Buffer, start: number, end: number): Line {
    if (isBlank(bytes, start, end)) return end - start > this.#bytesMax + 1 ? 'too_long' : 'blank';
    const lineEnd = bytes[end - 1] === CARRIAGE_RETURN ? end - 1 : end;
    return lineEnd - start > this.#bytesMax ? 'too_long' : bytes.subarray(start, lineEnd);
  }
}

function isBlank(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x09 && byte !== CARRIAGE_RETURN) return false;
  }
  return true;
}
