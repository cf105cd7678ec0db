/** When a failed delivery is due again, and how long a callee may hold an interface back. Pure. */
import { RETRY_AFTER_MS_MAX } from '../model/limits.ts';
import type { Outcome } from '../model/outcome.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** [ours] Section 5: waits after attempt 1, 2, … 11 under a continuous schedule. */
const WAITS_MS = [
  10 * SECOND,
  30 * SECOND,
  1 * MINUTE,
  2 * MINUTE,
  5 * MINUTE,
  10 * MINUTE,
  20 * MINUTE,
  30 * MINUTE,
  60 * MINUTE,
  60 * MINUTE,
  60 * MINUTE,
] as const;
const WAIT_SPREAD = 0.1;

/** `attempts` made so far, 0 when the failure cost none; `random` gives 0 … 1. */
export function retryWaitMs(attempts: number, random: () => number): number {
  const wait = WAITS_MS[Math.min(Math.max(attempts, 1), WAITS_MS.length) - 1] as number;
  return Math.round(wait * (1 - WAIT_SPREAD + 2 * WAIT_SPREAD * random()));
}

/** [ours] Section 5: a continuous schedule whose callee does not answer waits 5 s, then twice as long each time. */
export const BACK_OFF_MS_MIN = 5 * SECOND;
export const BACK_OFF_MS_MAX = 5 * MINUTE;

/** Until when a 429 or 503 asks to be left alone, at most an hour from now; undefined when it does not ask. */
export function heldUntil(outcome: Outcome, now: number): number | undefined {
  if (outcome.delivered || !outcome.answer) return undefined;
  const { status, headers } = outcome.answer;
  if (status !== 429 && status !== 503) return undefined;
  const until = retryAfter(headers['retry-after'], now);
  return until === undefined || until <= now ? undefined : Math.min(until, now + RETRY_AFTER_MS_MAX);
}

/** RFC 9110, section 10.2.3: seconds, or a date. */
function retryAfter(text: string | undefined, now: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text)) return now + Number(text) * SECOND;
  const date = /^[A-Z][a-z]+,? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(date) ? undefined : date;
}
