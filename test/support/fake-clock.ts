import type { Clock } from '../../src/model/clock.ts';

/** Time that stands until a test moves it. Timers run in the order of their time. */
export class FakeClock implements Clock {
  #now: number;
  #timers: { at: number; sequence: number; action: () => void }[] = [];
  #sequence = 0;

  constructor(now = Date.UTC(2026, 0, 5, 9)) {
    this.#now = now;
  }

  now = (): number => this.#now;

  after(delayMs: number, action: () => void): () => void {
    this.#sequence += 1;
    const timer = { at: this.#now + delayMs, sequence: this.#sequence, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  forgetTimers(): void {
    this.#timers = [];
  }

  /** Runs what falls due, letting promises and `setImmediate` go on after each timer. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (let next = this.#nextBy(end); next; next = this.#nextBy(end)) {
      this.#timers = this.#timers.filter((one) => one !== next);
      this.#now = Math.max(this.#now, next.at);
      next.action();
      await settle();
    }
    this.#now = end;
    await settle();
  }

  /** The wall clock is set to another time; timers keep what they have left to wait. */
  jump(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers) timer.at += ms;
  }

  #nextBy(end: number) {
    return this.#timers
      .filter(({ at }) => at <= end)
      .sort((one, other) => one.at - other.at || one.sequence - other.sequence)[0];
  }
}

/** Until what is under way without time passing has come to rest: chains of promises and immediates. */
export async function settle(turns = 12): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}
