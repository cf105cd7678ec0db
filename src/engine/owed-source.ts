/**
 * What an interface owes, as one execution takes it: what is due, the longest due first.
 *
 * It reads from the store, while calls of the execution before may still run. What the store says of these is old, and what
 * failed in this execution is on the list anew; so everything that runs when the execution begins, or is begun or ends in
 * it, is left out: it is called already, or was, and comes back with a later execution when it failed.
 */
import type { QueueStore } from '../store/store.ts';
import { Delivery, type Ledger } from './ledger.ts';
import { letOthersGo, type WorkSource } from './work-source.ts';

/** Deliveries that one read brings into memory at most. */
const READ_AHEAD = 250;

type Query = {
  readonly dueBy?: number;
  readonly withDetails: boolean;
  /** What the ledger had under way when the execution began, and all since. */
  readonly watch: ReturnType<Ledger['watchTouched']>;
  after?: { dueAt: number; closingId: number };
};

export class OwedSource implements WorkSource {
  readonly #store: Pick<QueueStore, 'owed'>;
  readonly #ledger: Pick<Ledger, 'institutionId' | 'interfaceId' | 'watchTouched'>;
  /** Commits what the ledger knows: the store must know it too. */
  readonly #flush: () => Promise<void>;
  #query: Query | undefined;
  #read: Delivery[] = [];
  #index = 0;

  constructor(parts: {
    readonly store: Pick<QueueStore, 'owed'>;
    readonly ledger: Pick<Ledger, 'institutionId' | 'interfaceId' | 'watchTouched'>;
    readonly flush: () => Promise<void>;
  }) {
    this.#store = parts.store;
    this.#ledger = parts.ledger;
    this.#flush = parts.flush;
  }

  /** `dueBy` undefined: all, however long they have to wait. `withDetails`: a filter will ask for them. */
  begin(query: { readonly dueBy?: number; readonly withDetails: boolean }): void {
    this.close();
    this.#query = { ...query, watch: this.#ledger.watchTouched() };
  }

  /** Nothing more is to be taken from it. */
  close(): void {
    this.#query?.watch.end();
    this.#query = undefined;
    this.#read = [];
    this.#index = 0;
  }

  get isReady(): boolean {
    return this.#index < this.#read.length;
  }

  get isExhausted(): boolean {
    return this.#query === undefined && !this.isReady;
  }

  take(): Delivery | undefined {
    const delivery = this.#read[this.#index];
    if (delivery) this.#index += 1;
    return delivery;
  }

  async refill(): Promise<void> {
    await letOthersGo();
    const query = this.#query;
    if (query === undefined || this.isReady) return;
    await this.#flush();
    const { institutionId, interfaceId } = this.#ledger;
    const { watch, ...question } = query;
    const owed = await this.#store.owed(institutionId, interfaceId, { ...question, limit: READ_AHEAD });
    if (this.#query !== query) return; // it was begun anew, or closed
    const last = owed.at(-1);
    if (last === undefined) return this.close();
    query.after = { dueAt: last.dueAt, closingId: last.closingId };
    this.#read = owed.filter(({ closingId }) => !watch.touched.has(closingId)).map(Delivery.fromOwed);
    this.#index = 0;
  }
}
