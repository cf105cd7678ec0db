/** What a filter says of an order that is given as text: everything about it that can take long, as one pure function. */
import { cutToGranularity, type Granularity } from '../model/granularity.ts';
import { type JsonObject, parseLossless } from '../model/lossless-json.ts';
import { checkFilter, compileFilter, type FilterCheck, type FilterExplanation } from './filter.ts';

export type FilterQuestion = {
  readonly filter: string;
  readonly granularity: Granularity;
  /** The OrderDetailsData as JSON text, a good one; undefined: the filter is checked only. */
  readonly details?: string;
};
/** `explanation`: when there is an order, and the filter has no problems. */
export type FilterReport = FilterCheck & { readonly explanation?: FilterExplanation };

export function reportFilter({ filter, granularity, details }: FilterQuestion): FilterReport {
  const check = checkFilter(filter, granularity);
  if (check.problems.length > 0 || details === undefined) return check;
  const orderDetailsData = cutToGranularity(parseLossless(details) as JsonObject, granularity) as JsonObject;
  return { ...check, explanation: compileFilter(filter).explain({ orderDetailsData }) };
}

/** Characters of details, times conditions: about 50 ns each. */
const QUICK_WORK_MAX = 100_000;

/** Whether the report takes a few milliseconds at most: a few conditions, no great expressions, an order of usual size. */
export function isQuick({ filter, details = '' }: FilterQuestion): boolean {
  const conditionsMax = filter.split(';').length;
  return details.length * conditionsMax <= QUICK_WORK_MAX && !/\{|\\p/i.test(filter);
}
