/**
 * Whose turn it is, while owed orders and new closings wait both (contract, section 5): one after the other, and owed orders
 * take at most half of the calls that run at once. So orders that their callee cannot bear, each of which may take the whole
 * time of a call, hold up no later one. Of one interface, over its executions: with a batch size of 1 too, every second call
 * is a new one.
 */
export class Turns {
  #owedRunning = 0;
  #wasOwed = false;

  /** `isNewReady`: a new closing could be called at once; otherwise some may come, or are being read. */
  isOwedNext(concurrency: number, isNewReady: boolean): boolean {
    const half = Math.max(1, Math.floor(concurrency / 2));
    return this.#owedRunning < half && !(this.#wasOwed && isNewReady);
  }

  begun(isOwed: boolean): void {
    this.#wasOwed = isOwed;
    if (isOwed) this.#owedRunning += 1;
  }

  ended(isOwed: boolean): void {
    if (isOwed) this.#owedRunning -= 1;
  }
}
