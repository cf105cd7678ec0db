/**
 * The log as the executions of one interface take it, from where the one before stopped. Reads ahead, and keeps what it read
 * for the next execution while there is one at once.
 */
import type { Position } from '../store/store.ts';
import { Delivery, type Ledger } from './ledger.ts';
import type { LogPage, LogReader } from './log-reader.ts';
import { letOthersGo, type WorkSource } from './work-source.ts';

/** Deliveries that one read brings into memory at most. */
const READ_AHEAD = 250;
const NOTHING: LogPage = { closingIds: [], orderIds: [], positions: [], passes: [] };

export class LogSource implements WorkSource {
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
  #filter: string | undefined;

  constructor(reader: LogReader, ledger: Pick<Ledger, 'institutionId' | 'interfaceId'>, cursor: Position) {
    this.#reader = reader;
    this.#ledger = ledger;
    this.#taken = cursor;
  }

  get isReady(): boolean {
    return this.#logIndex < this.#log.closingIds.length || this.#following !== undefined;
  }

  get isExhausted(): boolean {
    return !this.#logHasMore && !this.isReady && this.#reading === undefined;
  }

  /** Closings arrived. */
  nudge(): void {
    this.#logHasMore = true;
  }

  /** For the next execution: the text of its filter. */
  begin(filter: string | undefined): void {
    if (filter !== this.#filter) this.dropReadAhead();
    this.#filter = filter;
  }

  /** Forgets what was read and not taken: what a filter said of an order must not get old. */
  dropReadAhead(): void {
    if (this.isReady || this.#reading) this.#logHasMore = true;
    this.#reading = undefined;
    this.#following = undefined;
    this.#log = NOTHING;
    this.#logIndex = 0;
  }

  take(): Delivery | undefined {
    if (!this.isReady) return undefined;
    if (this.#logIndex === this.#log.closingIds.length) this.#turnPage();
    const delivery = Delivery.fromLog(this.#log, this.#logIndex);
    this.#taken = this.#log.positions[this.#logIndex] as Position;
    this.#logIndex += 1;
    return delivery;
  }

  async refill(): Promise<void> {
    await letOthersGo();
    if (this.isReady) return;
    this.#readNext();
    await this.#reading;
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
