/**
 * Orders that are closed one by one at a steady rate, and when each was answered; and a callee in the same process, so that
 * one clock tells when each was called.
 *
 * Closings are sent when they are due, whatever became of those before (an open loop), so a slow answer is not hidden by a
 * source that waits for it.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { Pool } from 'undici';
import { hookPath } from './callee.ts';
import { FIRST_ORDER_ID, orderLine } from './orders.ts';
import { AUTHORIZATION, type InstitutionClient } from './service.ts';

const CONNECTIONS = 64;
const LOOK_EVERY_MS = 20;
/** An answer for which a figure waits longer than this is no figure any more. */
const ANSWER_MS_MAX = 120_000;

/** Milliseconds of this process's clock, by the number of the closing; NaN: not yet. */
export type Moments = Float64Array;

export class Closings {
  readonly sentAt: Moments;
  readonly answeredAt: Moments;
  readonly #client: InstitutionClient;
  readonly #pool: Pool;
  readonly #first: number;
  #answers = 0;
  #failure: Error | undefined;

  /** `count` orders from number `first` on. */
  constructor(client: InstitutionClient, count: number, first = 0) {
    this.#client = client;
    this.#first = first;
    this.sentAt = new Float64Array(count).fill(Number.NaN);
    this.answeredAt = new Float64Array(count).fill(Number.NaN);
    this.#pool = new Pool(client.address, {
      connections: CONNECTIONS,
      pipelining: 1,
      headersTimeout: ANSWER_MS_MAX,
    });
  }

  /** Sends them all, so many a second. @throws Error when one was not answered by 200 */
  async send(perSecond: number): Promise<void> {
    const startedAt = performance.now();
    const count = this.sentAt.length;
    for (let number = 0; number < count && !this.#failure; ) {
      const due = Math.min(count, Math.ceil(((performance.now() - startedAt) * perSecond) / 1000));
      while (number < due) this.#close(number++);
      await wait(1);
    }
    if (this.#failure) throw this.#failure;
  }

  /** Whether all were answered in that time. @throws Error when one was not answered by 200 */
  async untilAnswered(withinMs: number): Promise<boolean> {
    const areAll = await comesTrue(
      () => this.#failure !== undefined || this.#answers === this.answeredAt.length,
      withinMs,
    );
    if (this.#failure) throw this.#failure;
    return areAll;
  }

  async end(): Promise<void> {
    await this.#pool.destroy();
  }

  #close(number: number): void {
    const headers = ['Authorization', AUTHORIZATION, 'Content-Type', 'application/json'];
    const order = this.#first + number;
    this.sentAt[number] = performance.now();
    this.#pool.dispatch(
      {
        method: 'PUT',
        path: `${this.#client.path}/orders/${FIRST_ORDER_ID + order}`,
        headers,
        body: orderLine(order),
      },
      {
        onRequestStart() {},
        onResponseStart: (_controller, status) => {
          this.answeredAt[number] = performance.now();
          if (status !== 200) this.#failure ??= new Error(`A PUT was answered by ${status}`);
        },
        onResponseData() {},
        onResponseEnd: () => {
          this.#answers += 1;
        },
        onResponseError: (_controller, error) => {
          this.#failure ??= error;
        },
      },
    );
  }
}

/** Answers 200, at once or as late as it is told, and keeps when each order was called. */
export class TimedCallee {
  readonly calledAt: Moments;
  readonly url: string;
  readonly #server: Server;
  #calls = 0;
  #failure: Error | undefined;

  private constructor(
    server: Server,
    count: number,
    first: number,
    answerAfterMs: (number: number) => number,
  ) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    this.calledAt = new Float64Array(count).fill(Number.NaN);
    server.on('request', (request, response) => {
      const now = performance.now();
      const number = Number(request.url?.slice(hookPath().length)) - FIRST_ORDER_ID - first;
      if (!Number.isNaN(this.calledAt[number])) {
        this.#failure ??= new Error(`Called twice, or by mistake: ${request.url}`);
      }
      this.calledAt[number] = now;
      this.#calls += 1;
      const answer = () => response.writeHead(200, { 'Content-Length': 0 }).end();
      const afterMs = answerAfterMs(number);
      if (afterMs === 0) answer();
      else setTimeout(answer, afterMs);
    });
  }

  /** Expects `count` orders from number `first` on, each once. */
  static async start(
    count: number,
    {
      first = 0,
      answerAfterMs = () => 0,
    }: { first?: number; answerAfterMs?: (number: number) => number } = {},
  ): Promise<TimedCallee> {
    // A connection that is closed for its rest would be a fault that is not measured here.
    const server = createServer({ keepAliveTimeout: 3_600_000 }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TimedCallee(server, count, first, answerAfterMs);
  }

  get host(): string {
    return new URL(this.url).host;
  }

  get calls(): number {
    return this.#calls;
  }

  /** Whether all were called in that time. @throws Error when one was called twice */
  async untilCalled(withinMs: number): Promise<boolean> {
    const areAll = await comesTrue(
      () => this.#failure !== undefined || this.#calls === this.calledAt.length,
      withinMs,
    );
    if (this.#failure) throw this.#failure;
    return areAll;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

async function comesTrue(condition: () => boolean, withinMs: number): Promise<boolean> {
  const deadline = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > deadline) return false;
    await wait(LOOK_EVERY_MS);
  }
  return true;
}

/** From one moment to the other; where the other did not come yet, until now, and longer it would have been. */
export function durations(from: Moments, to: Moments, skipped = 0): Float64Array {
  const now = performance.now();
  return from
    .map((at, number) => (Number.isNaN(to[number]) ? now : (to[number] as number)) - at)
    .slice(skipped);
}
