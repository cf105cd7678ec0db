/**
 * When connections may go on: one schedule for all connections of a caller.
 *
 * ```
 *   poll: an answer is whole ──> check ──> poll: its end or more of it is seen ──> check: rested
 *         └ of a connection that is not proven: at least PROBATION_MS, then the same
 *   poll: an answer that costs much ──> paused ──> resumed, after `took` × PAUSE_FACTOR × paused
 * ```
 *
 * Hides timers and immediates. Promises that between `rest` and `onRested` the event loop has looked at every socket, and
 * that the answers which cost much have about a tenth of the thread's time, all together, however many they are.
 */

export type Resting = {
  onRested(): void;
};

/**
 * A connection may be used again only after this, as long as nobody knows that its callee leaves it open after an answer.
 * What a callee says behind its answer may be held up at its side until our system has acknowledged the answer: on Linux
 * after 40 ms, or with our next request (RFC 1122, 4.2.3.2 and 4.2.3.4).
 */
export const PROBATION_MS = 50;
/** Times what was spent on a costly read: as long as its connection is not read for. */
const PAUSE_FACTOR = 9;
/** However much one read took: a machine that slept must not make an answer late. */
const PAUSE_MS_MAX = 1_000;
/** Timers count in milliseconds. */
const TIMER_MS_MIN = 1;

export class Rests {
  /** The event loop has not looked at the sockets since these began to rest. */
  #unseen: Resting[] = [];
  /** It has, when the next immediate runs. */
  #seen: Resting[] = [];
  #turning: NodeJS.Immediate | undefined;
  /** On probation since the timer began, and since before: they are over when it ends. */
  #onProbation: Resting[] = [];
  #onProbationSince: Resting[] = [];
  #probation: NodeJS.Timeout | undefined;
  #pausedCount = 0;

  /** Tells `one` when the event loop has looked at all sockets once more. */
  rest(one: Resting): void {
    this.#unseen.push(one);
    this.#turning ??= setImmediate(this.#turn);
  }

  /** The same after PROBATION_MS, and at most as long again. */
  restOnProbation(one: Resting): void {
    if (this.#probation === undefined) {
      this.#onProbation.push(one);
      this.#probation = setTimeout(this.#endProbation, PROBATION_MS).unref();
    } else {
      this.#onProbationSince.push(one);
    }
  }

  /** Calls `resume` when a read that took so long is made up for. The event loop turns in between. */
  pause(tookMs: number, resume: () => void): void {
    this.#pausedCount += 1;
    const pauseMs = Math.min(tookMs * PAUSE_FACTOR * this.#pausedCount, PAUSE_MS_MAX);
    const end = () => {
      this.#pausedCount -= 1;
      resume();
    };
    if (pauseMs < TIMER_MS_MIN) setImmediate(end);
    else setTimeout(end, pauseMs);
  }

  /** Nobody rests any more. */
  stop(): void {
    clearImmediate(this.#turning);
    clearTimeout(this.#probation);
  }

  readonly #turn = () => {
    const rested = this.#seen;
    this.#seen = this.#unseen;
    this.#unseen = [];
    this.#turning = this.#seen.length > 0 ? setImmediate(this.#turn) : undefined;
    for (const one of rested) one.onRested();
  };

  readonly #endProbation = () => {
    for (const one of this.#onProbation) this.rest(one);
    this.#onProbation = this.#onProbationSince;
    this.#onProbationSince = [];
    this.#probation =
      this.#onProbation.length > 0 ? setTimeout(this.#endProbation, PROBATION_MS).unref() : undefined;
  };
}
