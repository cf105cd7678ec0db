/** The connections to one origin under one permission: each call has one of its own, an idle one if there is any. */

import type { CallRequest } from '../model/outcome.ts';
import { noKnownHead } from './answer-reader.ts';
import { Connection, type ConnectionOwner, type Exchange } from './connection.ts';
import type { Failure } from './failure.ts';
import { type ConnectionSettings, openConnection, type Target } from './opening.ts';
import type { RequestWriter } from './request-text.ts';

/** A call, as a line sees it. */
export type LineCall = Exchange & {
  readonly request: CallRequest;
  /** When it began, in the caller's time. */
  readonly startedAt: number;
  /** It wants no connection any more. */
  readonly isOver: boolean;
  /** All of the request was handed to `connection`, at this time. */
  onSent(connection: Connection, at: number): void;
  onNotConnected(failure: Failure): void;
};

export type LineParts = {
  readonly target: Target;
  readonly connection: ConnectionSettings;
  readonly writer: RequestWriter;
  /** Milliseconds that only ever grow: the caller's time. */
  readonly now: () => number;
};

export class Line implements ConnectionOwner {
  /** Calls that are not over. The caller's to count. */
  running = 0;
  /** When the latest of them was over. */
  idleSince: number;
  readonly #parts: LineParts;
  /** The one that was used last is at the end, and is used next. */
  readonly #idle: Connection[] = [];
  readonly #knownHead = noKnownHead();

  constructor(parts: LineParts) {
    this.#parts = parts;
    this.idleSince = parts.now();
  }

  get hasConnections(): boolean {
    return this.#idle.length > 0;
  }

  /** A request that an idle connection took no byte of is sent once more: on a connection that did not exist before. */
  send(call: LineCall): void {
    const connection = this.#takeIdle(call.startedAt);
    if (connection === undefined) return this.#open(call);
    if (this.#write(connection, call)) return call.onSent(connection, call.startedAt);
    // What became of one idle connection may have become of the others that are as old.
    this.closeIdle(Number.POSITIVE_INFINITY);
    this.#open(call);
  }

  /** Closes the connections that are idle for too long at this time. */
  closeIdle(now: number): void {
    while ((this.#idle[0]?.idleUntil ?? Number.POSITIVE_INFINITY) < now) this.#idle.shift()?.close();
  }

  onFree(connection: Connection, idleMs: number): void {
    connection.idleUntil = this.#parts.now() + idleMs;
    this.#idle.push(connection);
  }

  onGone(connection: Connection): void {
    const place = this.#idle.indexOf(connection);
    if (place !== -1) this.#idle.splice(place, 1);
  }

  #takeIdle(now: number): Connection | undefined {
    for (let last = this.#idle.pop(); last !== undefined; last = this.#idle.pop()) {
      // Nobody may have looked since: the machine slept, or was busy.
      if (last.idleUntil >= now) return last;
      last.close();
    }
    return undefined;
  }

  #write(connection: Connection, call: LineCall): boolean {
    return connection.send(this.#parts.writer.text(call.request), call);
  }

  #open(call: LineCall): void {
    const { target, connection: settings, now } = this.#parts;
    openConnection(target, settings, (failure, wire) => {
      if (wire === undefined) return call.onNotConnected(failure);
      const connection = new Connection(wire, this, this.#knownHead);
      // It ran out of time before there was a connection: nothing may be sent any more.
      if (call.isOver) connection.close();
      else if (this.#write(connection, call)) call.onSent(connection, now());
      else call.onBroken(undefined);
    });
  }
}
