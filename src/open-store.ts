/** Which database the settings choose, and how each thread opens it. */
import { databaseEventLog } from './database-log.ts';
import type { LeaseTimes } from './engine/engine.ts';
import { MANY_NODES, SOLE_NODE } from './engine/engine.ts';
import { StartError } from './model/app-error.ts';
import type { Log } from './observe/log.ts';
import { openWhenUp, type StartWait } from './start-wait.ts';
import { openPostgresStore, type PostgresStoreOptions } from './store/postgres/postgres-store.ts';
import { openSqliteStore } from './store/sqlite/sqlite-store.ts';
import type { Store } from './store/store.ts';

export type FileChoice = {
  readonly kind: 'sqlite';
  readonly file: string;
  readonly lockMemory: SharedArrayBuffer;
};
export type ServerChoice = {
  readonly kind: 'postgres';
  readonly url: string;
  readonly listen: boolean;
  /** How long a server that is not up yet is waited for. */
  readonly startWaitMs: number;
};
/** Plain data: it crosses into the engine's thread. */
export type DatabaseChoice = FileChoice | ServerChoice;

/** What waiting for a server needs: who is told of it, and what ends it. */
export type OpeningStore = Pick<StartWait, 'asked'> & { readonly log: Pick<Log, 'info' | 'warn'> };

/** @throws StartError when the database is of a newer Orderhook, or cannot be used; the signal's reason when it is aborted */
export async function openStore(choice: DatabaseChoice, opening: OpeningStore): Promise<Store> {
  return choice.kind === 'sqlite' ? openFile(choice) : openServer(choice, opening, {});
}

/** For a thread that reads the log and tells another one of this process what it found, and for the figures of a worker. */
export async function openStoreToRead(choice: DatabaseChoice, opening: OpeningStore): Promise<Store> {
  return choice.kind === 'sqlite' ? openFile(choice) : openServer(choice, opening, { readsForAnother: true });
}

/** A file has one process; a server may have many nodes. */
export function leaseTimes({ kind }: DatabaseChoice): LeaseTimes {
  return kind === 'sqlite' ? SOLE_NODE : MANY_NODES;
}

/** @throws StartError */
export function openFile(choice: FileChoice): Store {
  try {
    return openSqliteStore(choice);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SQLITE_ERROR') throw error;
    throw new StartError(
      `The database file ${choice.file} cannot be opened: ${(error as Error).message}. ` +
        'It must be a file of Orderhook on a disk with room, that this user may write.',
      { cause: error },
    );
  }
}

async function openServer(
  { url, listen, startWaitMs }: ServerChoice,
  opening: OpeningStore,
  more: Pick<PostgresStoreOptions, 'readsForAnother'>,
): Promise<Store> {
  const tell = databaseEventLog(opening.log);
  // Until it is open, whoever waits for it says what is the matter.
  let isOpen = false;
  const onEvent: PostgresStoreOptions['onEvent'] = (event) => {
    if (isOpen) tell(event);
  };
  const store = await openWhenUp(() => openPostgresStore({ url, listen, onEvent, ...more }), {
    ...opening,
    waitMs: startWaitMs,
  });
  isOpen = true;
  return store;
}
