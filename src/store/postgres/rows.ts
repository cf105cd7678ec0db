/** Small things that every table needs: pages, optional fields, what a row is. */
import { AppError } from '../../model/app-error.ts';
import type { Page } from '../store.ts';

export type Row = Record<string, unknown>;

/** Rows one more than the limit were asked for: the last one only tells that there is a next page. */
export function toPage<T>(
  rows: readonly T[],
  limit: number,
  cursorOf: (item: T) => string | number,
): Page<T> {
  const items = rows.slice(0, limit);
  const last = items[items.length - 1];
  return rows.length > limit && last !== undefined ? { items, next: String(cursorOf(last)) } : { items };
}

/** A keyset cursor that is an integer; anything else is the client's mistake. */
export function cursorNumber(cursor: string | undefined, otherwise: number): number {
  if (cursor === undefined) return otherwise;
  if (/^\d{1,15}$/.test(cursor)) return Number(cursor);
  throw wrongCursor();
}

export function wrongCursor(): AppError {
  const message = 'The cursor is not one that a page of this list gave as `next`.';
  return new AppError('invalid_value', message, {
    problems: [{ path: 'cursor', code: 'cursor_invalid', message }],
  });
}

export function optional<K extends string, V>(key: K, value: V | null | undefined): { [P in K]?: V } {
  return value === null || value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

export const FROM_NEWEST = Number.MAX_SAFE_INTEGER;
