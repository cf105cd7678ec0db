/** Cuts a stream of bytes into lines, wherever its chunks begin and end, holding no more than one line of at most the given length. */

const NEWLINE = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** The bytes of a line without its end; or that it was longer than allowed, in which case its bytes are gone. */
export type Line = Buffer | 'too_long';

export class LineSplitter {
  readonly #bytesMax: number;
  /** The beginning of a line whose end has not come. */
  #parts: Buffer[] = [];
  #partBytes = 0;
  #isTooLong = false;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  *split(chunk: Buffer): Generator<Line> {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#keep(chunk.subarray(start, end));
      yield this.#takeLine();
      start = end + 1;
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start));
  }

  /** The last line, when no newline ended it. */
  *end(): Generator<Line> {
    if (this.#isTooLong || this.#partBytes > 0) yield this.#takeLine();
  }

  #keep(part: Buffer): void {
    this.#partBytes += part.length;
    // One byte more is allowed here, for the carriage return that may end the line.
    if (this.#isTooLong || this.#partBytes > this.#bytesMax + 1) {
      this.#isTooLong = true;
      this.#parts = [];
    } else {
      this.#parts.push(part);
    }
  }

  #takeLine(): Line {
    const line = this.#parts.length === 1 ? (this.#parts[0] as Buffer) : Buffer.concat(this.#parts);
    const isTooLong = this.#isTooLong;
    this.#parts = [];
    this.#partBytes = 0;
    this.#isTooLong = false;
    if (isTooLong) return 'too_long';
    const withoutReturn = line.at(-1) === CARRIAGE_RETURN ? line.subarray(0, -1) : line;
    return withoutReturn.length > this.#bytesMax ? 'too_long' : withoutReturn;
  }
}
