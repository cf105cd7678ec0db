/**
 * What was taken and must be given back: connections, threads, folders. All of it is given back, in reverse, whatever one
 * of the releasers throws: a store that fails to close must not leave the data folder held.
 */
export class Releasers {
  readonly #releasers: (() => unknown)[] = [];

  /** `release` may be asynchronous. */
  push(release: () => unknown): void {
    this.#releasers.push(release);
  }

  /**
   * Runs every releaser once, one after the other, the last that was pushed first. A second call finds nothing to do.
   * @throws what the first releaser that failed threw, when all have run
   */
  async release(): Promise<void> {
    const failures: unknown[] = [];
    for (let next = this.#releasers.pop(); next !== undefined; next = this.#releasers.pop()) {
      try {
        await next();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** Runs all of `releasers`, the first one first. @throws what the first that failed threw, when all have run */
export async function releaseAll(...releasers: (() => unknown)[]): Promise<void> {
  const all = new Releasers();
  for (const release of releasers.reverse()) all.push(release);
  await all.release();
}
