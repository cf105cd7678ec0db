/**
 * Goes over the bytes of chunks once, as they come, and stops at the first that is wrong (RFC 9112, section 7.1).
 *
 * ```
 *   size ─> blanks, extensions ─> line end ─┬─> data ─> line end ─> size …
 *                                           └─> the size is 0: done, trailers follow
 * ```
 *
 * The data is moved together where it lies, so that a callee that sends every byte in a chunk of its own costs a look at each
 * byte, and nothing else. Extensions are looked at for control characters, and are not interpreted.
 */
import { CARRIAGE_RETURN, IS_CONTROL, isBlank, LINE_FEED, SEMICOLON } from './ascii.ts';

/** With its end. A size is short; the rest is for extensions, which nobody uses. */
const LINE_BYTES_MAX = 16 * 1024;
/** What a size may have come to before its last digit: it has twelve, leading zeros aside, which numbers hold without loss. */
const SIZE_BEFORE_LAST_DIGIT_MAX = 16 ** 11 - 1;
/** As much is moved byte by byte, because that is faster than a call. */
const SHORT_BYTES_MAX = 16;

/** States, in this order. They are numbers because each chunk goes through most of them. */
const SIZE = 0;
const AFTER_SIZE = 1;
const EXTENSIONS = 2;
const LINE_END = 3;
const DATA = 4;
const AFTER_DATA = 5;
const DATA_END = 6;
const DONE = 7;

const NO_DIGIT = 255;
const DIGITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  const digit = Number.parseInt(String.fromCharCode(byte), 16);
  return Number.isNaN(digit) ? NO_DIGIT : digit;
});

const NO_SIZE = 'a chunk without its size';

export class ChunkScanner {
  /** What is wrong with the byte at which it stopped. */
  wrong: string | undefined;
  /** Something was taken that no careful callee sends. */
  isOdd = false;
  /** Where the data of the last scan lies now. */
  dataStart = 0;
  dataEnd = 0;
  #state = DONE;
  /** What has not come of the chunk's data; before that its size, as far as its digits came. */
  #left = 0;
  /** What came of the line with the size. */
  #lineBytes = 0;

  begin(): void {
    this.wrong = undefined;
    this.isOdd = false;
    this.#state = SIZE;
    this.#left = 0;
    this.#lineBytes = 0;
  }

  /** The line of the last chunk came. */
  get isDone(): boolean {
    return this.#state === DONE;
  }

  /**
   * May change bytes before the place at which it stops, never behind it.
   * @returns where it stopped: behind the line of the last chunk, at a wrong byte, or at `end`
   */
  scan(bytes: Buffer, from: number, end: number): number {
    let at = from;
    let state = this.#state;
    let left = this.#left;
    let lineStart = from - this.#lineBytes;
    let wrong: string | undefined;
    let dataStart = from;
    let dataEnd = from;
    while (at < end && state !== DONE && wrong === undefined) {
      const byte = bytes[at] as number;
      if (state < DATA && at - lineStart >= LINE_BYTES_MAX) {
        wrong = `a line of more than ${LINE_BYTES_MAX} bytes between chunks`;
        break;
      }
      switch (state) {
        case SIZE: {
          const digit = DIGITS[byte] as number;
          if (digit === NO_DIGIT) {
            if (at === lineStart) wrong = NO_SIZE;
            state = AFTER_SIZE;
          } else if (left > SIZE_BEFORE_LAST_DIGIT_MAX) wrong = 'a chunk of a size beyond counting';
          else {
            // There were zeros only, and more digits follow.
            if (left === 0 && at > lineStart) this.isOdd = true;
            left = left * 16 + digit;
            at += 1;
            // Nearly always its line ends here.
            if (
              left > 0 &&
              at + 1 < Math.min(end, lineStart + LINE_BYTES_MAX) &&
              bytes[at] === CARRIAGE_RETURN &&
              bytes[at + 1] === LINE_FEED
            ) {
              state = DATA;
              at += 2;
            }
          }
          break;
        }
        case AFTER_SIZE:
          if (byte === CARRIAGE_RETURN || byte === LINE_FEED) {
            state = LINE_END;
            if (byte === CARRIAGE_RETURN) at += 1;
            else this.isOdd = true;
          } else if (byte === SEMICOLON) {
            state = EXTENSIONS;
            at += 1;
          } else if (isBlank(byte)) {
            this.isOdd = true;
            at += 1;
          } else wrong = NO_SIZE;
          break;
        case EXTENSIONS: {
          const lineEnd = Math.min(end, lineStart + LINE_BYTES_MAX);
          while (at < lineEnd && IS_CONTROL[bytes[at] as number] === 0) at += 1;
          if (at === lineEnd) break;
          if (bytes[at] === CARRIAGE_RETURN || bytes[at] === LINE_FEED) state = AFTER_SIZE;
          else wrong = 'a control character in the extension of a chunk';
          break;
        }
        case LINE_END:
          if (byte === LINE_FEED) {
            state = left === 0 ? DONE : DATA;
            at += 1;
          } else wrong = 'a carriage return within a line';
          break;
        case DATA: {
          const next = Math.min(at + left, end);
          if (dataStart === dataEnd) {
            dataStart = at;
            dataEnd = next;
          } else dataEnd = move(bytes, at, next, dataEnd);
          left -= next - at;
          if (left === 0) state = AFTER_DATA;
          at = next;
          if (left === 0 && at + 1 < end && bytes[at] === CARRIAGE_RETURN && bytes[at + 1] === LINE_FEED) {
            state = SIZE;
            at += 2;
            lineStart = at;
          }
          break;
        }
        case AFTER_DATA:
          if (byte === CARRIAGE_RETURN) at += 1;
          else this.isOdd = true;
          state = DATA_END;
          break;
        case DATA_END:
          if (byte === LINE_FEED) {
            state = SIZE;
            at += 1;
            lineStart = at;
          } else wrong = 'a chunk that is longer than it says';
      }
    }
    this.wrong = wrong;
    this.dataStart = dataStart;
    this.dataEnd = dataEnd;
    this.#state = state;
    this.#left = left;
    this.#lineBytes = at - lineStart;
    return at;
  }
}

/** @returns the end of what was moved */
function move(bytes: Buffer, from: number, to: number, target: number): number {
  const end = target + to - from;
  if (to - from > SHORT_BYTES_MAX) bytes.copyWithin(target, from, to);
  else for (let at = from; at < to; at += 1) bytes[target + at - from] = bytes[at] as number;
  return end;
}
