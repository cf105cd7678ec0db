/**
 * The connections to one origin under one permission: each call has one of its own.
 *
 * ```
 *   call ──> an idle connection
 *        └─> one that rests, when it has rested ── if there is one for it, and the callee leaves connections open
 *        └─> a fresh one
 * ```
 *
 * So there are never more connections than calls that run and connections that rest. A call whose connection ended before
 * the first byte of its answer, having carried others before, is sent once more, on a fresh one.
 */

import type { CallRequest } from '../model/outcome.ts';
import { noKnownHead } from './answer-reader.ts';
import { Connection, type ConnectionOwner, type Exchange } from './connection.ts';
import type { Failure } from './failure.ts';
import { type ConnectionSettings, openConnection, type Target } from './opening.ts';
import type { RequestWriter } from './request-text.ts';
import type { Rests } from './rests.ts';

/** A call, as a line sees it. */
export type LineCall = Exchange & {
  readonly request: CallRequest;
  /** When it began, in the caller's time. */
  readonly startedAt: number;
  /** It wants no connection any more. */
  readonly isOver: boolean;
  /** All of the request was handed to `connection`, at this time. */
  onSent(connection: Connection<LineCall>, at: number): void;
  /** The connection that it was handed to ended without a word; it is sent again. */
  onUnheard(): void;
  onNotConnected(failure: Failure): void;
};

/** What is known of a callee. */
export type Manners = {
  /** Whether it leaves a connection open after the first answer, and says no more; undefined: nobody knows yet. */
  leavesOpen: boolean | undefined;
};

export type LineParts = {
  readonly target: Target;
  readonly connection: ConnectionSettings;
  readonly writer: RequestWriter;
  readonly rests: Rests;
  /** Outlives the line. */
  readonly manners: Manners;
  /** Milliseconds that only ever grow: the caller's time. */
  readonly now: () => number;
};

export class Line implements ConnectionOwner<LineCall> {
  /** Calls that are not over. The caller's to count. */
  running = 0;
  /** When the latest of them was over. */
  idleSince: number;
  readonly #parts: LineParts;
  /** The one that was used last is at the end, and is used next. */
  readonly #idle: Connection<LineCall>[] = [];
  #restingCount = 0;
  /** Calls that wait for connections that rest, never more of them than of these. */
  readonly #waiting: LineCall[] = [];
  readonly #manners: Manners;
  #isClosed = false;
  readonly #knownHead = noKnownHead();

  constructor(parts: LineParts) {
    this.#parts = parts;
    this.#manners = parts.manners;
    this.idleSince = parts.now();
  }

  get hasConnections(): boolean {
    return this.#idle.length + this.#restingCount > 0;
  }

  /** A request that an idle connection took no byte of is sent once more: on a connection that did not exist before. */
  send(call: LineCall): void {
    const connection = this.#takeIdle(call.startedAt);
    if (connection !== undefined) this.#sendOn(connection, call, call.startedAt);
    else if (this.#waiting.length < this.#restingCount && this.#manners.leavesOpen !== false)
      this.#waiting.push(call);
    else this.#open(call);
  }

  /** Closes the connections that are idle for too long at this time. */
  closeIdle(now: number): void {
    while ((this.#idle[0]?.idleUntil ?? Number.POSITIVE_INFINITY) < now) {
      const first = this.#idle.shift() as Connection<LineCall>;
      first.place = 'carrying';
      first.close();
    }
  }

  /** No call is made on it any more; nothing of it is kept. */
  close(): void {
    this.#isClosed = true;
    this.closeIdle(Number.POSITIVE_INFINITY);
  }

  onRest(connection: Connection<LineCall>, idleMs: number): void {
    const { now, rests } = this.#parts;
    if (this.#manners.leavesOpen === false && !connection.isProven && this.#restingCount > 0) {
      // No call waits for it, and one is enough to learn whether the callee has changed.
      connection.close();
      return;
    }
    connection.idleUntil = now() + idleMs;
    connection.place = 'resting';
    this.#restingCount += 1;
    if (this.#manners.leavesOpen === true) connection.isProven = true;
    if (connection.isProven) rests.rest(connection);
    else rests.restOnProbation(connection);
  }

  onRested(connection: Connection<LineCall>): void {
    this.#restingCount -= 1;
    if (!connection.isProven) this.#manners.leavesOpen = true;
    connection.isProven = true;
    connection.place = 'carrying';
    const now = this.#parts.now();
    if (this.#isClosed || connection.idleUntil < now) return connection.close();
    let call = this.#waiting.shift();
    while (call?.isOver) call = this.#waiting.shift();
    if (call !== undefined) return this.#sendOn(connection, call, now);
    connection.place = 'idle';
    this.#idle.push(connection);
  }

  onUnheard(call: LineCall): void {
    call.onUnheard();
    if (!call.isOver) this.#open(call);
  }

  onGone(connection: Connection<LineCall>, isOwnEnd: boolean): void {
    switch (connection.place) {
      case 'idle':
        this.#idle.splice(this.#idle.indexOf(connection), 1);
        // That an idle connection ends one day is usual.
        return;
      case 'resting':
        this.#restingCount -= 1;
    }
    // Behind the first answer, or before the first byte of the second: the next one would have the same end.
    if (isOwnEnd && connection.answers === 1) this.#manners.leavesOpen = false;
    while (this.#waiting.length > this.#restingCount) {
      const call = this.#waiting.shift() as LineCall;
      if (!call.isOver) this.#open(call);
    }
  }

  #takeIdle(now: number): Connection<LineCall> | undefined {
    for (let last = this.#idle.pop(); last !== undefined; last = this.#idle.pop()) {
      last.place = 'carrying';
      // Nobody may have looked since: the machine slept, or was busy.
      if (last.idleUntil >= now) return last;
      last.close();
    }
    return undefined;
  }

  #sendOn(connection: Connection<LineCall>, call: LineCall, now: number): void {
    connection.place = 'carrying';
    if (this.#write(connection, call)) return call.onSent(connection, now);
    // What became of one idle connection may have become of the others that are as old.
    this.closeIdle(Number.POSITIVE_INFINITY);
    this.#open(call);
  }

  #write(connection: Connection<LineCall>, call: LineCall): boolean {
    return connection.send(this.#parts.writer.text(call.request), call);
  }

  #open(call: LineCall): void {
    const { target, connection: settings, rests, now } = this.#parts;
    openConnection(target, settings, (failure, wire) => {
      if (wire === undefined) return call.onNotConnected(failure);
      const connection = new Connection<LineCall>(wire, {
        owner: this,
        rests,
        now,
        knownHead: this.#knownHead,
      });
      // It ran out of time before there was a connection: nothing may be sent any more.
      if (call.isOver) connection.close();
      else if (this.#write(connection, call)) call.onSent(connection, now());
      else call.onBroken(undefined);
    });
  }
}
