/**
 * Goes over the bytes of a head, or of trailers, once, as they come, and stops at the first that is wrong (RFC 9112, sections
 * 2.2, 4 and 5). What it lets pass is a status line, and lines that are a name, a colon and a value, or go on with the value
 * before them. What they mean is for others; it keeps nothing.
 *
 * ```
 *   HTTP/1. ─> minor ─> blanks ─> status ─> reason ─┐     ┌────────────────────────┐
 *                                                   v     v                        │
 *                                 trailers ────> line start ───> name ─> value ─> line end
 *                                                   └─> empty line: done
 * ```
 *
 * What RFC 9112 lets a client take is taken, and said to be odd: a line feed alone as the end of a line, blanks before a
 * colon, blanks in the status line that are not one space, a value that goes on in the next line.
 */
import {
  CARRIAGE_RETURN,
  COLON,
  HTAB,
  IS_CONTROL,
  IS_IN_NAMES,
  isBlank,
  isDigit,
  LINE_FEED,
  ZERO,
} from './ascii.ts';

/** States. They are numbers because every part of every line is one. */
const PREFIX = 0;
const MINOR = 1;
const BEFORE_STATUS = 2;
const STATUS = 3;
const AFTER_STATUS = 4;
const REASON = 5;
const LINE_START = 6;
const NAME = 7;
const AFTER_NAME = 8;
const VALUE = 9;
const LINE_END = 10;
const EMPTY_LINE_END = 11;
const DONE = 12;

const HTTP_1 = Buffer.from('HTTP/1.');

const NO_STATUS_LINE = 'no status line';
const NO_HEADER = 'no header';

export class HeadScanner {
  /** What is wrong with the byte at which it stopped. */
  wrong: string | undefined;
  /** Something was taken that no careful callee sends. */
  isOdd = false;
  /** The digits of the status so far. */
  status = 0;
  #state = DONE;
  /** Bytes of the prefix, blanks before the status, or digits of it, that came. */
  #count = 0;
  /** There is a value that a line may go on with. */
  #hasField = false;

  beginHead(): void {
    this.#begin(PREFIX);
  }

  beginTrailers(): void {
    this.#begin(LINE_START);
  }

  /** The empty line at the end came. */
  get isDone(): boolean {
    return this.#state === DONE;
  }

  /** @returns where it stopped: behind the last line, at a wrong byte, or at `end` */
  scan(bytes: Buffer, from: number, end: number): number {
    let at = from;
    let state = this.#state;
    while (at < end && state !== DONE) {
      const byte = bytes[at] as number;
      switch (state) {
        case NAME:
          while (at < end && IS_IN_NAMES[bytes[at] as number] === 1) at += 1;
          if (at === end) break;
          state = AFTER_NAME;
          break;
        case AFTER_NAME:
          if (byte === COLON) state = VALUE;
          else if (isBlank(byte)) this.isOdd = true;
          else return this.#stop(at, NO_HEADER);
          at += 1;
          break;
        case VALUE:
          while (at < end && IS_CONTROL[bytes[at] as number] === 0) at += 1;
          if (at === end) break;
          state = this.#endOfLine(bytes[at] as number, VALUE);
          if (state === VALUE) return this.#stop(at, 'a control character in a header');
          at += 1;
          break;
        case LINE_END:
          if (byte !== LINE_FEED) return this.#stop(at, 'a carriage return within a line');
          state = LINE_START;
          at += 1;
          break;
        case LINE_START:
          if (IS_IN_NAMES[byte] === 1) {
            this.#hasField = true;
            state = NAME;
          } else if (byte === CARRIAGE_RETURN) state = EMPTY_LINE_END;
          else if (byte === LINE_FEED) {
            this.isOdd = true;
            state = DONE;
          } else if (isBlank(byte) && this.#hasField) {
            this.isOdd = true;
            state = VALUE;
          } else return this.#stop(at, NO_HEADER);
          at += 1;
          break;
        case EMPTY_LINE_END:
          if (byte !== LINE_FEED) return this.#stop(at, 'a carriage return within a line');
          state = DONE;
          at += 1;
          break;
        case PREFIX:
          if (byte !== HTTP_1[this.#count]) return this.#stop(at, NO_STATUS_LINE);
          this.#count += 1;
          if (this.#count === HTTP_1.length) state = MINOR;
          at += 1;
          break;
        case MINOR:
          if (!isDigit(byte)) return this.#stop(at, NO_STATUS_LINE);
          this.#count = 0;
          state = BEFORE_STATUS;
          at += 1;
          break;
        case BEFORE_STATUS:
          if (isBlank(byte)) {
            if (this.#count > 0 || byte === HTAB) this.isOdd = true;
            this.#count += 1;
            at += 1;
          } else {
            if (this.#count === 0) return this.#stop(at, NO_STATUS_LINE);
            this.#count = 0;
            state = STATUS;
          }
          break;
        case STATUS:
          // There is no status below 100 (RFC 9110, 15).
          if (!isDigit(byte) || (this.#count === 0 && byte === ZERO)) return this.#stop(at, NO_STATUS_LINE);
          this.status = this.status * 10 + byte - ZERO;
          if (this.status === 101) return this.#stop(at, 'another protocol, which nobody asked for');
          this.#count += 1;
          if (this.#count === 3) state = AFTER_STATUS;
          at += 1;
          break;
        case AFTER_STATUS:
          if (byte === HTAB) this.isOdd = true;
          if (!isBlank(byte) && byte !== CARRIAGE_RETURN && byte !== LINE_FEED)
            return this.#stop(at, NO_STATUS_LINE);
          state = REASON;
          break;
        case REASON:
          while (at < end && IS_CONTROL[bytes[at] as number] === 0) at += 1;
          if (at === end) break;
          state = this.#endOfLine(bytes[at] as number, REASON);
          if (state === REASON) {
            if (bytes[at] === 0) return this.#stop(at, 'a zero byte in the status line');
            // Nobody reads the reason (RFC 9112, 4), so nothing in it does harm.
            this.isOdd = true;
          }
          at += 1;
          break;
        default:
          throw new Error(`There is no state ${state}.`);
      }
    }
    this.#state = state;
    return at;
  }

  #begin(state: number): void {
    this.wrong = undefined;
    this.isOdd = false;
    this.status = 0;
    this.#state = state;
    this.#count = 0;
    this.#hasField = false;
  }

  /** @returns what is to come behind a byte that ends a line, or `inLine` for one that does not */
  #endOfLine(byte: number, inLine: number): number {
    if (byte === CARRIAGE_RETURN) return LINE_END;
    if (byte !== LINE_FEED) return inLine;
    this.isOdd = true;
    return LINE_START;
  }

  #stop(at: number, wrong: string): number {
    this.wrong = wrong;
    return at;
  }
}
