/** So many calls in any one minute for each key: a fixed window that begins with the key's first call. */

const WINDOW_MS = 60_000;

export class RateLimit {
  readonly #callsPerMinute: number;
  readonly #clock: () => number;
  /** In the order in which they end, since all are as long: those that are over are at the front. */
  readonly #windows = new Map<string | number, { calls: number; readonly endsAt: number }>();

  constructor(given: { callsPerMinute: number; clock: () => number }) {
    this.#callsPerMinute = given.callsPerMinute;
    this.#clock = given.clock;
  }

  /** Keys of which something is kept. */
  get size(): number {
    return this.#windows.size;
  }

  /** Counts a call. Undefined when it may go on, otherwise the whole seconds until one may. */
  take(key: string | number): number | undefined {
    const now = this.#clock();
    
    let window = this.#windows.get(key);
    if (window === undefined || window.endsAt <= now) {
      this.#windows.delete(key);
      window = { calls: 0, endsAt: now + WINDOW_MS };
      this.#windows.set(key, window);
    }
    if (window.calls >= this.#callsPerMinute) return Math.ceil((window.endsAt - now) / 1000);
    window.calls += 1;
    return undefined;
  }

  #forgetWhatIsOver(now: number): void {
    for (const [key, { endsAt }] of this.#windows) {
      if (endsAt > now) return;
      this.#windows.delete(key);
    }
  }
}
