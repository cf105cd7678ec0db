/**
 * A collection for things that come and go by the ten thousand a second, in no order. A `Set` would do, but for the garbage
 * collector: when a `Set` makes itself a new table, the old one points to it, so an old table that is garbage itself keeps all
 * that come after it, and everything that was ever in them, until the next of the costly collections.
 */
export type Bagged = {
  /** Where it lies; the bag's alone to read and write. Undefined outside of it. */
  placeInBag?: number | undefined;
};

export class Bag<T extends Bagged> {
  readonly #items: T[] = [];

  get size(): number {
    return this.#items.length;
  }

  add(item: T): void {
    item.placeInBag = this.#items.length;
    this.#items.push(item);
  }

  /** False when it is not there. An item is in one bag at most. */
  delete(item: T): boolean {
    const place = item.placeInBag;
    if (place === undefined) return false;
    item.placeInBag = undefined;
    const last = this.#items.pop() as T;
    if (last !== item) {
      this.#items[place] = last;
      last.placeInBag = place;
    }
    return true;
  }

  clear(): void {
    for (const item of this.#items) item.placeInBag = undefined;
    this.#items.length = 0;
  }

  /** A copy, so that whoever goes through it may add and delete. */
  items(): readonly T[] {
    return [...this.#items];
  }
}
