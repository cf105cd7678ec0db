/** The data folder: who holds it, and the key that secrets are sealed with. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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
  release(): void;
};

/**
 * Takes the folder for this process; it is made when it is not there.
 * @throws StartError that says who holds it
 */
export function holdDataFolder(folder: string, now: Date): DataFolder {
  const path = makeFolder(folder);
  const lock = lockFolder(path);
  const holder = join(path, 'held-by');
  writeFileSync(holder, `process ${process.pid}, since ${now.toISOString()}\n`);
  return {
    path,
    databaseFile: join(path, DATABASE_FILE),
    encryptionKey: keptEncryptionKey(path),
    release() {
      rmSync(holder, { force: true });
      lock.close();
    },
  };
}

/** SQLite's own file lock: the system lets go of it when the process ends, however it ends. */
function lockFolder(path: string): DatabaseSync {
  const file = join(path, 'lock');
  const lock = new DatabaseSync(file, { timeout: 0 });
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
    return lock;
  } catch (error) {
    lock.close();
    if ((error as { errcode?: number }).errcode !== 5) {
      throw new StartError(`The data folder ${path} cannot be used: ${(error as Error).message}.`);
    }
    throw new FolderHeldError(
      `The data folder ${path} is held by ${holderOf(path)}. Stop it first, or give this one another folder.`,
    );
  }
}

function holderOf(path: string): string {
  try {
    return readFileSync(join(path, 'held-by'), 'utf8').trim();
  } catch {
    return 'another process';
  }
}

function makeFolder(folder: string): string {
  const path = resolve(folder);
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  } catch (error) {
    throw new StartError(`The data folder ${path} cannot be made: ${(error as Error).message}.`);
  }
}

/** Made once; nodes that do not share a data folder must be given one key instead. */
export function keptEncryptionKey(folder: string): Uint8Array {
  const file = join(makeFolder(folder), 'encryption.key');
  try {
    writeFileSync(file, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const text = readFileSync(file, 'utf8').trim();
  if (!/^[0-9a-f]{64}$/i.test(text))
    throw new StartError(`${file} does not hold a key of 64 hexadecimal digits.`);
  return Buffer.from(text, 'hex');
}
