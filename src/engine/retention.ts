/**
 * Keeps the store in bounds, in small steps with pauses, so that nobody waits for it: removes what is older than its time, and
 * gives the room back that was left.
 */
import type { Clock } from '../model/clock.ts';
import type { Log } from '../observe/log.ts';
import type { RetentionStore, RoomStep } from '../store/store.ts';

const LOOK_EVERY_MS = 60_000;
/** More often: a log that somebody holds may grow fast. */
const ROOM_LOOK_EVERY_MS = 10_000;
const PAUSE_MS = 50;

export type UpkeepStore = Pick<RetentionStore, 'removeOlderThan' | 'removeOrdersOlderThan' | 'giveRoomBack'>;

/** Answers what ends it. */
export function keepRetention(parts: {
  readonly store: UpkeepStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly retentionMs: number;
  /** Undefined: orders are kept for ever. */
  readonly orderRetentionMs?: number | undefined;
}): () => void {
  const { store, clock, log, retentionMs, orderRetentionMs } = parts;
  const heldLog = heldLogIncident(clock, log);

  /** `step` resolves to whether there is more to do. */
  function keep(what: string, lookEveryMs: number, step: () => Promise<boolean>): () => void {
    let cancel = () => {};
    let isEnded = false;
    async function run(): Promise<void> {
      let wait = lookEveryMs;
      try {
        if (await step()) wait = PAUSE_MS;
      } catch (error) {
        log.warn({ event: 'retention.failed', what, err: error }, 'what is old stays until the next look');
      }
      if (!isEnded) cancel = clock.after(wait, run);
    }
    cancel = clock.after(lookEveryMs, run);
    return () => {
      isEnded = true;
      cancel();
    };
  }

  const releasers = [
    keep('log', LOOK_EVERY_MS, async () => (await store.removeOlderThan(clock.now() - retentionMs)) > 0),
    keep('room', ROOM_LOOK_EVERY_MS, async () => {
      const step = await store.giveRoomBack();
      heldLog(step);
      return step.hasMore;
    }),
  ];
  if (orderRetentionMs !== undefined) {
    releasers.push(
      keep('orders', LOOK_EVERY_MS, async () => {
        const now = clock.now();
        return (await store.removeOrdersOlderThan(now - orderRetentionMs, now)).hasMore;
      }),
    );
  }
  return () => {
    for (const release of releasers) release();
  };
}

/**
 * Somebody's read transaction keeps the write-ahead log from being cut: told once when two looks find it, since one of our
 * own may just run at the first, and once when it is over.
 *
 *     free ──held──> seen ──held──> told
 *      ^              │ cut          │ cut: told too
 *      └──────────────┴──────────────┘
 */
function heldLogIncident(clock: Clock, log: Log): (step: RoomStep) => void {
  let since: number | undefined;
  let isTold = false;
  return ({ heldLogBytes }) => {
    if (heldLogBytes === undefined) {
      if (isTold) log.info({ event: 'database.log_released' }, 'the write-ahead log could be cut again');
      since = undefined;
      isTold = false;
      return;
    }
    if (since === undefined) {
      since = clock.now();
      return;
    }
    if (isTold) return;
    isTold = true;
    log.warn(
      { event: 'database.log_held', bytes: heldLogBytes, since: new Date(since).toISOString() },
      'a read transaction, maybe of another program that has the database open, keeps the write-ahead log from being cut; it grows until that ends',
    );
  };
}
