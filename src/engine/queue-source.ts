/**
 * The queue of one interface as an execution takes it: owed deliveries first, then the log from where the execution
 * before it stopped. Reads ahead, and keeps what it read for the next execution while there is one at once.
 */
import type { Position, QueueStore } from '../store/store.ts';
import type { WorkSource } from './execution.ts';
import { Delivery, type Ledger } from './ledger.ts';
import type { LogPage, LogReader } from './log-reader.ts';

type OwedToRead = { dueBy?: number; after?: { dueAt: number; closingId: number } };

/** Deliveries that one read brings into memory at most. */
const READ_AHEAD = 250;
const NOTHING: LogPage = { closingIds: [], orderIds: [], positions: [], passes: [] };

export class QueueSource implements WorkSource {
  readonly #store: Pick<QueueStore, 'owed'>;
  readonly #reader: LogReader;
  readonly #ledger: Pick<Ledger, 'institutionId' | 'interfaceId'>;
  /** Everything up to here was taken. */
  #taken: Position;
  #log = NOTHING;
  #logIndex = 0;
  /** There may be more in the log than was read or is being read. */
  #logHasMore = true;
  /** What follows on `#log`, once it was read. */
  #following: LogPage | undefined;
  #reading: Promise<void> | undefined;
  #owed: Delivery[] = [];
  #owedIndex = 0;
  /** Undefined: no owed deliveries are left to take in this execution. */
  #owedQuery: OwedToRead | undefined;
  #filter: string | undefined;

  constructor(
    store: Pick<QueueStore, 'owed'>,
    reader: LogReader,
    ledger: Pick<Ledger, 'institutionId' | 'interfaceId'>,
    cursor: Position,
  ) {
    this.#store = store;
    this.#reader = reader;
    this.#ledger = ledger;
    this.#taken = cursor;
  }

  get hasReadAhead(): boolean {
    return this.#logIndex < this.#log.closingIds.length || this.#following !== undefined;
  }

  /** Closings may wait that were not taken. */
  get mayHaveWaiting(): boolean {
    return this.hasReadAhead || this.#reading !== undefined || this.#logHasMore;
  }

  /** Closings arrived. */
  nudge(): void {
    this.#logHasMore = true;
  }

  /** For one execution: which owed deliveries to take first (`false`: none), and the text of its filter. */
  begin({ owed, filter }: { owed: false | { dueBy?: number }; filter: string | undefined }): void {
    this.#owed = [];
    this.#owedIndex = 0;
    this.#owedQuery = owed ? { ...owed } : undefined;
    if (filter !== this.#filter) this.dropReadAhead();
    this.#filter = filter;
  }

  /** Forgets what was read and not taken: what a filter said of an order must not get old. */
  dropReadAhead(): void {
    if (this.hasReadAhead || this.#reading) this.#logHasMore = true;
    this.#reading = undefined;
    this.#following = undefined;
    this.#log = NOTHING;
    this.#logIndex = 0;
  }

  next(): Delivery | undefined {
    if (this.#owedIndex < this.#owed.length) {
      this.#owedIndex += 1;
      return this.#owed[this.#owedIndex - 1];
    }
    if (this.#owedQuery !== undefined || !this.hasReadAhead) return undefined;
    if (this.#logIndex === this.#log.closingIds.length) this.#turnPage();
    const delivery = Delivery.fromLog(this.#log, this.#logIndex);
    this.#taken = this.#log.positions[this.#logIndex] as Position;
    this.#logIndex += 1;
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
    const page = { ...query, limit: READ_AHEAD, withDetails: this.#filter !== undefined };
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
    this.#readNext();
    await this.#reading;
    return this.hasReadAhead;
  }

  /** Reads what follows on the page that is taken now: a read takes its time, and calls shall not wait for it. */
  #turnPage(): void {
    this.#log = this.#following ?? NOTHING;
    this.#logIndex = 0;
    this.#following = undefined;
    this.#readNext();
  }

  #readNext(): void {
    if (this.#reading || this.#following || !this.#logHasMore) return;
    // Cleared before the read: a nudge during it counts.
    this.#logHasMore = false;
    const after = this.#log.positions.at(-1) ?? this.#taken;
    const { institutionId, interfaceId } = this.#ledger;
    const question = { institutionId, interfaceId, after, limit: READ_AHEAD, filter: this.#filter };
    const reading = this.#reader.read(question).then(
      (page) => {
        if (page.closingIds.length > 0) this.#logHasMore = true;
        if (this.#reading !== reading) return; // it was dropped
        this.#reading = undefined;
        if (page.closingIds.length > 0) this.#following = page;
      },
      (error: unknown) => {
        this.#logHasMore = true;
        if (this.#reading === reading) this.#reading = undefined;
        throw error;
      },
    );
    this.#reading = reading;
    // Whoever waits for it hears of it; when nobody does, it is read again when it is needed.
    reading.catch(() => {});
  }
}
