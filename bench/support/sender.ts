/**
 * The other senders, each in a process of its own (`bench/senders/`): started once, then told to load and to drain, so that
 * no round pays for a cold start.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { SenderAnswer, SenderOrder } from '../senders/sender.ts';
import type { Callee } from './callee.ts';
import { hookPath } from './callee.ts';
import { atExit } from './owned.ts';
import { CONCURRENCY } from './service.ts';

const SENDERS = join(import.meta.dirname, '../senders');
const READY_MS = 30_000;

export class Sender implements AsyncDisposable {
  readonly name: string;
  /** As it says itself. */
  readonly description: string;
  readonly #child: ChildProcess;
  readonly #forget: () => void;

  private constructor(name: string, description: string, child: ChildProcess, forget: () => void) {
    this.name = name;
    this.description = description;
    this.#child = child;
    this.#forget = forget;
  }

  /** @throws Error which says what is missing, such as its package */
  static async start(name: string, given: { calleeUrl: string; serverUrl?: string }): Promise<Sender> {
    const args = [given.calleeUrl + hookPath(), String(CONCURRENCY), given.serverUrl ?? ''];
    const child = fork(join(SENDERS, `${name}.ts`), args);
    const forget = atExit(() => child.kill('SIGKILL'));
    try {
      const { description } = await answer(child, READY_MS);
      return new Sender(name, description ?? '', child, forget);
    } catch (error) {
      child.kill('SIGKILL');
      forget();
      throw error;
    }
  }

  /** Queues orders from number `first` on. */
  async load(first: number, count: number, withinMs: number): Promise<void> {
    await this.#ask({ action: 'load', first, count }, withinMs);
  }

  /**
   * Calls each of the orders. Calls a second: from the first call to the moment when the sender says that all of them are
   * answered and, if it stores anything, stored as done.
   */
  async drain(callee: Callee, first: number, count: number, withinMs: number): Promise<number> {
    await callee.forget();
    const { endedAt = Number.NaN } = await this.#ask({ action: 'drain', first, count }, withinMs);
    await callee.untilAnswered(count, withinMs);
    const { firstAt } = callee.checkEachOnce(first, count);
    return (count * 1000) / (endedAt - firstAt);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGKILL');
      await ended;
    }
    this.#forget();
  }

  async #ask(order: SenderOrder, withinMs: number): Promise<SenderAnswer> {
    const answered = answer(this.#child, withinMs);
    this.#child.send(order);
    return answered;
  }
}

/** The sender's next answer; it owes one for its start and for each order. */
async function answer(child: ChildProcess, withinMs: number): Promise<SenderAnswer> {
  const listening = new AbortController();
  const signal = AbortSignal.any([listening.signal, AbortSignal.timeout(withinMs)]);
  try {
    const [given] = (await Promise.race([
      once(child, 'message', { signal }),
      once(child, 'exit', { signal }).then(([code]) => {
        throw new Error(`the sender ended with code ${code}`);
      }),
    ])) as [SenderAnswer];
    if (given.failure !== undefined) throw new Error(given.failure);
    return given;
  } finally {
    listening.abort();
  }
}
