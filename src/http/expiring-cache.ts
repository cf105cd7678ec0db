/** Remembers at most so many values, each for so long. What it says may be that old: ask the store where that matters. */
export class ExpiringCache<K, V> {
  readonly #entries = new Map<K, { readonly value: V; readonly until: number }>();
  readonly #lifetimeMs: number;
  readonly #entriesMax: number;
  readonly #clock: () => number;

  constructor(given: { lifetimeMs: number; entriesMax: number; clock: () => number }) {
    this.#lifetimeMs = given.lifetimeMs;
    this.#entriesMax = given.entriesMax;
    this.#clock = given.clock;
  }

  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (entry.until > this.#clock()) return entry.value;
    this.#entries.delete(key);
    return undefined;
  }

  set(key: K, value: V): void {
    this.#entries.delete(key);
    // A Map gives its keys oldest first.
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size < this.#entriesMax) break;
      this.#entries.delete(oldest);
    }
    this.#entries.set(key, { value, until: this.#clock() + this.#lifetimeMs });
  }

  deleteWhere(holds: (value: V) => boolean): void {
    for (const [key, { value }] of this.#entries) if (holds(value)) this.#entries.delete(key);
  }
}
