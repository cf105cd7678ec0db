/**
 * The stop of a process (contract, section 8), in one place and bounded as a whole:
 *
 * ```
 *   asked to end            the drain is over                            at the latest
 *     │ engine: starts no call; running calls may end ──work──┬─release─┐
 *     │ server: serves on, `/readyz` 503,                     │         │
 *     │         answers close connections                     │         │
 *     ├────────────── drain ──────────────┬─────────────── grace ───────┤
 *                                         │ server: takes no connection,│
 *                                         │ answers what is under way   │ everything else is released, or left
 *                                         └───────────work──────────────┘
 * ```
 *
 * The engine's grace begins when the process is asked to end: no call starts after that, whatever connections are open. The
 * server's begins when the drain is over. The last part of each is for committing and closing.
 */
import type { Clock } from './model/clock.ts';
import type { Log } from './observe/log.ts';

/** Of the grace, for the last commit and the closing of connections and files. A shorter grace is as long as this. */
export const RELEASE_MS = 1_000;

export type StopTimes = { readonly drainMs: number; readonly graceMs: number };

export type PartsToStop = {
  /** Told first: from then on no call starts and the process is not ready. */
  readonly onAsked: () => void;
  /** Bounded by themselves: what has not ended after `withinMs` is cut. */
  readonly engine: { stop(withinMs: number): Promise<void> };
  readonly server: { closeWithin(withinMs: number): Promise<void> };
  /** All the rest. */
  readonly release: () => Promise<void>;
};

/** How long calls and requests may run on. */
export function workMsOf(graceMs: number): number {
  return Math.max(graceMs - RELEASE_MS, 0);
}

/**
 * Resolves when all has stopped, at the latest after the drain and the grace: what hangs is told in the log and left.
 * @throws what the first part that failed threw, when all have stopped
 */
export async function stopInOrder(
  parts: PartsToStop,
  times: StopTimes,
  given: { readonly log: Pick<Log, 'warn'>; readonly clock: Pick<Clock, 'after'> },
): Promise<void> {
  const { log, clock } = given;
  const graceMs = Math.max(times.graceMs, RELEASE_MS);
  const { promise: late, resolve: isLate } = Promise.withResolvers<'late'>();
  const cancel = clock.after(times.drainMs + graceMs, () => isLate('late'));
  const stopped = stopAll(parts, times, clock);
  stopped.catch(() => {}); // after it was late nobody hears of it
  try {
    if ((await Promise.race([stopped, late])) === 'late') {
      log.warn({ event: 'stop.late', ...times }, 'a part did not stop in time, and is left where it is');
    }
  } finally {
    cancel();
  }
}

async function stopAll(parts: PartsToStop, times: StopTimes, clock: Pick<Clock, 'after'>): Promise<void> {
  const workMs = workMsOf(times.graceMs);
  parts.onAsked();
  const results = await Promise.allSettled([
    parts.engine.stop(workMs),
    drained(times.drainMs, clock).then(() => parts.server.closeWithin(workMs)),
  ]);
  // Whatever these came to: nobody else would release the rest.
  results.push(...(await Promise.allSettled([parts.release()])));
  const failure = results.find((result) => result.status === 'rejected');
  if (failure) throw failure.reason;
}

async function drained(drainMs: number, clock: Pick<Clock, 'after'>): Promise<void> {
  if (drainMs > 0) await new Promise<void>((resolve) => clock.after(drainMs, resolve));
}
