/**
 * The data folder: who holds it, and the key that secrets are sealed with. Every file in it is for its owner alone, whatever
 * the folder's mode and the umask are: orders hold names of people, and the key opens the partners' secrets.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { StartError } from './model/app-error.ts';

/** Of the embedded database, in the data folder. */
export const DATABASE_FILE = 'orderhook.db';

/** Another process has the folder. */
export class FolderHeldError extends StartError {}

export type DataFolder = {
  readonly path: string;
  readonly databaseFile: string;
  /** 32 bytes. */
  readonly encryptionKey: Uint8Array;
  /** Files that others of this machine may read, and that could not be kept from them: somebody else owns them. */
  readonly openToOthers: readonly string[];
  release(): void;
};

const OWNER_ONLY = 0o600;
const OTHERS = 0o077;
const OWN_FILES = ['lock', 'held-by', 'encryption.key'];
/** SQLite gives what it makes beside its file the mode of the file; these may be there from before. */
const DATABASE_FILES = ['orderhook.db', 'orderhook.db-wal', 'orderhook.db-shm', 'orderhook.db-journal'];
const SQLITE_BUSY = 5;

/**
 * Takes the folder for this process; it is made when it is not there.
 * @throws StartError that says who holds it, or why it cannot be used
 */
export function holdDataFolder(folder: string, now: Date): DataFolder {
  const path = makeFolder(folder);
  const lock = lockFolder(path);
  try {
    return orStartError(path, () => {
      const holder = join(path, 'held-by');
      makePrivate(holder);
      writeFileSync(holder, `process ${process.pid}, since ${now.toISOString()}\n`);
      const databaseFile = join(path, DATABASE_FILE);
      makePrivate(databaseFile);
      const encryptionKey = keptEncryptionKey(path);
      const files = [...OWN_FILES, ...DATABASE_FILES].map((name) => join(path, name));
      return {
        path,
        databaseFile,
        encryptionKey,
        openToOthers: files.filter((file) => !isPrivate(file)),
        release() {
          try {
            rmSync(holder, { force: true });
          } finally {
            lock.close();
          }
        },
      };
    });
  } catch (error) {
    lock.close();
    throw error;
  }
}

/** SQLite's own file lock: the system lets go of it when the process ends, however it ends. */
function lockFolder(path: string): DatabaseSync {
  const file = join(path, 'lock');
  const lock = orStartError(path, () => {
    makePrivate(file);
    return new DatabaseSync(file, { timeout: 0 });
  });
  try {
    // Nothing is ever written to it, so it needs no journal, nor room on the disk for one.
    lock.exec('PRAGMA journal_mode = MEMORY; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock.close();
    if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) throw unusable(path, error);
    throw new FolderHeldError(
      `The data folder ${path} is held by ${holderOf(path)}. Stop it first, or give this one another folder.`,
    );
  }
}

function holderOf(path: string): string {
  try {
    return readFileSync(join(path, 'held-by'), 'utf8').trim() || 'another process';
  } catch {
    return 'another process';
  }
}

function makeFolder(folder: string): string {
  const path = resolve(folder);
  return orStartError(path, () => {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  });
}

/**
 * Made once; nodes that do not share a data folder must be given one key instead.
 * @throws StartError
 */
export function keptEncryptionKey(folder: string): Uint8Array {
  const path = makeFolder(folder);
  const file = join(path, 'encryption.key');
  const text = orStartError(path, () => {
    makeKey(file);
    isPrivate(file);
    return readFileSync(file, 'utf8').trim();
  });
  if (!/^[0-9a-f]{64}$/i.test(text)) {
    throw new StartError(
      `${file} does not hold a key of 64 hexadecimal digits. Put back the one that was there: without it the partners' secrets cannot be opened.`,
    );
  }
  return Buffer.from(text, 'hex');
}

/** On disk before anything is sealed with it. */
function makeKey(file: string): void {
  try {
    const key = `${randomBytes(32).toString('hex')}\n`;
    writeFileSync(file, key, { mode: OWNER_ONLY, flag: 'wx', flush: true });
    chmodSync(file, OWNER_ONLY);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    // What is half written, on a disk that is full, would be taken for the key next time.
    rmSync(file, { force: true });
    throw error;
  }
}

/** Makes the file, empty, when it is not there. */
function makePrivate(file: string): void {
  if (existsSync(file)) return void isPrivate(file);
  closeSync(openSync(file, 'a', OWNER_ONLY));
  // The umask may have taken from the owner what it should have taken from others.
  chmodSync(file, OWNER_ONLY);
}

/** Narrows what is wider. False when it is not ours to narrow. */
function isPrivate(file: string): boolean {
  try {
    if ((statSync(file).mode & OTHERS) !== 0) chmodSync(file, OWNER_ONLY);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

function orStartError<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw error instanceof StartError ? error : unusable(path, error);
  }
}

const ADVICE: ReadonlyMap<string, string> = new Map([
  ['EACCES', 'Give this user the right to write there, or name another folder with ORDERHOOK_DATA.'],
  ['EPERM', 'Give this user the right to write there, or name another folder with ORDERHOOK_DATA.'],
  ['EROFS', 'Its file system takes no writes: name another folder with ORDERHOOK_DATA.'],
  ['ENOSPC', 'Make room on its disk.'],
  ['EDQUOT', 'Make room on its disk.'],
  ['ENOTDIR', 'A part of the path is a file: name another folder with ORDERHOOK_DATA.'],
  ['EEXIST', 'It is a file: name another folder with ORDERHOOK_DATA.'],
]);

function unusable(path: string, error: unknown): StartError {
  const { message, code } = error as NodeJS.ErrnoException;
  const advice =
    ADVICE.get(code ?? '') ?? 'Check that this user may write there, and that its disk has room.';
  return new StartError(`The data folder ${path} cannot be used: ${message}. ${advice}`, { cause: error });
}
