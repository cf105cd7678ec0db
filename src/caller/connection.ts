/**
 * A connection that stands, to a callee or its proxy. It carries one call at a time, and the next one only after the event
 * loop could see that the callee ended it or sent more: a late or wrong answer spoils no other.
 *
 * ```
 *   carrying ──answer whole──> resting ──nothing came──> idle ──> carrying …
 *      │                         │ bytes, end              │ bytes, end, too long
 *      v                         v                         v
 *     over                      over                      over
 * ```
 */
import type { Socket } from 'node:net';
import { ProtocolError } from './answer-head.ts';
import { AnswerReader, type AnswerSink, type KnownHead } from './answer-reader.ts';
import { isEnd } from './failure.ts';
import { READ_BUFFER_BYTES, type Wire } from './opening.ts';
import type { Rests } from './rests.ts';

/** What a connection tells of the call that it carries. */
export type Exchange = AnswerSink & {
  onAnswerBegun(): void;
  /** What else there is of the answer is of no interest. */
  readonly wantsNoMore: boolean;
  /** All of it was told, or enough, and the connection is resting, or closed. */
  onAnswerWhole(): void;
  /** The connection broke, or ended without an error before the answer was whole; or what came is not HTTP. */
  onBroken(error: Error | undefined): void;
};

/** Whoever has connections and gives them calls. */
export type ConnectionOwner<Carried> = {
  /** An answer is whole, and the connection may be kept for so long. What it may do next, and when, is the owner's to say. */
  onRest(connection: Connection<Carried & Exchange>, idleMs: number): void;
  /** The owner let it rest, and nothing came. */
  onRested(connection: Connection<Carried & Exchange>): void;
  /** It had carried other calls before, and ended before the first byte of an answer to this one, which is told nothing. */
  onUnheard(carried: Carried): void;
  /** It carries none any more. Told once. `isOwnEnd`: the callee ended it, or sent what nobody asked for. */
  onGone(connection: Connection<Carried & Exchange>, isOwnEnd: boolean): void;
};

/** An idle connection is closed after this, before most callees would: Node.js and Apache wait 5 s. */
const IDLE_MS = 4_000;
/** As long as a callee that promises to wait longer is taken at its word. */
const IDLE_MS_MAX = 60_000;
/** A request that is sent as late as the callee promised would meet the end of its connection. */
const IDLE_MARGIN_MS = 1_000;
/** A read of fewer bytes which ends its answer is not looked at for what it cost: this is nearly every one. */
const CHEAP_BYTES_MAX = 1_024;
/** What one read may cost without a pause after it. */
const CHEAP_READ_MS = 0.1;
const [CARRIAGE_RETURN, LINE_FEED] = [13, 10];

export class Connection<Carried extends Exchange = Exchange> {
  /** When it is closed if it is still idle, in the caller's time. The owner's to set. */
  idleUntil = 0;
  /** The owner's to set. */
  place: 'carrying' | 'resting' | 'idle' = 'carrying';
  /** It has been left open after an answer, or its callee is known to do so. The owner's to set. */
  isProven = false;
  /** Whole answers that came over it. */
  answers = 0;
  readonly #socket: Socket;
  readonly #owner: ConnectionOwner<Carried>;
  readonly #rests: Rests;
  readonly #now: () => number;
  readonly #reader: AnswerReader;
  #exchange: Carried | undefined;
  #isAnswerBegun = false;
  /** It is not read from, and its call is not told of what was read last. */
  #isPaused = false;
  #pausedError: ProtocolError | undefined;
  #isOver = false;

  constructor(
    wire: Wire,
    parts: {
      readonly owner: ConnectionOwner<Carried>;
      readonly rests: Rests;
      /** Milliseconds that only ever grow. */
      readonly now: () => number;
      readonly knownHead: KnownHead;
    },
  ) {
    this.#socket = wire.socket;
    this.#owner = parts.owner;
    this.#rests = parts.rests;
    this.#now = parts.now;
    this.#reader = new AnswerReader(parts.knownHead);
    wire.onBytes = (bytes, length) => this.#onBytes(bytes, length);
    this.#socket
      .on('end', () => this.#end(undefined))
      .on('error', (error) => this.#end(error))
      .on('close', () => this.#end(undefined));
  }

  /**
   * Sends a request and tells `exchange` of its answer.
   * @returns false when the system took no byte of it: then nobody is told anything. What the system took in part is
   * written on later, and fails later, and over TLS nothing fails at once.
   */
  send(request: string, exchange: Carried): boolean {
    this.#reader.begin();
    this.#isAnswerBegun = false;
    this.#exchange = exchange;
    this.#socket.write(request, Buffer.byteLength(request) === request.length ? 'latin1' : 'utf8');
    if (this.#socket.errored === null) return true;
    this.close();
    return false;
  }

  /** Ends it where it is. The call that it carries is told no more. */
  close(): void {
    this.#exchange = undefined;
    this.#gone(false);
  }

  onRested(): void {
    if (!this.#isOver) this.#owner.onRested(this);
  }

  /** The call wants no more of its answer, outside of a read: it is told so as soon as it may be. */
  conclude(): void {
    if (!this.#isPaused) this.#conclude(undefined, false);
  }

  /** What its answer came to is known, and about to be told. */
  get isConcluding(): boolean {
    return this.#isPaused && (this.#reader.isOver || this.#pausedError !== undefined);
  }

  /** @returns whether it may be read from at once. */
  #onBytes(bytes: Buffer, length: number): boolean {
    const exchange = this.#exchange;
    if (exchange === undefined) {
      // Without a call nothing was asked.
      this.#gone(true);
      return true;
    }
    if (this.#isPaused) {
      this.#end(new Error('Bytes came from a socket that was paused'));
      return true;
    }
    const isCheap = length <= CHEAP_BYTES_MAX && !this.#isAnswerBegun;
    const startedAt = isCheap ? 0 : this.#now();
    if (!this.#isAnswerBegun) this.#beginAnswer(bytes, length, exchange);
    let isAll = false;
    let error: ProtocolError | undefined;
    try {
      isAll = this.#reader.read(bytes, length, exchange);
    } catch (thrown) {
      if (!(thrown instanceof ProtocolError)) throw thrown;
      error = thrown;
    }
    const tookMs = isCheap ? 0 : this.#now() - startedAt;
    // With a full buffer the system would go on, up to 32 times, before it looks at any other connection.
    if (tookMs < CHEAP_READ_MS && (length < READ_BUFFER_BYTES || this.#reader.isOver)) {
      this.#conclude(error, isAll);
      return true;
    }
    this.#pause(tookMs, error, isAll);
    return false;
  }

  /** An empty line is none of an answer, but of what came before it (RFC 9112, 2.2). */
  #beginAnswer(bytes: Buffer, length: number, exchange: Carried): void {
    let at = 0;
    while (at < length && (bytes[at] === CARRIAGE_RETURN || bytes[at] === LINE_FEED)) at += 1;
    if (at === length) return;
    this.#isAnswerBegun = true;
    exchange.onAnswerBegun();
  }

  /**
   * Whatever the read came to is told afterwards: otherwise a callee whose answers are short and cost much would be called
   * again, and read from, at once.
   */
  #pause(tookMs: number, error: ProtocolError | undefined, isAll: boolean): void {
    this.#isPaused = true;
    this.#pausedError = error;
    this.#rests.pause(tookMs, () => {
      this.#isPaused = false;
      this.#pausedError = undefined;
      this.#conclude(error, isAll);
      if (!this.#isOver) this.#socket.resume();
    });
  }

  /** After a read: goes on, unless the answer is whole, broken, or enough. */
  #conclude(error: ProtocolError | undefined, isAll: boolean): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    if (error !== undefined) return this.#end(error);
    if (!exchange.wantsNoMore && !this.#reader.isOver) return;
    this.#exchange = undefined;
    this.answers += 1;
    // What is behind an answer belongs to nobody. A callee that answers before it has read the request may not read it.
    const mayBeKept = isAll && !exchange.wantsNoMore && this.#socket.writableLength === 0;
    const idleMs = mayBeKept ? this.#idleMs() : 0;
    if (idleMs > 0) this.#owner.onRest(this, idleMs);
    else this.close();
    // Last: it may bring the next call.
    exchange.onAnswerWhole();
  }

  #idleMs(): number {
    return Math.min(this.#reader.idleMs(IDLE_MS + IDLE_MARGIN_MS) - IDLE_MARGIN_MS, IDLE_MS_MAX);
  }

  #end(error: Error | undefined): void {
    if (this.#isOver) return;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    const isRead = this.#isPaused && this.#reader.isOver;
    const isWhole = isRead || (error === undefined && this.#reader.endsWithConnection);
    this.#gone(true);
    if (exchange === undefined) return;
    if (isWhole || exchange.wantsNoMore) exchange.onAnswerWhole();
    // Once: a connection on which it is sent again has carried nothing.
    else if (this.answers > 0 && !this.#isAnswerBegun && isEnd(error)) this.#owner.onUnheard(exchange);
    else exchange.onBroken(this.#pausedError ?? error);
  }

  #gone(isOwnEnd: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reader.stop();
    this.#socket.destroy();
    this.#owner.onGone(this, isOwnEnd);
  }
}
