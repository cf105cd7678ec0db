/**
 * Reads answers in HTTP/1.1 from the bytes of one connection, cut anywhere (RFC 9112).
 *
 * ```
 *   begin ──> head ──> body: none │ length │ chunks, trailers │ until the connection ends ──> whole
 *              │ ^
 *              └─┘ 1xx: not the answer yet
 * ```
 *
 * It copies only what it must wait for the rest of, keeps at most `HEAD_BYTES_MAX` of that, and never looks at bytes behind
 * the end of the answer.
 */
import { type AnswerHead, ProtocolError, parseAnswerHead, quote } from './answer-head.ts';

/** Of a head, of a line that tells a chunk's size, and of all trailers of an answer. */
const HEAD_BYTES_MAX = 16 * 1024;
const HEAD_END = Buffer.from('\r\n\r\n');
const HEAD_START = 'HTTP/1.';
const LINE_FEED = 10;

export type AnswerSink = {
  onHead(head: AnswerHead): void;
  /** A part of the body, without chunks; the bytes are there only until this returns. */
  onBody(bytes: Buffer): void;
  /** Enough of the answer was read: what else comes is of no interest. */
  onEnough(): void;
};

/** A head, and what it was read from: a callee sends mostly the same one again. */
export type KnownHead = { bytes: Buffer; head: AnswerHead | undefined };

export function noKnownHead(): KnownHead {
  return { bytes: Buffer.alloc(0), head: undefined };
}

type State = 'head' | 'length' | 'chunk_size' | 'chunk' | 'chunk_end' | 'trailers' | 'until_close' | 'over';

export class AnswerReader {
  readonly #known: KnownHead;
  #state: State = 'over';
  /** The start of something whose end has not come. */
  #held: Buffer | undefined;
  /** Bytes that the body, the chunk or the trailers may still have. */
  #left = 0;
  #keepsAlive = false;
  #keepAliveMs: number | undefined;

  /** `known` is shared by the connections to one callee. */
  constructor(known: KnownHead) {
    this.#known = known;
  }

  /** A request was sent; what comes from here on is its answer. */
  begin(): void {
    this.#state = 'head';
    this.#held = undefined;
  }

  /** What comes from here on is of no interest. */
  stop(): void {
    this.#state = 'over';
  }

  /** The answer is whole, or stopped. */
  get isOver(): boolean {
    return this.#state === 'over';
  }

  /** The end of the connection is the end of the answer. */
  get endsWithConnection(): boolean {
    return this.#state === 'until_close';
  }

  /** Of the answer that is whole: how long the connection may be kept for another request, at most; 0: not at all. */
  idleMs(otherwise: number): number {
    return this.#keepsAlive ? (this.#keepAliveMs ?? otherwise) : 0;
  }

  /**
   * Reads the first `length` of `bytes`.
   * @returns whether nothing is left of them behind the end of the answer
   * @throws ProtocolError
   */
  read(bytes: Buffer, length: number, sink: AnswerSink): boolean {
    let at = 0;
    while (at < length && this.#state !== 'over') {
      switch (this.#state) {
        case 'head':
          at = this.#readHead(bytes, at, length, sink);
          break;
        case 'length':
        case 'chunk':
          at = this.#readBody(bytes, at, length, sink);
          break;
        case 'until_close':
          sink.onBody(bytes.subarray(at, length));
          at = length;
          break;
        default:
          at = this.#readLine(bytes, at, length);
      }
    }
    return at === length;
  }

  #readHead(bytes: Buffer, at: number, length: number, sink: AnswerSink): number {
    const { bytes: known, head } = this.#known;
    const knownEnd = at + known.length;
    if (
      head &&
      !this.#held &&
      knownEnd <= length &&
      bytes.compare(known, 0, known.length, at, knownEnd) === 0
    ) {
      this.#begins(head, sink);
      return knownEnd;
    }
    const heldLength = this.#held?.length ?? 0;
    const all = this.#together(bytes.subarray(at, length));
    // An end that came in two parts begins in what is held.
    const end = all.indexOf(HEAD_END, Math.max(0, heldLength - HEAD_END.length + 1));
    if (end === -1 || end > HEAD_BYTES_MAX) {
      const start = all.toString('latin1', 0, HEAD_START.length);
      if (!start.startsWith(HEAD_START.slice(0, start.length)))
        throw new ProtocolError(`no status line: ${quote(start)}`);
      if (all.length > HEAD_BYTES_MAX) throw new ProtocolError(`a head of more than ${HEAD_BYTES_MAX} bytes`);
      this.#hold(all, heldLength);
      return length;
    }
    const next = at + end + HEAD_END.length - heldLength;
    this.#held = undefined;
    const read = parseAnswerHead(all.toString('utf8', 0, end));
    if (read.answer.status === 101) throw new ProtocolError('another protocol, which nobody asked for');
    if (read.answer.status < 200) return next;
    this.#known.bytes = Buffer.from(all.subarray(0, end + HEAD_END.length));
    this.#known.head = read;
    this.#begins(read, sink);
    return next;
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
        this.#state = 'chunk_size';
        break;
      case 'until_close':
        this.#state = 'until_close';
    }
    sink.onHead(head);
  }

  #readBody(bytes: Buffer, at: number, length: number, sink: AnswerSink): number {
    const end = Math.min(length, at + this.#left);
    this.#left -= end - at;
    if (this.#left === 0) this.#state = this.#state === 'chunk' ? 'chunk_end' : 'over';
    sink.onBody(bytes.subarray(at, end));
    return end;
  }

  /** Of the lines between chunks and behind the last. */
  #readLine(bytes: Buffer, at: number, length: number): number {
    const heldLength = this.#held?.length ?? 0;
    const all = this.#together(bytes.subarray(at, length));
    const end = all.indexOf(LINE_FEED, heldLength);
    if (end > HEAD_BYTES_MAX || (end === -1 && all.length > HEAD_BYTES_MAX))
      throw new ProtocolError(`a line of more than ${HEAD_BYTES_MAX} bytes between chunks`);
    if (end === -1) {
      this.#hold(all, heldLength);
      return length;
    }
    this.#held = undefined;
    const line = all.toString('latin1', 0, end + 1);
    if (!line.endsWith('\r\n')) throw new ProtocolError('a line that ends without a carriage return');
    this.#onLine(line.slice(0, -2));
    return at + end + 1 - heldLength;
  }

  #onLine(line: string): void {
    if (this.#state === 'chunk_end') {
      if (line !== '') throw new ProtocolError('a chunk that is longer than it says');
      this.#state = 'chunk_size';
    } else if (this.#state === 'chunk_size') {
      const [, digits] = /^([\da-f]{1,12})[ \t]*(?:;.*)?$/i.exec(line) ?? [];
      if (digits === undefined) throw new ProtocolError('a chunk without its size');
      this.#left = Number.parseInt(digits, 16);
      this.#state = this.#left === 0 ? 'trailers' : 'chunk';
      if (this.#left === 0) this.#left = HEAD_BYTES_MAX;
    } else if (line === '') {
      this.#state = 'over';
    } else {
      this.#left -= line.length;
      if (this.#left < 0) throw new ProtocolError(`trailers of more than ${HEAD_BYTES_MAX} bytes`);
    }
  }

  /** With what is held before it. */
  #together(bytes: Buffer): Buffer {
    return this.#held === undefined ? bytes : Buffer.concat([this.#held, bytes]);
  }

  /** What came is overwritten by what comes next; what was put together is ours. */
  #hold(all: Buffer, heldLength: number): void {
    this.#held = heldLength === 0 ? Buffer.from(all) : all;
  }
}
