/** How many calls by hand may run: they count into the concurrency of their interface, and each institution has a limit. */
import { AppError } from '../model/app-error.ts';
import type { InstitutionId, InterfaceId } from '../model/entities.ts';
import { RateLimit } from './rate-limit.ts';

/** Who knows how many calls of an interface run. */
export type CallSlots = {
  /**
   * Room for one more call; resolves within a second, with what gives the room back, or undefined when `concurrency` calls
   * run already.
   */
  reserve(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    concurrency: number,
  ): Promise<(() => void) | undefined>;
};

/** Counts what is reserved here, and nothing else. */
export class OwnCallSlots implements CallSlots {
  readonly #running = new Map<InterfaceId, number>();

  async reserve(
    _institutionId: InstitutionId,
    interfaceId: InterfaceId,
    concurrency: number,
  ): Promise<(() => void) | undefined> {
    return reserveOne(this.#running, interfaceId, concurrency);
  }
}

/** One more of `key`, if there are fewer than `max`. What is returned gives it back, once. */
function reserveOne<K>(running: Map<K, number>, key: K, max: number): (() => void) | undefined {
  const count = running.get(key) ?? 0;
  if (count >= max) return undefined;
  running.set(key, count + 1);
  let isReleased = false;
  return () => {
    if (isReleased) return;
    isReleased = true;
    const left = (running.get(key) ?? 1) - 1;
    if (left === 0) running.delete(key);
    else running.set(key, left);
  };
}

export const TEST_CALLS_AT_ONCE_MAX = 16;
export const TEST_CALLS_PER_MINUTE_MAX = 300;
/** A call ends within its time limits, most of them at once. */
const RETRY_AFTER_SECONDS = 1;

export class TestCallGate {
  readonly #slots: CallSlots;
  readonly #perMinute: RateLimit;
  readonly #running = new Map<InstitutionId, number>();

  constructor(given: { readonly slots: CallSlots; readonly clock: () => number }) {
    this.#slots = given.slots;
    this.#perMinute = new RateLimit({ callsPerMinute: TEST_CALLS_PER_MINUTE_MAX, clock: given.clock });
  }

  /**
   * Makes a call when there is room for it. The room is given back when `call` has settled.
   * @throws AppError `too_many_requests`, which says of what
   */
  async run<T>(
    subject: {
      readonly institutionId: InstitutionId;
      readonly id: InterfaceId;
      readonly concurrency: number;
    },
    call: () => Promise<T>,
  ): Promise<T> {
    const { institutionId, id, concurrency } = subject;
    const leave = reserveOne(this.#running, institutionId, TEST_CALLS_AT_ONCE_MAX);
    if (!leave) {
      throw refused(`An institution may have ${TEST_CALLS_AT_ONCE_MAX} test calls running at once.`);
    }
    try {
      const retryAfterSeconds = this.#perMinute.take(institutionId);
      if (retryAfterSeconds !== undefined) {
        const message = `An institution may make ${TEST_CALLS_PER_MINUTE_MAX} test calls a minute.`;
        throw refused(message, retryAfterSeconds);
      }
      const release = await this.#slots.reserve(institutionId, id, concurrency);
      if (!release) {
        throw refused(
          `As many calls of this interface run as its concurrency allows, which is ${concurrency}.`,
        );
      }
      try {
        return await call();
      } finally {
        release();
      }
    } finally {
      leave();
    }
  }
}

function refused(message: string, retryAfterSeconds = RETRY_AFTER_SECONDS): AppError {
  return new AppError('too_many_requests', message, { retryAfterSeconds });
}
