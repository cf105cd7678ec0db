/**
 * Room on disk, all at once. A file that nobody uses is written anew without its free pages; of one that a service works on,
 * the free pages are given back in steps, between which the service writes.
 */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as wait } from 'node:timers/promises';
import { StartError } from '../../model/app-error.ts';
import { INCREMENTAL, isBusy, PAGE_BYTES } from './database.ts';

/** Of another program that has the file open, and of the service's commits. */
const BUSY_TIMEOUT_MS = 2_000;
/** What one step moves: some milliseconds, for which the service's writers wait. */
const STEP_BYTES = 256 * 1024;
const PAUSE_MS = 20;
/** The service's own reads end within milliseconds; a program that reads for longer is not waited for. */
const CUT_TRIES_MAX = 20;

export type Compacted = {
  /** Bytes of the database and its write-ahead log. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** False: somebody reads the write-ahead log, which stays until that ends. */
  readonly isLogCut: boolean;
};

/** Of the database file and its write-ahead log. */
function bytesOf(file: string): number {
  return [file, `${file}-wal`].reduce(
    (sum, path) => sum + (statSync(path, { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}

/**
 * Writes the file anew, beside the old one, which it replaces when it is whole and on disk. The caller holds the data folder.
 * @throws StartError when another program has the file open, or when the disk has no room for the new one
 */
export function rebuildFile(file: string): Compacted {
  const bytesBefore = bytesOf(file);
  const target = `${file}.compacting`;
  rmSync(target, { force: true }); // of a run that was killed
  const db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    leaveLogMode(db, file);
    const pageBytes = pragma(db, 'page_size');
    checkRoom(file, (pragma(db, 'page_count') - pragma(db, 'freelist_count')) * pageBytes);
    // It exists, and is empty, so that it has the mode that we give it.
    closeSync(openSync(target, 'w', 0o600));
    db.exec(`PRAGMA page_size = ${PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL`);
    db.prepare('VACUUM INTO ?').run(target);
    sync(target);
  } catch (error) {
    rmSync(target, { force: true });
    throw error;
  } finally {
    db.close();
  }
  renameSync(target, file);
  sync(dirname(file));
  return { bytesBefore, bytesAfter: bytesOf(file), isLogCut: true };
}

/**
 * A file that is replaced while somebody has it open in log mode would be destroyed by them. Leaving the mode needs the file
 * alone; the next start enters it again.
 */
function leaveLogMode(db: DatabaseSync, file: string): void {
  try {
    db.exec('PRAGMA journal_mode = DELETE');
  } catch (error) {
    if (!isBusy(error)) throw error;
    throw new StartError(`Another program has ${file} open. Close it, and try again.`, { cause: error });
  }
}

function checkRoom(file: string, bytesNeeded: number): void {
  const { bavail, bsize } = statfsSync(dirname(file));
  const bytesFree = bavail * bsize;
  if (bytesFree >= bytesNeeded) return;
  throw new StartError(
    `The new file needs about ${bytesNeeded} bytes beside the old one; the disk has ${bytesFree}. Make room, and try again.`,
  );
}

/**
 * Gives the free pages back while a service works on the file. `onProgress`: bytes that are still free.
 * @throws StartError when the file is of an Orderhook whose files cannot do that
 */
export async function compactInSteps(
  file: string,
  onProgress: (freeBytes: number) => void,
): Promise<Compacted> {
  const bytesBefore = bytesOf(file);
  const db = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    if (pragma(db, 'auto_vacuum') !== INCREMENTAL) {
      throw new StartError(
        'The database file was made by an earlier version, whose files cannot be shortened while the service runs. ' +
          'Stop the service once, run `orderhook compact`, and start it again.',
      );
    }
    db.exec('PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY');
    const pageBytes = pragma(db, 'page_size');
    for (;;) {
      const freeBytes = pragma(db, 'freelist_count') * pageBytes;
      if (freeBytes === 0) break;
      onProgress(freeBytes);
      step(db, Math.ceil(STEP_BYTES / pageBytes));
      await wait(PAUSE_MS);
    }
    let isLogCut = false;
    for (let tries = 0; !isLogCut && tries < CUT_TRIES_MAX; tries += 1) {
      isLogCut = pragma(db, 'wal_checkpoint(TRUNCATE)') === 0;
      if (!isLogCut) await wait(PAUSE_MS);
    }
    return { bytesBefore, bytesAfter: bytesOf(file), isLogCut };
  } finally {
    db.close();
  }
}

function step(db: DatabaseSync, pages: number): void {
  try {
    db.exec(`BEGIN IMMEDIATE; PRAGMA incremental_vacuum(${pages}); COMMIT`);
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    if (!isBusy(error)) throw error; // or the service has much to write: the next step comes anyway
  }
}

function pragma(db: DatabaseSync, text: string): number {
  return Number(Object.values(db.prepare(`PRAGMA ${text}`).get() ?? {})[0]);
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r');
  fsyncSync(descriptor);
  closeSync(descriptor);
}
