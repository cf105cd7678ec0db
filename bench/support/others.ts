/**
 * Everybody else: interfaces with a fast callee that look at the same orders. How fast are they called, beside a bad
 * neighbour and without it, and does any of their attempts fail?
 *
 * Rounds without and with the neighbour alternate, so that what the machine does meanwhile is the same for both. A round is
 * bounded: where not all calls are made in time, the rate is that of the calls which were.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { type Callee, hookPath } from './callee.ts';
import { median } from './figures.ts';
import type { InstitutionClient, InterfaceId } from './service.ts';

/** What the contract has unless a user says otherwise. */
export const OTHERS_BATCH_SIZE = 60;
export const OTHERS_CONCURRENCY = 8;

export type Neighbour = {
  /** Resolves when it is doing its worst. */
  begin(): Promise<void>;
  /** Resolves when it does no more harm. */
  end(): Promise<void>;
};

export type RoundSettings = {
  /** Of one round, until the last call. */
  readonly withinMs: number;
  /**
   * What is timed when all calls are made: the middle of them, without the start and the end of the queues; or all from the
   * moment when the interfaces are set to work, where it is the start that the neighbour may hold up.
   */
  readonly timed: 'middle' | 'from the start';
};

const [TIMED_FROM, TIMED_TO] = [0.1, 0.9];
const DRAIN_MS = 120_000;
const LOOK_EVERY_MS = 20;
const FAILURES_SHOWN_MAX = 200;

export class Others {
  readonly #callee: Callee;
  readonly #client: InstitutionClient;
  readonly #ids: readonly InterfaceId[];
  readonly #ordersPerRound: number;
  #imported = 0;
  #isSettled = true;

  private constructor(
    callee: Callee,
    client: InstitutionClient,
    ids: readonly InterfaceId[],
    ordersPerRound: number,
  ) {
    this.#callee = callee;
    this.#client = client;
    this.#ids = ids;
    this.#ordersPerRound = ordersPerRound;
  }

  /** `urlOf` gives the callee's URL under the name that an interface (1 …) is to know it by. */
  static async add(given: {
    callee: Callee;
    client: InstitutionClient;
    count: number;
    ordersPerRound: number;
    urlOf?: (number: number) => string;
  }): Promise<Others> {
    const { callee, client, count, ordersPerRound, urlOf = () => callee.url } = given;
    const ids: InterfaceId[] = [];
    for (let number = 1; number <= count; number++) {
      const settings = { batchSize: OTHERS_BATCH_SIZE, concurrency: OTHERS_CONCURRENCY };
      ids.push(await client.addInterface({ ...settings, calleeUrl: urlOf(number), number }));
    }
    return new Others(callee, client, ids, ordersPerRound);
  }

  /** Calls a second of all of them together, on a fresh queue. */
  async round(settings: RoundSettings, neighbour?: Neighbour): Promise<number> {
    if (!this.#isSettled) await this.#settle();
    const callee = this.#callee;
    const first = this.#imported;
    await this.#client.import(first, this.#ordersPerRound);
    this.#imported += this.#ordersPerRound;
    await callee.forget();
    await neighbour?.begin();
    const failedBefore = neighbour === undefined ? 0 : await this.failedAttempts();

    const startedAt = Date.now();
    await this.#setActive(true);
    const count = this.#ordersPerRound * this.#ids.length;
    const areAllMade = await this.#untilAnswered(count, settings.withinMs);
    const endedAt = Date.now();
    await neighbour?.end();

    const times = callee.times().sort();
    if (!areAllMade) {
      this.#isSettled = false;
      return (times.filter((at) => at <= endedAt).length * 1000) / (endedAt - startedAt);
    }
    await this.#settle();
    // An attempt that failed may have arrived all the same; then another arrives too.
    if (neighbour === undefined || (await this.failedAttempts()) === failedBefore) {
      for (let number = 1; number <= this.#ids.length; number++) {
        callee.checkEachOnce(first, this.#ordersPerRound, hookPath(number));
      }
    }
    return rateOf(times, startedAt, settings.timed);
  }

  /** Attempts that the call log has as failed, of each interface at most `FAILURES_SHOWN_MAX`. */
  async failedAttempts(): Promise<number> {
    let failed = 0;
    for (const id of this.#ids) {
      const path = `${this.#client.path}/interfaces/${id}/calls?outcome=FAILED&limit=${FAILURES_SHOWN_MAX}`;
      failed += (await this.#client.call<{ items: unknown[] }>('GET', path)).items.length;
    }
    return failed;
  }

  /** Nothing waits and nothing is owed any more, and they are paused. */
  async #settle(): Promise<void> {
    for (const id of this.#ids) await this.#client.untilDrained(id, DRAIN_MS);
    await this.#setActive(false);
    this.#isSettled = true;
  }

  async #setActive(active: boolean): Promise<void> {
    await Promise.all(this.#ids.map((id) => this.#client.setActive(id, active)));
  }

  async #untilAnswered(count: number, withinMs: number): Promise<boolean> {
    const deadline = performance.now() + withinMs;
    while (this.#callee.answered < count) {
      if (performance.now() > deadline) return false;
      await wait(LOOK_EVERY_MS);
    }
    return true;
  }
}

export type RatesBeside = {
  /** Calls a second; medians of the rounds. */
  readonly without: number;
  readonly beside: number;
  /** Attempts of the others that failed, in all rounds. */
  readonly failedAttempts: number;
};

/** What else is looked at in each round. */
export type Watch = {
  readonly beforeRound?: () => Promise<void> | void;
  readonly afterRound?: (isBeside: boolean) => Promise<void> | void;
};

export async function ratesBeside(
  others: Others,
  neighbour: Neighbour,
  settings: RoundSettings & Watch & { readonly rounds: number },
): Promise<RatesBeside> {
  const { rounds, beforeRound, afterRound } = settings;
  const failedBefore = await others.failedAttempts();
  const without: number[] = [];
  const beside: number[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const isBeside of [false, true]) {
      await beforeRound?.();
      const rate = await others.round(settings, isBeside ? neighbour : undefined);
      await afterRound?.(isBeside);
      (isBeside ? beside : without).push(rate);
    }
  }
  const failedAttempts = (await others.failedAttempts()) - failedBefore;
  return { without: median(without), beside: median(beside), failedAttempts };
}

function rateOf(times: Float64Array, startedAt: number, timed: RoundSettings['timed']): number {
  const [from, to] =
    timed === 'middle'
      ? [Math.floor(times.length * TIMED_FROM), Math.floor(times.length * TIMED_TO) - 1]
      : [0, times.length - 1];
  const fromAt = timed === 'middle' ? (times[from] as number) : startedAt;
  return ((to - from) * 1000) / ((times[to] as number) - fromAt);
}
