/**
 * How long an import waits for its sender: not for each byte, which could go on for ever, but until a line has ended that is
 * not blank. Time in which the import is busy itself does not count.
 */
import { AppError } from '../model/app-error.ts';

/** Between two looks at how long it has waited: shares of what it may wait. */
const LOOKS = 10;

export class Patience {
  readonly #progressMs: number;
  readonly #now: () => number;
  readonly #looking: NodeJS.Timeout;
  readonly #stopping: AbortSignal;
  readonly #onStop: () => void;
  #waitedMs = 0;
  #waitsSince = 0;
  #giveUp: ((error: AppError) => void) | undefined;

  constructor(given: {
    readonly progressMs: number;
    readonly stopping: AbortSignal;
    /** What a wait ends with when the service stops. */
    readonly isStopping: () => AppError;
    readonly now?: () => number;
  }) {
    const { progressMs, stopping, isStopping, now = () => performance.now() } = given;
    this.#progressMs = progressMs;
    this.#now = now;
    this.#stopping = stopping;
    this.#onStop = () => this.#giveUp?.(isStopping());
    stopping.addEventListener('abort', this.#onStop);
    this.#looking = setInterval(() => this.#look(), progressMs / LOOKS).unref();
  }

  /** @throws AppError `request_too_slow`; and whatever `coming` and the stop throw */
  async wait<T>(coming: Promise<T>): Promise<T> {
    this.#waitsSince = this.#now();
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#giveUp = reject;
        coming.then(resolve, reject);
        if (this.#stopping.aborted) this.#onStop();
      });
    } finally {
      this.#giveUp = undefined;
      this.#waitedMs += this.#now() - this.#waitsSince;
    }
  }

  /** There was progress. */
  restart(): void {
    this.#waitedMs = 0;
  }

  end(): void {
    clearInterval(this.#looking);
    this.#stopping.removeEventListener('abort', this.#onStop);
  }

  #look(): void {
    if (this.#giveUp === undefined) return;
    if (this.#waitedMs + this.#now() - this.#waitsSince < this.#progressMs) return;
    const message = `No line that is not blank has ended for ${Math.round(this.#progressMs / 1000)} seconds.`;
    this.#giveUp(new AppError('request_too_slow', message));
  }
}
