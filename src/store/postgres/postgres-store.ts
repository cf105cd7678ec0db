/**
 * The store for many nodes: a schema in a PostgreSQL database, 14 or newer, `synchronous_commit=on`.
 *
 * Any number of processes and threads may open it; changes are told to all of them.
 */
import { StartError } from '../../model/app-error.ts';
import { type Clock, systemClock } from '../../model/clock.ts';
import { releaseAll } from '../../model/releasers.ts';
import type { Store } from '../store.ts';
import { callLogStore } from './call-log.ts';
import { Database } from './database.ts';
import type { DatabaseEvent } from './events.ts';
import { Horizon } from './horizon.ts';
import { apiKeyStore, institutionStore, partnerStore } from './institutions.ts';
import { interfaceStore, openingStore } from './interfaces.ts';
import { migrate } from './migrations.ts';
import { Nudges } from './nudges.ts';
import { orderStore } from './orders.ts';
import { makePartitions, makePartitionsAhead } from './partitions.ts';
import { queueStore } from './queue.ts';
import { resendStore } from './resends.ts';
import { scheduleStore } from './schedules.ts';
import { startTrouble } from './start-trouble.ts';
import { leaseStore, retentionStore } from './upkeep.ts';

export type PostgresStoreOptions = {
  /** `postgres://user:password@host:5432/database`; several hosts, of which one takes writes, are separated by commas. */
  readonly url: string;
  /** Everything is in this schema. */
  readonly schema?: string;
  /**
   * Keeps a connection for LISTEN, names for prepared statements and settings in its sessions. False behind pgbouncer in
   * transaction mode: other nodes are then heard of by looking, four times a second.
   */
  readonly listen: boolean;
  /** It only reads the log, for another thread of this process, which is told what can be read later. It hears nobody. */
  readonly readsForAnother?: boolean;
  /** Connections, apart from the one for LISTEN. */
  readonly poolSize?: number;
  /** Of one statement, and of connecting: how long a frozen server is waited for. */
  readonly timeoutMs?: number;
  /** Says for which weeks partitions are made. */
  readonly clock?: Pick<Clock, 'now'>;
  /** Told of what no call is rejected with. May come often. */
  readonly onEvent?: ((event: DatabaseEvent) => void) | undefined;
};

const POOL_SIZE = 8;
const POOL_SIZE_TO_READ = 4;
const TIMEOUT_MS = 5_000;
const POLL_MS = { listening: 2_000, alone: 250 };

/** @throws StartError when the database is of a newer Orderhook, cannot be used as it is, or cannot be reached (`mayPass`) */
export async function openPostgresStore(options: PostgresStoreOptions): Promise<Store> {
  const { url, listen } = options;
  const {
    schema = 'orderhook',
    readsForAnother = false,
    timeoutMs = TIMEOUT_MS,
    clock = systemClock,
  } = options;
  const { poolSize = readsForAnother ? POOL_SIZE_TO_READ : POOL_SIZE } = options;
  const db = new Database({ url, schema, poolSize, isDirect: listen, timeoutMs, onEvent: options.onEvent });
  try {
    await begin(db, clock.now());
  } catch (error) {
    await db.close().catch(() => {}); // the first error is the one to tell
    throw startTrouble(error, db.target);
  }
  const nudges = new Nudges(db, {
    listens: listen && !readsForAnother,
    pollMs: listen ? POLL_MS.listening : POLL_MS.alone,
    readsForAnother,
    onEvent: options.onEvent ?? (() => {}),
  });
  nudges.start();
  const publish = nudges.publish.bind(nudges);
  const horizon = new Horizon(db);
  const answers = db.reading('SELECT count(*) FROM orderhook.installation');
  return {
    ...institutionStore(db),
    ...partnerStore(db),
    ...apiKeyStore(db),
    ...orderStore(db, publish),
    ...interfaceStore(db, publish),
    ...openingStore(db, publish),
    ...scheduleStore(db, publish),
    ...queueStore(db, publish, nudges),
    ...leaseStore(db),
    ...resendStore(db, publish),
    ...callLogStore(db),
    ...retentionStore(db, clock),
    async check() {
      await answers.rows();
    },
    horizonLagMs: () => horizon.lagMs(),
    subscribe: (listener) => nudges.subscribe(listener),
    close: () =>
      releaseAll(
        () => nudges.close(),
        () => db.close(),
      ),
  };
}

async function begin(db: Database, now: number): Promise<void> {
  await migrate(db);
  await db.writing('SELECT orderhook.rebase_log(true)').rows();
  await makePartitionsAhead(makePartitions(db), now);
  const [setting] = await db
    .reading("SELECT current_setting('synchronous_commit')")
    .arrays<[synchronousCommit: string]>();
  // Only where the sessions are not our own: there it was set.
  if (setting?.[0] === 'off' || setting?.[0] === 'local') {
    throw new StartError(
      `The database's synchronous_commit is ${setting[0]}: what is acknowledged could be lost. ` +
        'Set it for the user: ALTER ROLE … SET synchronous_commit = on.',
    );
  }
}
