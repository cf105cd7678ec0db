/** A connection that stands, to a callee or its proxy. It carries one call at a time: a late or wrong answer spoils no other. */
import type { Socket } from 'node:net';
import { ProtocolError } from './answer-head.ts';
import { AnswerReader, type AnswerSink, type KnownHead } from './answer-reader.ts';
import type { Wire } from './opening.ts';

/** What a connection tells of the call that it carries. */
export type Exchange = AnswerSink & {
  onAnswerBegun(): void;
  /** All of it was told, and the connection is free, or closed. */
  onAnswerWhole(): void;
  /** The connection broke, or ended without an error before the answer was whole; or what came is not HTTP. */
  onBroken(error: Error | undefined): void;
};

/** Whoever has connections and gives them calls. */
export type ConnectionOwner = {
  /** It may carry the next call, for so long. */
  onFree(connection: Connection, idleMs: number): void;
  /** It carries none any more. Told once. */
  onGone(connection: Connection): void;
};

/** An idle connection is closed after this, before most callees would: Node.js and Apache wait 5 s. */
const IDLE_MS = 4_000;
/** As long as a callee that promises to wait longer is taken at its word. */
const IDLE_MS_MAX = 60_000;
/** A request that is sent as late as the callee promised would meet the end of its connection. */
const IDLE_MARGIN_MS = 1_000;

export class Connection {
  /** When it is closed if it is still idle, in the caller's time. The owner's to set. */
  idleUntil = 0;
  readonly #socket: Socket;
  readonly #owner: ConnectionOwner;
  readonly #reader: AnswerReader;
  #exchange: Exchange | undefined;
  #isOver = false;

  constructor(wire: Wire, owner: ConnectionOwner, knownHead: KnownHead) {
    this.#socket = wire.socket;
    this.#owner = owner;
    this.#reader = new AnswerReader(knownHead);
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
  send(request: string, exchange: Exchange): boolean {
    this.#reader.begin();
    this.#exchange = exchange;
    this.#socket.write(request, Buffer.byteLength(request) === request.length ? 'latin1' : 'utf8');
    if (this.#socket.errored === null) return true;
    this.close();
    return false;
  }

  /** Ends it where it is. The call that it carries is told no more. */
  close(): void {
    this.#exchange = undefined;
    this.#end(undefined);
  }

  #onBytes(bytes: Buffer, length: number): void {
    const exchange = this.#exchange;
    // Without a call nothing was asked.
    if (exchange === undefined) return this.close();
    exchange.onAnswerBegun();
    let isAll: boolean;
    try {
      isAll = this.#reader.read(bytes, length, exchange);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return this.#end(error);
    }
    if (!this.#reader.isOver || this.#exchange === undefined) return;
    this.#exchange = undefined;
    // What is behind an answer belongs to nobody. A callee that answers before it has read the request may not read it.
    const idleMs = isAll && this.#socket.writableLength === 0 ? this.#idleMs() : 0;
    if (idleMs > 0) this.#owner.onFree(this, idleMs);
    else this.close();
    // Last: it may bring the next call.
    exchange.onAnswerWhole();
  }

  #idleMs(): number {
    return Math.min(this.#reader.idleMs(IDLE_MS + IDLE_MARGIN_MS) - IDLE_MARGIN_MS, IDLE_MS_MAX);
  }

  #end(error: Error | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    const isWhole = error === undefined && this.#reader.endsWithConnection;
    this.#reader.stop();
    this.#socket.destroy();
    this.#owner.onGone(this);
    if (isWhole) exchange?.onAnswerWhole();
    else exchange?.onBroken(error);
  }
}
