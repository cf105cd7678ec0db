/** When a schedule runs by itself. Pure. */
import { isContinuous, type Schedule } from '../model/entities.ts';

const MINUTE_MS = 60_000;

/** Whether `now` lies within the start and end that the operator set. */
export function isInSeason({ start, end }: Pick<Schedule, 'start' | 'end'>, now: number): boolean {
  return (start === undefined || now >= start) && (end === undefined || now < end);
}

/**
 * When a schedule with a frequency is to run next; undefined: never by itself. A time in the past means now, once,
 * however many times were missed. The first run is at the start, or at once.
 */
export function nextRunAt(schedule: Schedule, lastRunAt: number | undefined): number | undefined {
  if (schedule.launch !== 'AUTOMATIC' || isContinuous(schedule) || schedule.frequencyMinutes === undefined) {
    return undefined;
  }
  const first = schedule.start ?? schedule.createdAt;
  const next =
    lastRunAt === undefined ? first : Math.max(first, lastRunAt + schedule.frequencyMinutes * MINUTE_MS);
  return schedule.end !== undefined && next >= schedule.end ? undefined : next;
}
