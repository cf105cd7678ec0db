/** Lists in pages, ids in paths, and times: how all routes read and write them. */
import { type TSchema, Type } from 'typebox';
import { notFound } from '../model/app-error.ts';
import { PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX } from '../model/limits.ts';
import { type OrderId, parseOrderId } from '../model/order.ts';
import type { Problem } from '../model/problem.ts';
import type { Page, PageRequest } from '../store/store.ts';
import { TAKES_ORDER_IDS } from './fields.ts';

/** Fields of a list's query. */
export const PAGE_FIELDS = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: PAGE_LIMIT_MAX, default: PAGE_LIMIT_DEFAULT })),
  cursor: Type.Optional(Type.String({ maxLength: 256 })),
};

export function pageSchema(item: TSchema): TSchema {
  return Type.Object({
    items: Type.Array(item),
    next: Type.Union([Type.String(), Type.Null()]),
  });
}

export function pageRequest(query: { limit?: number; cursor?: string }): PageRequest {
  const { limit = PAGE_LIMIT_DEFAULT, cursor } = query;
  return cursor === undefined ? { limit } : { limit, cursor };
}

export function pageAnswer<T>(page: Page<T>, answerOf: (item: T) => object): object {
  return { items: page.items.map((item) => answerOf(item)), next: page.next ?? null };
}

// ---------------------------------------------------------------------------------------------------------------- ids

/** Ids that the store gives are numbers inside and texts outside. */
export const ID = Type.String({ pattern: '^[1-9]\\d*$' });

export const ORDER_ID = Type.String({
  pattern: '^[1-9]\\d{0,18}$',
  description: 'an order id: a string of digits',
  examples: ['10000702652'],
});

const TEXT_OR_INTEGER = {
  anyOf: [
    { type: 'string', pattern: '^[1-9]\\d{0,18}$' },
    { type: 'integer', minimum: 1, format: 'int64' },
  ],
};

/** As requests give it; the handler gets the text. */
export const ORDER_ID_GIVEN = Type.Unsafe<string>({
  ...TEXT_OR_INTEGER,
  description: 'an order id: a string of digits, or a JSON integer',
  examples: ['10000702652'],
  [TAKES_ORDER_IDS]: true,
});

/** A list of them, where each is looked at by itself: the wrong one of thousands is to be told. */
export function orderIdsGiven(idsMax: number) {
  return Type.Unsafe<readonly string[]>({
    type: 'array',
    items: { anyOf: [{ type: 'string' }, { type: 'integer', format: 'int64' }] },
    minItems: 1,
    maxItems: idsMax,
    description: `a list of 1 to ${idsMax} order ids, each a string of digits or a JSON integer`,
    examples: [['10000702652']],
    [TAKES_ORDER_IDS]: true,
  });
}

/** @throws AppError `not_found`: what is no order id names no order */
export function orderIdFrom(text: string): OrderId {
  return found(parseOrderId(text), 'order', text);
}

/** @throws AppError `not_found` when no such id can exist */
export function idFromPath(text: string, what: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw notFound(`${what} ${text}`);
}

/** @throws AppError `not_found` when there is nothing */
export function found<T>(value: T | undefined, what: string, id: string): T {
  if (value === undefined) throw notFound(`${what} ${id}`);
  return value;
}

// -------------------------------------------------------------------------------------------------------------- times

export const MOMENT = Type.String({ format: 'date-time' });

/** ISO 8601 in UTC, with milliseconds. */
export function writeMoment(at: number): string {
  return new Date(at).toISOString();
}

export function writeOptionalMoment<K extends string>(
  name: K,
  at: number | null | undefined,
): { [P in K]?: string } {
  return at === undefined || at === null ? {} : ({ [name]: writeMoment(at) } as { [P in K]?: string });
}

/** Of a text that passed as a date-time; undefined for a leap second, which a clock in milliseconds does not have. */
export function readMoment(text: string): number | undefined {
  const at = Date.parse(text);
  return Number.isNaN(at) ? undefined : at;
}

export function momentProblems(fields: Readonly<Record<string, string | null | undefined>>): Problem[] {
  return Object.entries(fields)
    .filter(([, text]) => typeof text === 'string' && readMoment(text) === undefined)
    .map(([path]) => ({
      path,
      code: 'moment_unknown',
      message: `${path} is no moment: a leap second, or out of range.`,
    }));
}

// ----------------------------------------------------------------------------------------------------------- warnings

/** In the answers of what was saved: what is allowed and probably not meant. */
export const WARNINGS = Type.Array(
  Type.Object({ path: Type.String(), message: Type.String(), position: Type.Optional(Type.Integer()) }),
);

// -------------------------------------------------------------------------------------------------------------- names

export const NAME = Type.String({
  minLength: 1,
  maxLength: 200,
  pattern: '\\S',
  description: 'a text of 1 to 200 characters that is not blank',
});
