/**
 * Waiting for what is not up yet: a database that starts together with us.
 *
 * ```
 *   try ──opened──> done
 *    ^ └──it may pass──> told, at most every few seconds ──> pause ──┐
 *    └───────────────────────────────────────────────────────────────┘ until the time is over, or the process is asked to end
 * ```
 */
import { setTimeout as wait } from 'node:timers/promises';
import { StartError } from './model/app-error.ts';
import type { Log } from './observe/log.ts';

export type StartWait = {
  /** From the first failure. */
  readonly waitMs: number;
  readonly log: Pick<Log, 'warn'>;
  /** Aborted when the process is asked to end. */
  readonly asked: AbortSignal;
  /** Milliseconds that only ever grow; for tests. */
  readonly now?: () => number;
  /** Rejects when `asked` is aborted; for tests. */
  readonly pause?: (ms: number, asked: AbortSignal) => Promise<void>;
};

const RETRY_MS = 500;
const TELL_EVERY_MS = 5_000;

/**
 * Opens something, again and again while it fails with a `StartError` that may pass. What opens after the process was asked
 * to end is closed.
 * @throws StartError, when that does not pass, or not in time; the signal's reason as soon as it is aborted
 */
export async function openWhenUp<T extends { close(): Promise<void> }>(
  open: () => Promise<T>,
  given: StartWait,
): Promise<T> {
  const { waitMs, log, asked, now = () => performance.now(), pause = pauseUnlessAsked } = given;
  let [failedFirstAt, toldAt] = [undefined as number | undefined, Number.NEGATIVE_INFINITY];
  for (;;) {
    try {
      return await openUnlessAsked(open, asked);
    } catch (error) {
      if (!(error instanceof StartError) || !error.mayPass) throw error;
      const at = now();
      failedFirstAt ??= at;
      const leftMs = failedFirstAt + waitMs - at;
      if (leftMs <= 0) throw waitMs === 0 ? error : waitedInVain(error, waitMs);
      if (at - toldAt >= TELL_EVERY_MS) {
        toldAt = at;
        log.warn(
          { event: 'start.waiting', because: error.message, leftS: Math.ceil(leftMs / 1_000) },
          'the database is not up yet, and is waited for',
        );
      }
      await pause(Math.min(RETRY_MS, leftMs), asked);
    }
  }
}

async function openUnlessAsked<T extends { close(): Promise<void> }>(
  open: () => Promise<T>,
  asked: AbortSignal,
): Promise<T> {
  asked.throwIfAborted();
  const opening = open();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(asked.reason);
  asked.addEventListener('abort', onAbort);
  try {
    return await Promise.race([opening, aborted]);
  } catch (error) {
    // Nobody waits for it any more, and what it opens nobody else would close.
    if (asked.aborted) opening.then((late) => late.close()).catch(() => {});
    throw error;
  } finally {
    asked.removeEventListener('abort', onAbort);
  }
}

async function pauseUnlessAsked(ms: number, asked: AbortSignal): Promise<void> {
  await wait(ms, undefined, { signal: asked }).catch(() => asked.throwIfAborted());
}

function waitedInVain(error: StartError, waitMs: number): StartError {
  const message = `${error.message} It did not come up within ${Math.round(waitMs / 1_000)} s (ORDERHOOK_START_WAIT_S).`;
  return new StartError(message, { cause: error });
}
