/**
 * The face of the filter language (contract, section 3): which orders is an interface told of? Pure, and the only module
 * here that others import.
 *
 * A filter is compiled once per interface. It is asked about a parsed order, so that many interfaces share one parse:
 *
 *     const order = { orderDetailsData: parseLossless(details) };
 *     const called = interfaces.filter(({ filter }) => filter.matches(order));
 */
import type { JsonValue } from '../model/lossless-json.ts';
import { compileConditions } from './compile.ts';
import { type ConditionExplanation, explainCondition } from './explain.ts';

export { checkFilter, type FilterCheck, type FilterProblem, type FilterWarning } from './check.ts';
export type { ConditionExplanation } from './explain.ts';
export { FilterError, type FilterErrorCode } from './parse.ts';

/** `order` is an OrderDetailResult, `{ orderDetailsData: … }`, read by `parseLossless` and cut to the granularity. */
export type Filter = {
  /** Whether every condition holds. Never throws, whatever the order holds, and allocates nothing for usual filters. */
  matches(order: JsonValue): boolean;
  /** The same answer and the reasons for it, one per condition, in their order. Much slower. */
  explain(order: JsonValue): FilterExplanation;
};
export type FilterExplanation = {
  readonly matches: boolean;
  readonly conditions: readonly ConditionExplanation[];
};

/**
 * Blank text is no filter: it matches every order.
 * @throws FilterError
 */
export function compileFilter(text: string): Filter {
  const conditions = compileConditions(text);
  const tests = conditions.map(({ holds }) => holds);
  return {
    matches(order) {
      for (let i = 0; i < tests.length; i++) if (!tests[i]?.(order)) return false;
      return true;
    },
    explain(order) {
      const explained = conditions.map((condition) => explainCondition(condition, order));
      return { matches: explained.every(({ matches }) => matches), conditions: explained };
    },
  };
}
