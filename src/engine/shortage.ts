/**
 * What this machine is short of: file descriptors, ports, memory. A call that could not be made for such a reason says
 * nothing of its callee, and making more of them would only fail more. So fewer run at once, over all interfaces of this
 * node, until calls are made again (contract, sections 2.3 and 9).
 *
 * ```
 *   plenty ──a call fails with `local`──> short: half as many at once, none for a moment, twice as long each time
 *     ^                                     │ each call that could be made: one more at once
 *     └──── as many at once as before <─────┘
 * ```
 */
import type { Clock } from '../model/clock.ts';
import type { Outcome } from '../model/outcome.ts';
import type { Log } from '../observe/log.ts';

const PAUSE_MS_MIN = 100;
const PAUSE_MS_MAX = 5_000;

export class Shortage {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #onChange: (isShort: boolean) => void;
  #running = 0;
  /** Calls at once; as many as anybody likes while nothing is short. */
  #limit = Number.POSITIVE_INFINITY;
  /** What ran when the first one failed: with as many again, it is over. */
  #plenty = 0;
  #because = '';
  #pauseMs = PAUSE_MS_MIN;
  #pausedUntil = 0;
  #cancelPause: (() => void) | undefined;
  #waiting = new Set<() => void>();

  /** `onChange`: told when it begins and when it is over. */
  constructor(parts: {
    readonly clock: Clock;
    readonly log: Log;
    readonly onChange?: ((isShort: boolean) => void) | undefined;
  }) {
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#onChange = parts.onChange ?? (() => {});
  }

  /** What is short, in words; undefined: nothing. */
  get because(): string | undefined {
    return this.#limit === Number.POSITIVE_INFINITY ? undefined : this.#because;
  }

  /** Whether one more call may begin now. */
  get hasRoom(): boolean {
    return this.#running < this.#limit && this.#pausedUntil <= this.#clock.now();
  }

  /** Asks to be told once, when there may be room again. */
  whenRoom(action: () => void): void {
    this.#waiting.add(action);
  }

  begun(): void {
    this.#running += 1;
  }

  ended(): void {
    this.#running -= 1;
  }

  /** What a call came to; it still counts until `ended`. */
  learn(outcome: Outcome): void {
    if (!outcome.delivered && outcome.reason === 'local') this.#fell(outcome.detail);
    else if (this.#limit !== Number.POSITIVE_INFINITY) this.#rose();
  }

  stop(): void {
    this.#cancelPause?.();
    this.#waiting.clear();
  }

  #fell(detail: string): void {
    const wasShort = this.#limit !== Number.POSITIVE_INFINITY;
    this.#because = detail;
    if (!wasShort) {
      this.#plenty = this.#running;
      this.#onChange(true);
      this.#log.warn(
        { event: 'calls.short', because: detail, running: this.#running },
        'calls wait: this machine is short of something; no attempt is used up',
      );
    }
    // Those that began together fail together, and are one failure.
    if (this.#pausedUntil > this.#clock.now()) return;
    this.#limit = Math.max(1, Math.floor(Math.min(this.#limit, this.#running) / 2));
    this.#pausedUntil = this.#clock.now() + this.#pauseMs;
    this.#cancelPause?.();
    this.#cancelPause = this.#clock.after(this.#pauseMs, () => this.#tellWaiting());
    this.#pauseMs = Math.min(this.#pauseMs * 2, PAUSE_MS_MAX);
  }

  #rose(): void {
    this.#limit += 1;
    this.#pauseMs = PAUSE_MS_MIN;
    if (this.#limit > this.#plenty) {
      this.#limit = Number.POSITIVE_INFINITY;
      this.#onChange(false);
      this.#log.info({ event: 'calls.short_over' }, 'calls are made as before');
    }
    this.#tellWaiting();
  }

  #tellWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const action of waiting) action();
  }
}
