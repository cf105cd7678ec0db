/**
 * How a process that runs until it is asked to end does so.
 *
 * ```
 *   starting ──ready──> running ──SIGTERM, SIGINT, a part broke──> stopping ──> exit 0, or 1 when a part broke
 *      └──────SIGTERM, SIGINT: what was begun is released─────────────^  └──a second signal──> exit 1 at once
 * ```
 */
import { StartError } from '../model/app-error.ts';
import { maskCredentials } from '../model/credentials.ts';

export type Running = {
  /** Bounded in time. */
  stop(): Promise<void>;
  /** Rejects when a part broke that it cannot do without; never resolves. */
  readonly broken: Promise<never>;
};

/** Aborted by the first SIGTERM or SIGINT; a second one ends the process at once. */
export function endRequest(): AbortSignal {
  const asked = new AbortController();
  const onSignal = () => {
    if (asked.signal.aborted) process.exit(1);
    asked.abort();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return asked.signal;
}

/** Resolves at the first SIGTERM or SIGINT. */
export function untilAskedToEnd(): Promise<void> {
  return aborted(endRequest());
}

/**
 * Starts something, runs it until the process is asked to end, stops it, and ends the process: what was cut off, or hangs,
 * must not keep it alive. `start` rejects with the signal's reason when it was given up because of it.
 */
export async function runUntilAskedToEnd<T extends Running>(
  start: (asked: AbortSignal) => Promise<T>,
  onReady: (running: T) => void,
): Promise<never> {
  // Before anything starts: a signal that comes meanwhile must not end calls that run.
  const asked = endRequest();
  try {
    const running = await start(asked);
    onReady(running);
    try {
      await Promise.race([aborted(asked), running.broken]);
    } finally {
      await running.stop();
    }
  } catch (error) {
    if (!asked.aborted || error !== asked.reason) {
      process.stderr.write(describeEnd(error));
      process.exit(1);
    }
  }
  process.exit(0);
}

/** What a person is told of an error that ended a command: a line for what they can mend, all there is for a bug of ours. */
export function describeEnd(error: unknown): string {
  const text = error instanceof StartError ? error.message : ((error as Error).stack ?? String(error));
  return `orderhook: ${maskCredentials(text)}\n`;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Commands whose work does not depend on somebody who reads what they print. */
const OUTLIVE_THEIR_READER = new Set(['serve', 'worker']);

/**
 * A reader that has gone, such as `head`, ends a command in silence, as it ends any other program of a pipe; a service goes
 * on. What cannot be written for another reason is told.
 */
export function watchOutput(command: string | undefined): void {
  const onError = (error: NodeJS.ErrnoException) => {
    if (OUTLIVE_THEIR_READER.has(command ?? '')) return;
    if (error.code === 'EPIPE') process.exit();
    process.stderr.write(`orderhook: the output cannot be written: ${error.message}\n`);
    process.exit(1);
  };
  process.stdout.on('error', onError);
  // There is nowhere left to tell.
  process.stderr.on('error', () => {});
}
