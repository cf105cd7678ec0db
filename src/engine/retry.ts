/** When a failed delivery is due again, and how long a callee may hold an interface back. Pure. */
import { RETRY_AFTER_MS_MAX } from '../model/limits.ts';
import type { Outcome } from '../model/outcome.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** [ours] Section 5: waits after attempt 1, 2, … 11; after every later one it is the last of these. */
export const RETRY_WAITS_MS: readonly number[] = [
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
];
const WAIT_SPREAD = 0.1;

/** `attempts` made so far, 0 when the failure cost none; `random` gives 0 … 1. */
export function retryWaitMs(attempts: number, random: () => number): number {
  const wait = RETRY_WAITS_MS[Math.min(Math.max(attempts, 1), RETRY_WAITS_MS.length) - 1] as number;
  return Math.round(wait * (1 - WAIT_SPREAD + 2 * WAIT_SPREAD * random()));
}

/** Until when a 429 or 503 asks to be left alone, at most an hour from now; undefined when it does not ask. */
export function heldUntil(outcome: Outcome, now: number): number | undefined {
  if (outcome.delivered || !outcome.answer) return undefined;
  const { status, headers } = outcome.answer;
  if (status !== 429 && status !== 503) return undefined;
  const until = longestRetryAfter(headers['retry-after'] ?? '', now);
  return until <= now ? undefined : Math.min(until, now + RETRY_AFTER_MS_MAX);
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
/** RFC 9110, section 5.6.7: the form that is sent today, that of RFC 850, and that of C's asctime. */
const DATES = [
  /^[a-z]{3}, (?<day>\d\d) (?<month>[a-z]{3}) (?<year>\d{4}) (?<time>\d\d:\d\d:\d\d) (?:GMT|UTC)/i,
  /^[a-z]{6,9}, (?<day>\d\d)-(?<month>[a-z]{3})-(?<year>\d\d) (?<time>\d\d:\d\d:\d\d) (?:GMT|UTC)/i,
  /^[a-z]{3} (?<month>[a-z]{3}) (?<day>[ \d]\d) (?<time>\d\d:\d\d:\d\d) (?<year>\d{4})/i,
];
const SECONDS = /^\d+(?:\.\d*)?/;

/**
 * RFC 9110, section 10.2.3: seconds, or a date. Several headers come as one text with commas, and a date has one of its
 * own. The longest counts; what is neither is passed over. 0 when there is none.
 */
function longestRetryAfter(text: string, now: number): number {
  let longest = 0;
  for (let rest = text.trimStart(); rest !== ''; ) {
    const [value, until] = readOne(rest, now);
    const behind = rest.slice(value.length).trimStart();
    if (behind === '' || behind.startsWith(',')) longest = Math.max(longest, until);
    const comma = behind.indexOf(',');
    rest = comma === -1 ? '' : behind.slice(comma + 1).trimStart();
  }
  return longest;
}

function readOne(text: string, now: number): [value: string, until: number] {
  const [seconds] = SECONDS.exec(text) ?? [];
  if (seconds !== undefined) return [seconds, now + Number(seconds) * SECOND];
  for (const form of DATES) {
    const found = form.exec(text);
    if (found?.groups !== undefined) return [found[0], momentOf(found.groups, now)];
  }
  return ['', 0];
}

/** In UTC, whatever the zone of the machine: asctime names none. 0 for a day that there is not. */
function momentOf(groups: Readonly<Record<string, string>>, now: number): number {
  const { day = '', month = '', year = '', time = '' } = groups;
  const [hours = 0, minutes = 0, seconds = 0] = time.split(':').map(Number);
  const index = MONTHS.indexOf(month.toLowerCase());
  const inYear = (full: number) => Date.UTC(full, index, Number(day), hours, minutes, seconds);
  if (index === -1) return 0;
  if (year.length === 4) return inYear(Number(year));
  // Two digits that seem to lie more than 50 years ahead are those of the past (RFC 9110, section 5.6.7).
  const thisYear = new Date(now).getUTCFullYear();
  const inCentury = thisYear - (thisYear % 100) + Number(year);
  return inYear(inCentury > thisYear + 50 ? inCentury - 100 : inCentury);
}
