/**
 * The end of an engine: running calls end, within their time.
 *
 * ```
 *   asked ──no call starts──> running calls end ──────────────> what came of them is committed, leases are given back
 *                                 └──time is over: calls are cut──^
 * ```
 *
 * A call that is cut is like one that a crash cut: its order stays in the queue. What had ended by then is committed.
 */
import type { Caller } from './caller/caller.ts';
import type { Engine } from './engine/engine.ts';
import type { Clock } from './model/clock.ts';

/** @returns how many calls were cut */
export async function stopEngine(given: {
  readonly engine: Pick<Engine, 'stop'>;
  readonly caller: Pick<Caller, 'callsInFlight' | 'destroy'>;
  readonly clock: Pick<Clock, 'after'>;
  /** How long running calls may take to end. */
  readonly callsMs: number;
}): Promise<number> {
  const { engine, caller, clock, callsMs } = given;
  const cut = new AbortController();
  let cutCalls = 0;
  const cancel = clock.after(callsMs, () => {
    cutCalls = caller.callsInFlight;
    // First: once leases are given back, another node may call the same orders.
    caller.destroy().catch(() => {});
    cut.abort();
  });
  try {
    await engine.stop(cut.signal);
  } finally {
    cancel();
  }
  return cutCalls;
}
