/**
 * Reads answers in HTTP/1.1 from the bytes of one connection, cut anywhere (RFC 9112).
 *
 * ```
 *   begin ──> blank lines ──> head ──> body: none │ length │ chunks, trailers │ until the connection ends ──> whole
 *                  ^           │
 *                  └── 1xx <───┘
 * ```
 *
 * Callees are as they are: what a careful client takes is taken, and a connection over which something odd came is not used
 * again. What cannot be read is refused at the first byte that shows it. The reader copies only the head, and only when it comes
 * in parts; looks at each byte once; never looks behind the end of the answer; and reads no more of one answer than the limits
 * of the contract (section 2.3).
 */
import { ANSWER_HEAD_BYTES_MAX, ANSWER_WIRE_BYTES_MAX } from '../model/limits.ts';
import { type AnswerHead, ProtocolError, parseAnswerHead, quote } from './answer-head.ts';
import { CARRIAGE_RETURN, LINE_FEED } from './ascii.ts';
import { ChunkScanner } from './chunk-scanner.ts';
import { HeadScanner } from './head-scanner.ts';

/** Longer heads are parsed each time, so that those known of many callees do not add up. */
const KNOWN_HEAD_BYTES_MAX = 16 * 1024;
/** Most heads are shorter. */
const HELD_BYTES_MIN = 512;
/** As much as came behind a wrong byte is looked at for the error's message. */
const SHOWN_BYTES_MAX = 200;

export type AnswerSink = {
  onHead(head: AnswerHead): void;
  /** A part of the body, without chunks; the bytes are there only until this returns. */
  onBody(bytes: Buffer): void;
  /** More came than is read of an answer; the reader is over, and the answer is not whole. Told once, after the head. */
  onEnough(): void;
};

/** A head, and what it was read from: a callee sends mostly the same one again. */
export type KnownHead = { bytes: Buffer; head: AnswerHead | undefined };

export function noKnownHead(): KnownHead {
  return { bytes: Buffer.alloc(0), head: undefined };
}

type State =
  | 'blank_lines'
  | 'blank_line_end'
  | 'head'
  | 'length'
  | 'chunks'
  | 'trailers'
  | 'until_close'
  | 'over';

export class AnswerReader {
  readonly #known: KnownHead;
  readonly #headScanner = new HeadScanner();
  readonly #chunkScanner = new ChunkScanner();
  #state: State = 'over';
  /** The first part of a head whose end has not come. It grows by doubling, so that trickling bytes are copied twice at most. */
  #held: Buffer | undefined;
  #heldBytes = 0;
  /** Something came that a careful client takes and no careful callee sends. */
  #isOdd = false;
  /** What the body may still have. */
  #left = 0;
  /** What heads, and all of the answer, may still have. */
  #headLeft = 0;
  #wireLeft = 0;
  #keepsAlive = false;
  #keepAliveMs: number | undefined;

  /** `known` is shared by the connections to one callee. */
  constructor(known: KnownHead) {
    this.#known = known;
  }

  /** A request was sent; what comes from here on is its answer. */
  begin(): void {
    this.#state = 'blank_lines';
    this.#held = undefined;
    this.#heldBytes = 0;
    this.#isOdd = false;
    this.#headLeft = ANSWER_HEAD_BYTES_MAX;
    this.#wireLeft = ANSWER_WIRE_BYTES_MAX;
  }

  /** What comes from here on is of no interest. */
  stop(): void {
    this.#state = 'over';
    this.#held = undefined;
  }

  /** The answer is whole, or stopped. */
  get isOver(): boolean {
    return this.#state === 'over';
  }

  /** The end of the connection is the end of the answer. */
  get endsWithConnection(): boolean {
    return this.#state === 'until_close';
  }

  /** Memory that waits for the rest of a head. */
  get heldBytes(): number {
    return this.#held?.length ?? 0;
  }

  /** How long the connection may be kept for another request once the answer is whole, at most; 0: not at all. */
  idleMs(otherwise: number): number {
    return this.#keepsAlive && !this.#isOdd ? (this.#keepAliveMs ?? otherwise) : 0;
  }

  /**
   * Reads the first `length` of `bytes`, and may change what it has read of them.
   * @returns whether nothing is left of them behind the end of the answer
   * @throws ProtocolError
   */
  read(bytes: Buffer, length: number, sink: AnswerSink): boolean {
    const end = Math.min(length, this.#wireLeft);
    let at = 0;
    while (at < end && this.#state !== 'over') {
      switch (this.#state) {
        case 'blank_lines':
        case 'blank_line_end':
          at = this.#readBlankLines(bytes, at, end, sink);
          break;
        case 'head':
          at = this.#readHead(bytes, at, end, sink);
          break;
        case 'length':
          at = this.#readBody(bytes, at, end, sink);
          break;
        case 'chunks':
          at = this.#readChunks(bytes, at, end, sink);
          break;
        case 'trailers':
          at = this.#readTrailers(bytes, at, end);
          break;
        case 'until_close':
          sink.onBody(bytes.subarray(at, end));
          at = end;
      }
    }
    this.#wireLeft -= at;
    if (at < length && this.#state !== 'over') {
      this.stop();
      this.#keepsAlive = false;
      sink.onEnough();
    }
    return at === length;
  }

  /** Before a head; nearly always there are none, and the head is the one that came before. */
  #readBlankLines(bytes: Buffer, from: number, end: number, sink: AnswerSink): number {
    if (!this.#isOdd) {
      const { bytes: known, head } = this.#known;
      const knownEnd = from + known.length;
      if (head && knownEnd <= end && bytes.compare(known, 0, known.length, from, knownEnd) === 0) {
        this.#headLeft -= known.length;
        this.#begins(head, sink);
        return knownEnd;
      }
    }
    const limit = Math.min(end, from + this.#headLeft);
    let isInside = this.#state === 'blank_line_end';
    let at = from;
    for (; at < limit; at += 1) {
      const byte = bytes[at];
      if (byte === LINE_FEED) isInside = false;
      else if (isInside) throw this.#refusal('no status line', bytes, at, at, end);
      else if (byte === CARRIAGE_RETURN) isInside = true;
      else break;
      this.#isOdd = true;
    }
    this.#headLeft -= at - from;
    if (at === limit) {
      this.#state = isInside ? 'blank_line_end' : 'blank_lines';
      if (at < end) throw tooLong();
    } else {
      this.#headScanner.beginHead();
      this.#state = 'head';
    }
    return at;
  }

  #readHead(bytes: Buffer, from: number, end: number, sink: AnswerSink): number {
    const scanner = this.#headScanner;
    const at = scanner.scan(bytes, from, Math.min(end, from + this.#headLeft));
    if (scanner.wrong !== undefined) throw this.#refusal(scanner.wrong, bytes, from, at, end);
    this.#headLeft -= at - from;
    if (!scanner.isDone) {
      if (at < end) throw tooLong();
      this.#hold(bytes, from, at);
      return at;
    }
    if (scanner.status < 200) {
      // Not the answer yet.
      this.#held = undefined;
      this.#heldBytes = 0;
      this.#isOdd = true;
      this.#state = 'blank_lines';
      return at;
    }
    if (this.#held !== undefined) this.#hold(bytes, from, at);
    const head = this.#held?.subarray(0, this.#heldBytes) ?? bytes.subarray(from, at);
    this.#held = undefined;
    const parsed = parseAnswerHead(head.toString(), scanner.isOdd);
    if (head.length <= KNOWN_HEAD_BYTES_MAX) {
      this.#known.bytes = Buffer.from(head);
      this.#known.head = parsed;
    }
    this.#begins(parsed, sink);
    return at;
  }

  #begins(head: AnswerHead, sink: AnswerSink): void {
    this.#keepsAlive = head.keepsAlive;
    this.#keepAliveMs = head.keepAliveMs;
    switch (head.framing.kind) {
      case 'none':
        this.#state = 'over';
        break;
      case 'length':
        this.#left = head.framing.bytes;
        this.#state = 'length';
        break;
      case 'chunked':
        this.#chunkScanner.begin();
        this.#state = 'chunks';
        break;
      case 'until_close':
        this.#state = 'until_close';
    }
    sink.onHead(head);
  }

  #readBody(bytes: Buffer, from: number, end: number, sink: AnswerSink): number {
    const bodyEnd = Math.min(end, from + this.#left);
    this.#left -= bodyEnd - from;
    if (this.#left === 0) this.#state = 'over';
    sink.onBody(bytes.subarray(from, bodyEnd));
    return bodyEnd;
  }

  #readChunks(bytes: Buffer, from: number, end: number, sink: AnswerSink): number {
    const scanner = this.#chunkScanner;
    const at = scanner.scan(bytes, from, end);
    if (scanner.isDone) {
      this.#isOdd ||= scanner.isOdd;
      this.#headScanner.beginTrailers();
      this.#state = 'trailers';
    }
    if (scanner.dataEnd > scanner.dataStart) sink.onBody(bytes.subarray(scanner.dataStart, scanner.dataEnd));
    // Whoever has had enough of the body does not care what comes behind it.
    if (scanner.wrong !== undefined && this.#state !== 'over') throw new ProtocolError(scanner.wrong);
    return at;
  }

  #readTrailers(bytes: Buffer, from: number, end: number): number {
    const scanner = this.#headScanner;
    const at = scanner.scan(bytes, from, Math.min(end, from + this.#headLeft));
    if (scanner.wrong !== undefined) throw new ProtocolError(`${scanner.wrong}, in a trailer`);
    this.#headLeft -= at - from;
    if (scanner.isDone) {
      this.#isOdd ||= scanner.isOdd;
      this.#state = 'over';
    } else if (at < end) throw tooLong();
    return at;
  }

  /** What came is overwritten by what comes next. */
  #hold(bytes: Buffer, from: number, to: number): void {
    const needed = this.#heldBytes + to - from;
    if (this.#held === undefined || this.#held.length < needed) {
      const size = Math.max(HELD_BYTES_MIN, needed, 2 * this.#heldBytes);
      const larger = Buffer.allocUnsafeSlow(Math.min(size, ANSWER_HEAD_BYTES_MAX));
      this.#held?.copy(larger, 0, 0, this.#heldBytes);
      this.#held = larger;
    }
    bytes.copy(this.#held, this.#heldBytes, from, to);
    this.#heldBytes = needed;
  }

  /** Shows the line in which `wrong` is, as far as it came. */
  #refusal(wrong: string, bytes: Buffer, from: number, at: number, end: number): ProtocolError {
    const held = this.#held?.subarray(0, this.#heldBytes) ?? Buffer.alloc(0);
    const before = Buffer.concat([held, bytes.subarray(from, at)]);
    const line = before.subarray(before.lastIndexOf(LINE_FEED) + 1);
    const behind = bytes.subarray(at, Math.min(end, at + SHOWN_BYTES_MAX));
    return new ProtocolError(`${wrong}: ${quote(Buffer.concat([line, behind]).toString())}`);
  }
}

function tooLong(): ProtocolError {
  return new ProtocolError(`heads of more than ${ANSWER_HEAD_BYTES_MAX} bytes`);
}
