/** Removes what is older than its time, in small steps with pauses, so that nobody waits for it. */
import type { Clock } from '../model/clock.ts';
import type { Log } from '../observe/log.ts';
import type { RetentionStore } from '../store/store.ts';

const LOOK_EVERY_MS = 60_000;
const PAUSE_MS = 50;

/** Answers what ends it. */
export function keepRetention(parts: {
  readonly store: Pick<RetentionStore, 'removeOlderThan'>;
  readonly clock: Clock;
  readonly log: Log;
  readonly retentionMs: number;
}): () => void {
  const { store, clock, log, retentionMs } = parts;
  let cancel = () => {};
  let isEnded = false;

  async function step(): Promise<void> {
    let wait = LOOK_EVERY_MS;
    try {
      if ((await store.removeOlderThan(clock.now() - retentionMs)) > 0) wait = PAUSE_MS;
    } catch (error) {
      log.warn({ event: 'retention.failed', err: error }, 'what is old stays until the next look');
    }
    if (!isEnded) cancel = clock.after(wait, step);
  }

  cancel = clock.after(LOOK_EVERY_MS, step);
  return () => {
    isEnded = true;
    cancel();
  };
}
