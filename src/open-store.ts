/** Which database the settings choose, and how each thread opens it. */
import { databaseEventLog } from './database-log.ts';
import type { LeaseTimes } from './engine/engine.ts';
import { MANY_NODES, SOLE_NODE } from './engine/engine.ts';
import type { Log } from './observe/log.ts';
import { openPostgresStore } from './store/postgres/postgres-store.ts';
import { openSqliteStore } from './store/sqlite/sqlite-store.ts';
import type { Store } from './store/store.ts';

/** Plain data: it crosses into the engine's thread. */
export type DatabaseChoice =
  | { readonly kind: 'sqlite'; readonly file: string; readonly lockMemory: SharedArrayBuffer }
  | { readonly kind: 'postgres'; readonly url: string; readonly listen: boolean };

/** @throws StartError when the database is of a newer Orderhook */
export async function openStore(choice: DatabaseChoice, log?: Log): Promise<Store> {
  return choice.kind === 'sqlite'
    ? openSqliteStore(choice)
    : openPostgresStore({ ...choice, onEvent: log && databaseEventLog(log) });
}

/** For a thread that reads the log and tells another one of this process what it found. */
export async function openStoreToRead(choice: DatabaseChoice, log?: Log): Promise<Store> {
  return choice.kind === 'sqlite'
    ? openSqliteStore(choice)
    : openPostgresStore({ ...choice, readsForAnother: true, onEvent: log && databaseEventLog(log) });
}

/** A file has one process; a server may have many nodes. */
export function leaseTimes({ kind }: DatabaseChoice): LeaseTimes {
  return kind === 'sqlite' ? SOLE_NODE : MANY_NODES;
}
