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
  /** All of it was told, and the connection is resting, or closed. */
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

  /** @returns whether it may be read from at once. */
  #onBytes(bytes: Buffer, length: number): boolean {
    const exchange = this.#exchange;
    if (exchange === undefined) {
      // Without a call nothing was asked.
      this.#gone(true);
      return true;
    }
    const isCheap = length <= CHEAP_BYTES_MAX && !this.#isAnswerBegun;
    const startedAt = isCheap ? 0 : this.#now();
    if (!this.#isAnswerBegun) this.#beginAnswer(bytes, length, exchange);
    let isAll: boolean;
    try {
      isAll = this.#reader.read(bytes, length, exchange);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#end(error);
      return true;
    }
    if (this.#exchange === undefined) return true;
    if (!this.#reader.isOver) return isCheap || this.#mayReadOn(length, this.#now() - startedAt);
    this.#exchange = undefined;
    this.answers += 1;
    // What is behind an answer belongs to nobody. A callee that answers before it has read the request may not read it.
    const idleMs = isAll && this.#socket.writableLength === 0 ? this.#idleMs() : 0;
    if (idleMs > 0) this.#owner.onRest(this, idleMs);
    else this.close();
    // Last: it may bring the next call.
    exchange.onAnswerWhole();
    return true;
  }

  /** An empty line is none of an answer, but of what came before it (RFC 9112, 2.2). */
  #beginAnswer(bytes: Buffer, length: number, exchange: Carried): void {
    let at = 0;
    while (at < length && (bytes[at] === CARRIAGE_RETURN || bytes[at] === LINE_FEED)) at += 1;
    if (at === length) return;
    this.#isAnswerBegun = true;
    exchange.onAnswerBegun();
  }

  /** The system would go on with a full buffer, up to 32 times, before it looks at any other connection. */
  #mayReadOn(length: number, tookMs: number): boolean {
    if (length < READ_BUFFER_BYTES && tookMs < CHEAP_READ_MS) return true;
    this.#rests.pause(tookMs, () => {
      if (!this.#isOver) this.#socket.resume();
    });
    return false;
  }

  #idleMs(): number {
    return Math.min(this.#reader.idleMs(IDLE_MS + IDLE_MARGIN_MS) - IDLE_MARGIN_MS, IDLE_MS_MAX);
  }

  #end(error: Error | undefined): void {
    if (this.#isOver) return;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    const isWhole = error === undefined && this.#reader.endsWithConnection;
    this.#gone(true);
    if (exchange === undefined) return;
    if (isWhole) exchange.onAnswerWhole();
    // Once: a connection on which it is sent again has carried nothing.
    else if (this.answers > 0 && !this.#isAnswerBegun && isEnd(error)) this.#owner.onUnheard(exchange);
    else exchange.onBroken(error);
  }

  #gone(isOwnEnd: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#reader.stop();
    this.#socket.destroy();
    this.#owner.onGone(this, isOwnEnd);
  }
}
