/**
 * One connection to the SQLite file: pragmas, migrations, transactions, and errors in the words of the contract.
 *
 * Several threads of one process may each have a connection. SQLite lets one of them write at a time and makes the
 * others sleep and look again; the shared lock lets them wait in line instead.
 */

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { AppError, StartError } from '../../model/app-error.ts';
import type { OrderId } from '../../model/order.ts';

export type Row = Record<string, SQLOutputValue>;

const MIGRATIONS = new URL('../migrations/sqlite/', import.meta.url);
const BUSY_TIMEOUT_MS = 10_000;
const RETRY_AFTER_SECONDS = 2;
/**
 * Orders of some kilobytes fill a page of the default size, 4,096, by half: a bigger one is less to write for each. It
 * holds for a new file only. Measured by `bench/import`.
 */
export const PAGE_BYTES = 16_384;
/** Of each connection; the operating system caches the file too. */
const CACHE_KIBIBYTES = 2_048;
/** Pages of the write-ahead log before it is copied into the database file. */
const WAL_PAGES = 1_000;
/** What the write-ahead log keeps of its size after a peak, in bytes: twice what it usually takes. */
export const LOG_BYTES_KEPT = 2 * WAL_PAGES * PAGE_BYTES;
/** How long the cut of the write-ahead log waits for reads that are under way; meanwhile nobody writes. */
const CUT_WAIT_MS = 200;
/** How a file gives pages back that are free: 2, when it is told to (`PRAGMA incremental_vacuum`). */
export const INCREMENTAL = 2;

const ANOTHER_HOLDS_IT = 'another program holds its file';
/** SQLite's primary result codes for troubles that pass, and what a client may know of them. */
const PASSING_TROUBLES: ReadonlyMap<number, string | undefined> = new Map([
  [5, ANOTHER_HOLDS_IT], // SQLITE_BUSY
  [6, ANOTHER_HOLDS_IT], // SQLITE_LOCKED
  [8, 'its file cannot be written'], // SQLITE_READONLY
  [10, 'its disk does not work as it should'], // SQLITE_IOERR
  [13, 'its disk is full'], // SQLITE_FULL
  [14, 'its file cannot be opened'], // SQLITE_CANTOPEN
  [15, undefined], // SQLITE_PROTOCOL
]);

export class Database {
  readonly #file: string;
  readonly #db: DatabaseSync;
  readonly #lock: ThreadLock | undefined;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;

  /** @throws StartError when the file's schema is of a newer Orderhook */
  constructor(file: string, lock?: ThreadLock) {
    this.#file = file;
    this.#lock = lock;
    this.#db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
    // The first two hold for a new file only, and must come before anything is written to it. What is deleted is overwritten
    // with zeros, so that details that were removed are nowhere in the file; those of most orders lie within a page, which is
    // written anyway.
    this.#db.exec(`
      PRAGMA page_size = ${PAGE_BYTES};
      PRAGMA auto_vacuum = INCREMENTAL;
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA secure_delete = ON;
      PRAGMA wal_autocheckpoint = ${WAL_PAGES};
      PRAGMA journal_size_limit = ${LOG_BYTES_KEPT};
      PRAGMA cache_size = -${CACHE_KIBIBYTES};
      PRAGMA temp_store = MEMORY;
    `);
    this.#migrate(file);
    this.#begin = this.#db.prepare('BEGIN IMMEDIATE');
    this.#commit = this.#db.prepare('COMMIT');
  }

  prepare(sql: string): StatementSync {
    return this.#db.prepare(sql);
  }

  /** Rows as arrays of columns: for the paths that read many. */
  prepareArrays(sql: string): StatementSync {
    const statement = this.#db.prepare(sql);
    statement.setReturnArrays(true);
    return statement;
  }

  /** Runs `work` in one transaction; when this returns, its writes are on disk. */
  write<T>(work: () => T): T {
    this.#lock?.acquire();
    try {
      this.#begin.run();
      const result = work();
      this.#commit.run();
      return result;
    } catch (error) {
      this.#rollBack();
      throw translate(error);
    } finally {
      this.#lock?.release();
    }
  }

  read<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw translate(error);
    }
  }

  close(): void {
    this.#db.close();
  }

  /** Of the write-ahead log, on disk. */
  get logBytes(): number {
    return statSync(`${this.#file}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Bytes of the database, and those of its free pages. `canGiveBack`: it is no file of before they could be given back. */
  get room(): { readonly bytes: number; readonly freeBytes: number; readonly canGiveBack: boolean } {
    const pageBytes = this.#pragma('page_size');
    return {
      bytes: this.#pragma('page_count') * pageBytes,
      freeBytes: this.#pragma('freelist_count') * pageBytes,
      canGiveBack: this.#pragma('auto_vacuum') === INCREMENTAL,
    };
  }

  /** Takes free pages off the end of the database, for which others move to the front. The file gets shorter with the next cut. */
  giveBack(bytes: number): void {
    const pages = Math.ceil(bytes / this.#pragma('page_size'));
    this.write(() => this.#db.exec(`PRAGMA incremental_vacuum(${pages})`));
  }

  /**
   * Copies the write-ahead log into the database file and cuts it to nothing. False while a read transaction that began
   * before, of whatever process, still needs it.
   */
  cutLog(): boolean {
    return this.read(() => {
      // Most of the work, and it keeps nobody waiting.
      this.#db.exec('PRAGMA wal_checkpoint(PASSIVE)');
      this.#lock?.acquire();
      try {
        this.#db.exec(`PRAGMA busy_timeout = ${CUT_WAIT_MS}`);
        return this.#pragma('wal_checkpoint(TRUNCATE)') === 0;
      } finally {
        this.#db.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}`);
        this.#lock?.release();
      }
    });
  }

  #pragma(text: string): number {
    return Number(Object.values(this.#db.prepare(`PRAGMA ${text}`).get() ?? {})[0]);
  }

  #rollBack(): void {
    // SQLite has rolled back by itself after some errors, such as a full disk.
    if (!this.#db.isTransaction) return;
    try {
      this.#db.exec('ROLLBACK');
    } catch {
      // The first error is the one to tell; the next BEGIN would tell this one.
    }
  }

  #migrate(file: string): void {
    const migrations = readdirSync(MIGRATIONS)
      .filter((name) => /^\d{4}-.+\.sql$/.test(name))
      .sort();
    const apply = () => {
      const version = Number(this.#db.prepare('PRAGMA user_version').get()?.user_version);
      if (version > migrations.length) {
        throw new StartError(
          `${file} has schema version ${version}; this Orderhook knows versions up to ${migrations.length}. ` +
            'Use the Orderhook that wrote it, or a newer one.',
        );
      }
      for (const [index, name] of migrations.entries()) {
        if (index < version) continue;
        this.#db.exec(readFileSync(new URL(name, MIGRATIONS), 'utf8'));
        this.#db.exec(`PRAGMA user_version = ${index + 1}`);
      }
    };
    // One transaction for all: a second starter waits at BEGIN, then finds nothing left to do.
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      apply();
      this.#db.exec('COMMIT');
    } catch (error) {
      this.#rollBack();
      throw error;
    }
  }
}

/** A mutual exclusion for the threads of one process, over shared memory. */
export class ThreadLock {
  readonly #cell: Int32Array;

  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(4)) {
    this.#cell = new Int32Array(memory);
  }

  /** What another thread makes its `ThreadLock` from. */
  get memory(): SharedArrayBuffer {
    return this.#cell.buffer as SharedArrayBuffer;
  }

  /** Blocks the thread: held for single transactions only, that is for about a millisecond. */
  acquire(): void {
    // 0 free, 1 held, 2 held and somebody waits (U. Drepper, "Futexes Are Tricky", mutex 2).
    if (Atomics.compareExchange(this.#cell, 0, 0, 1) === 0) return;
    while (Atomics.exchange(this.#cell, 0, 2) !== 0) Atomics.wait(this.#cell, 0, 2);
  }

  release(): void {
    if (Atomics.exchange(this.#cell, 0, 0) === 2) Atomics.notify(this.#cell, 0, 1);
  }
}

function translate(error: unknown): unknown {
  const code = (error as { errcode?: unknown }).errcode;
  // The low byte of an extended result code is the primary one.
  if (typeof code !== 'number' || !PASSING_TROUBLES.has(code & 0xff)) return error;
  const because = PASSING_TROUBLES.get(code & 0xff);
  // In words of our own: SQLite's are for the log, which gets them with the cause.
  return new AppError(
    'store_unavailable',
    `The database cannot be used right now${because === undefined ? '' : `: ${because}`}.`,
    { retryAfterSeconds: RETRY_AFTER_SECONDS, cause: error },
  );
}

/** Another connection holds what this one needs, and went on doing so for the time to wait. */
export function isBusy(error: unknown): boolean {
  const code = (error as { errcode?: unknown }).errcode;
  return typeof code === 'number' && (code & 0xff) === 5;
}

/** SQLite's constraint errors carry the columns in their message. */
export function isUniqueViolation(error: unknown): boolean {
  const code = (error as { errcode?: unknown }).errcode;
  return code === 2067 || code === 1555;
}

/** For binding: a number where it is exact, which costs less. */
export function orderIdValue(orderId: OrderId): number | bigint {
  return orderId.length <= 15 ? Number(orderId) : BigInt(orderId);
}

export type Bindable = SQLInputValue;
