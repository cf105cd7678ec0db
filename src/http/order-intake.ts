/**
 * Orders that arrive together share one commit: while a commit runs, what arrives waits, and all of it is the next one.
 *
 * So one order alone pays for one commit and waits for nothing, and a thousand at once pay for a few. An order is
 * answered after its commit is on disk, never before. Every put is checked before it comes here; should the store choke
 * on one all the same, the others of its commit are stored.
 */
import { AppError } from '../model/app-error.ts';
import type { OrderPut, OrderStored, Store } from '../store/store.ts';

/** Of one commit: it must not keep its first order waiting for long. */
export const COMMIT_ORDERS_MAX = 500;
export const COMMIT_CHARACTERS_MAX = 1024 * 1024;
/** Of all that wait: beyond, more would only cost memory. */
const WAITING_ORDERS_MAX = 20_000;
const WAITING_CHARACTERS_MAX = 64 * 1024 * 1024;
const RETRY_AFTER_SECONDS = 1;

type Waiting = {
  readonly put: OrderPut;
  readonly resolve: (stored: OrderStored) => void;
  readonly reject: (error: unknown) => void;
};

export class OrderIntake {
  readonly #store: Pick<Store, 'putOrders'>;
  readonly #clock: () => number;
  #waiting: Waiting[] = [];
  #waitingCharacters = 0;
  #isRunning = false;

  constructor(given: { store: Pick<Store, 'putOrders'>; clock: () => number }) {
    this.#store = given.store;
    this.#clock = given.clock;
  }

  /** @throws AppError `too_many_requests` when too many wait already, and whatever the store says */
  put(put: OrderPut): Promise<OrderStored> {
    if (
      this.#waiting.length >= WAITING_ORDERS_MAX ||
      this.#waitingCharacters + put.details.length > WAITING_CHARACTERS_MAX
    ) {
      throw new AppError('too_many_requests', 'More orders wait to be stored than there is room for.', {
        retryAfterSeconds: RETRY_AFTER_SECONDS,
      });
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ put, resolve, reject });
      this.#waitingCharacters += put.details.length;
      if (this.#isRunning) return;
      this.#isRunning = true;
      // Not at once: what the other connections have sent by now is read first, and shares the commit.
      setImmediate(() => void this.#run());
    });
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) await this.#commit(this.#takeGroup());
    this.#isRunning = false;
  }

  #takeGroup(): readonly Waiting[] {
    let count = 0;
    let characters = 0;
    for (const { put } of this.#waiting) {
      if (
        count === COMMIT_ORDERS_MAX ||
        (count > 0 && characters + put.details.length > COMMIT_CHARACTERS_MAX)
      )
        break;
      count += 1;
      characters += put.details.length;
    }
    const group = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    this.#waitingCharacters -= characters;
    return group;
  }

  /** Never rejects: each of the group is told its own fate. */
  async #commit(group: readonly Waiting[]): Promise<void> {
    try {
      const stored = await this.#store.putOrders(
        group.map(({ put }) => put),
        this.#clock(),
      );
      for (const [index, { resolve }] of group.entries()) resolve(stored[index] as OrderStored);
    } catch (error) {
      if (error instanceof AppError || group.length === 1) {
        for (const { reject } of group) reject(error);
      } else {
        // Not the world's trouble, so one of them is to blame: alone, it fails alone.
        for (const waiting of group) await this.#commit([waiting]);
      }
    }
  }
}
