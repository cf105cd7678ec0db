/**
 * What is known of whether a callee answers at all (contract, section 5). An execution stops when too many calls in a row
 * have failed before any answer, and a continuous schedule then leaves the callee alone, twice as long each time.
 *
 * ```
 *   answering ──10 unanswered in a row──> left alone for 5 s, 10 s … 5 min ──its time is over──> tried again
 *       ^                                                                                            │
 *       └──────────────── a call is answered, or the destination is another ─────────────────────────┘
 * ```
 */
import { UNANSWERED_CALLS_MAX } from '../model/limits.ts';

export const BACK_OFF_MS_MIN = 5_000;
export const BACK_OFF_MS_MAX = 5 * 60_000;

export class Reach {
  #unansweredInARow = 0;
  #backOffMs = 0;
  #backOffUntil = 0;

  /** Until when a continuous schedule leaves the callee alone; a time in the past: not at all. */
  get backOffUntil(): number {
    return this.#backOffUntil;
  }

  answered(): void {
    this.#unansweredInARow = 0;
    this.#backOffMs = 0;
    this.#backOffUntil = 0;
  }

  /** Whether there were too many of them now; the count begins anew then. */
  unanswered(): boolean {
    this.#unansweredInARow += 1;
    if (this.#unansweredInARow < UNANSWERED_CALLS_MAX) return false;
    this.#unansweredInARow = 0;
    return true;
  }

  /** What came before is another execution's business. */
  beginCounting(): void {
    this.#unansweredInARow = 0;
  }

  backOff(now: number): void {
    this.#backOffMs = Math.min(2 * (this.#backOffMs || BACK_OFF_MS_MIN / 2), BACK_OFF_MS_MAX);
    this.#backOffUntil = now + this.#backOffMs;
  }
}
