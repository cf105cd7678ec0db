/** When a schedule runs by itself. Pure. */
import { isContinuous, type Schedule } from '../model/entities.ts';

const MINUTE_MS = 60_000;

/** Whether `now` lies within the start and end that the operator set. */
export function isInSeason({ start, end }: Pick<Schedule, 'start' | 'end'>, now: number): boolean {
  return (start === undefined || now >= start) && (end === undefined || now < end);
}

/**
 * When a schedule with a frequency is to run next; undefined: never by itself. Its usual times are its start, or its
 * creation, and from there on every so many minutes (contract, section 5). A time in the past means now, once, however
 * many times were missed; the one after that is a usual one again.
 */
export function nextRunAt(schedule: Schedule, lastRunAt: number | undefined): number | undefined {
  return lastRunAt === undefined ? usualTimeFrom(schedule, 0) : usualTimeFrom(schedule, lastRunAt + 1);
}

/** When a schedule would first call something that is due at `at`; undefined: never by itself. */
export function firstRunFrom(schedule: Schedule, at: number): number | undefined {
  if (!isContinuous(schedule)) return usualTimeFrom(schedule, at);
  const from = Math.max(at, schedule.start ?? 0);
  return schedule.end !== undefined && from >= schedule.end ? undefined : from;
}

/** The first of its usual times that is not before `at`. */
function usualTimeFrom(schedule: Schedule, at: number): number | undefined {
  const { launch, frequencyMinutes, start, end, createdAt } = schedule;
  if (launch !== 'AUTOMATIC' || isContinuous(schedule) || frequencyMinutes === undefined) return undefined;
  const first = start ?? createdAt;
  const frequencyMs = frequencyMinutes * MINUTE_MS;
  const time = first + Math.max(0, Math.ceil((at - first) / frequencyMs)) * frequencyMs;
  return end !== undefined && time >= end ? undefined : time;
}
