/**
 * The queue of one interface as an execution takes it: owed deliveries first, then the log from where the execution
 * before it stopped. Reads ahead, and keeps what it read for the next execution while there is one at once.
 */
import type { Position, QueueStore } from '../store/store.ts';
import type { WorkSource } from './execution.ts';
import { Delivery, type Ledger } from './ledger.ts';

type OwedToRead = { dueBy?: number; after?: { dueAt: number; closingId: number } };

/** Deliveries that one read brings into memory at most. */
const READ_AHEAD = 100;

export class QueueSource implements WorkSource {
  readonly #store: Pick<QueueStore, 'owed' | 'waiting'>;
  readonly #ledger: Pick<Ledger, 'institutionId' | 'interfaceId'>;
  /** Everything up to here was taken. */
  #taken: Position;
  #log: Delivery[] = [];
  #logIndex = 0;
  #logHasMore = true;
  #owed: Delivery[] = [];
  #owedIndex = 0;
  /** Undefined: no owed deliveries are left to take in this execution. */
  #owedQuery: OwedToRead | undefined;
  #withDetails = false;

  constructor(
    store: Pick<QueueStore, 'owed' | 'waiting'>,
    ledger: Pick<Ledger, 'institutionId' | 'interfaceId'>,
    cursor: Position,
  ) {
    this.#store = store;
    this.#ledger = ledger;
    this.#taken = cursor;
  }

  get hasReadAhead(): boolean {
    return this.#logIndex < this.#log.length;
  }

  /** Closings may wait that were not taken. */
  get mayHaveWaiting(): boolean {
    return this.hasReadAhead || this.#logHasMore;
  }

  /** Closings arrived. */
  nudge(): void {
    this.#logHasMore = true;
  }

  /** For one execution: which owed deliveries to take first (`false`: none), and whether a filter will read details. */
  begin({ owed, withDetails }: { owed: false | { dueBy?: number }; withDetails: boolean }): void {
    this.#owed = [];
    this.#owedIndex = 0;
    this.#owedQuery = owed ? { ...owed } : undefined;
    if (withDetails !== this.#withDetails) this.dropReadAhead();
    this.#withDetails = withDetails;
  }

  /** Forgets what was read and not taken: details in memory must not get old. */
  dropReadAhead(): void {
    if (this.hasReadAhead) this.#logHasMore = true;
    this.#log = [];
    this.#logIndex = 0;
  }

  next(): Delivery | undefined {
    if (this.#owedIndex < this.#owed.length) {
      this.#owedIndex += 1;
      return this.#owed[this.#owedIndex - 1];
    }
    if (this.#owedQuery !== undefined || !this.hasReadAhead) return undefined;
    const delivery = this.#log[this.#logIndex] as Delivery;
    this.#logIndex += 1;
    this.#taken = (delivery.place as { position: Position }).position;
    return delivery;
  }

  async refill(): Promise<boolean> {
    // Reading may be all that happens, with a filter that passes nothing: let answers and timers in between.
    await new Promise<void>((resolve) => setImmediate(resolve));
    return (
      (this.#owedQuery !== undefined && (await this.#readOwed(this.#owedQuery))) || (await this.#readLog())
    );
  }

  async #readOwed(query: OwedToRead): Promise<boolean> {
    const { institutionId, interfaceId } = this.#ledger;
    const page = { ...query, limit: READ_AHEAD, withDetails: this.#withDetails };
    const owed = await this.#store.owed(institutionId, interfaceId, page);
    const last = owed[owed.length - 1];
    if (last === undefined) {
      this.#owedQuery = undefined;
      return false;
    }
    query.after = { dueAt: last.dueAt, closingId: last.closingId };
    this.#owed = owed.map(Delivery.fromOwed);
    this.#owedIndex = 0;
    return true;
  }

  async #readLog(): Promise<boolean> {
    if (this.hasReadAhead) return true;
    // Cleared before the read: a nudge during it counts.
    this.#logHasMore = false;
    const query = { limit: READ_AHEAD, withDetails: this.#withDetails };
    const closings = await this.#store
      .waiting(this.#ledger.institutionId, this.#taken, query)
      .catch((error) => {
        this.#logHasMore = true;
        throw error;
      });
    this.#log = closings.map(Delivery.fromLog);
    this.#logIndex = 0;
    if (closings.length > 0) this.#logHasMore = true;
    return closings.length > 0;
  }
}
