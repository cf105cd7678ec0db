/** So many calls in any one minute for each key: a fixed window that begins with the key's first call. */

const WINDOW_MS = 60_000;
/** Windows that are kept before those that are over are thrown away. */
const WINDOWS_SWEPT_AT = 10_000;

export class RateLimit {
  readonly #callsPerMinute: number;
  readonly #clock: () => number;
  readonly #windows = new Map<string | number, { calls: number; readonly endsAt: number }>();

  constructor(given: { callsPerMinute: number; clock: () => number }) {
    this.#callsPerMinute = given.callsPerMinute;
    this.#clock = given.clock;
  }

  /** Counts a call. Undefined when it may go on, otherwise the whole seconds until one may. */
  take(key: string | number): number | undefined {
    const now = this.#clock();
    let window = this.#windows.get(key);
    if (window === undefined || window.endsAt <= now) {
      if (this.#windows.size >= WINDOWS_SWEPT_AT) this.#sweep(now);
      window = { calls: 0, endsAt: now + WINDOW_MS };
      this.#windows.set(key, window);
    }
    if (window.calls >= this.#callsPerMinute) return Math.ceil((window.endsAt - now) / 1000);
    window.calls += 1;
    return undefined;
  }

  #sweep(now: number): void {
    for (const [key, { endsAt }] of this.#windows) if (endsAt <= now) this.#windows.delete(key);
  }
}
