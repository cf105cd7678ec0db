/**
 * The embedded store: one SQLite file in write-ahead mode, `synchronous=FULL`.
 *
 * Several threads of one process may open it; changes are told to all of them. Other processes are kept out by the
 * folder lock, not by this module.
 */
import { resolve } from 'node:path';
import { BroadcastChannel } from 'node:worker_threads';
import type { Change, Store } from '../store.ts';
import { callLogStore } from './call-log.ts';
import { Database, ThreadLock } from './database.ts';
import { apiKeyStore, institutionStore, partnerStore } from './institutions.ts';
import { interfaceStore, openingStore } from './interfaces.ts';
import { orderStore } from './orders.ts';
import { queueStore } from './queue.ts';
import { resendStore } from './resends.ts';
import { scheduleStore } from './schedules.ts';
import { leaseStore, retentionStore } from './upkeep.ts';

export type SqliteStoreOptions = {
  /** Path of the database file; it is created when it is not there. */
  readonly file: string;
  /** `ThreadLock.memory` of the other threads that write to the same file. */
  readonly lockMemory?: SharedArrayBuffer;
};

/** @throws StartError when the file's schema is of a newer Orderhook */
export function openSqliteStore({ file, lockMemory }: SqliteStoreOptions): Store {
  const db = new Database(file, lockMemory && new ThreadLock(lockMemory));
  const listeners = new Set<(change: Change) => void>();
  const channel = new BroadcastChannel(`orderhook ${resolve(file)}`);
  channel.onmessage = ({ data }) => tell(data as Change);
  channel.unref();

  function tell(change: Change): void {
    for (const listener of listeners) listener(change);
  }
  function publish(change: Change): void {
    tell(change);
    channel.postMessage(change);
  }

  const answers = db.prepare('SELECT count(*) FROM counters');
  return {
    ...institutionStore(db),
    ...partnerStore(db),
    ...apiKeyStore(db),
    ...orderStore(db, publish),
    ...interfaceStore(db, publish),
    ...openingStore(db, publish),
    ...scheduleStore(db, publish),
    ...queueStore(db, publish),
    ...callLogStore(db),
    ...resendStore(db, publish),
    ...leaseStore(db),
    ...retentionStore(db),
    async check() {
      db.read(() => answers.get());
    },
    horizonLagMs: async () => 0,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      channel.close();
      db.close();
    },
  };
}
