/**
 * Work that takes as long as a client likes is done in turns, so that no body, whatever is in it, holds up others.
 *
 * All such work of the process shares one slice of time; when that is used up, the event loop turns a few times before
 * the next slice begins. A request of anybody else so waits for one slice at most. Who waits for a turn waits in line with
 * its own kind, and the lines take turns: the thousand imports of one institution delay the import of another by one slice.
 */

/** Of work, before the event loop turns. */
const SLICE_MS = 10;
/** As many as a request needs from its first byte to its answer: it meets one slice, not one at each of its steps. */
const REST_TURNS = 4;

/** What a step is done for: an institution, or whoever else must not wait behind the others. */
export type TurnKey = string | number;

export class WorkTurns {
  readonly #now: () => number;
  readonly #nextTurn: (callback: () => void) => void;
  /** Of the slice. */
  #usedMs = 0;
  /** In this turn of the event loop, up to when time was counted; undefined: nothing was done in it yet. */
  #countedTo: number | undefined;
  #isResting = false;
  /** By key; the one whose turn is next is first. */
  readonly #lines = new Map<TurnKey, (() => void)[]>();

  /** `now`: milliseconds that only grow. `nextTurn`: calls back when the event loop has turned. */
  constructor(
    given: { readonly now?: () => number; readonly nextTurn?: (callback: () => void) => void } = {},
  ) {
    this.#now = given.now ?? (() => performance.now());
    this.#nextTurn = given.nextTurn ?? setImmediate;
  }

  /**
   * Does a step when it is its turn: at once, as long as the slice lasts and nobody waits. A step that could be long asks
   * `isOver` now and then, and returns when it is, to go on in another turn. It is not over before something was done.
   */
  async run<T>(key: TurnKey, step: (isOver: () => boolean) => T): Promise<T> {
    if (this.#isResting || this.#lines.size > 0) await this.#stand(key);
    const startedAt = this.#beginCounting();
    try {
      return step(() => this.#usedMs + this.#now() - startedAt >= SLICE_MS);
    } finally {
      this.#countedTo = this.#now();
      this.#usedMs += this.#countedTo - startedAt;
      if (this.#usedMs >= SLICE_MS) this.#rest(REST_TURNS);
      else if (!this.#isResting) this.#wakeNext();
    }
  }

  /**
   * What was done between two steps in one turn of the event loop was done for them as a rule: the next bytes were read, and
   * cut into chunks. A socket that has more and more of them is read up to 32 times in one turn.
   */
  #beginCounting(): number {
    if (this.#countedTo !== undefined) return this.#countedTo;
    this.#nextTurn(() => {
      this.#countedTo = undefined;
    });
    return this.#now();
  }

  #stand(key: TurnKey): Promise<void> {
    return new Promise((resolve) => {
      const line = this.#lines.get(key);
      if (line) line.push(resolve);
      else this.#lines.set(key, [resolve]);
    });
  }

  #rest(turns: number): void {
    // Several steps of one slice may end after it did.
    if (this.#isResting && turns === REST_TURNS) return;
    this.#isResting = true;
    this.#nextTurn(() => {
      if (turns > 1) return this.#rest(turns - 1);
      this.#isResting = false;
      this.#usedMs = 0;
      this.#wakeNext();
    });
  }

  #wakeNext(): void {
    const next = this.#lines.entries().next();
    if (next.done) return;
    const [key, line] = next.value;
    const wake = line.shift();
    // To the end of the lines, or out of them.
    this.#lines.delete(key);
    if (line.length > 0) this.#lines.set(key, line);
    wake?.();
  }
}
