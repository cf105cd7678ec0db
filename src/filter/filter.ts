/**
 * The face of the filter language (contract, section 3): which orders is an interface told of? Pure, and the only module
 * here that others import.
 *
 * A filter is compiled once per interface. It is asked about a parsed order, so that many interfaces share one parse:
 *
 *     const order = { orderDetailsData: parseLossless(details) };
 *     const called = interfaces.filter(({ filter }) => filter.matches(order));
 */
import type { JsonText, JsonValue } from '../model/lossless-json.ts';
import { compileConditions, watchNumbers } from './compile.ts';
import { type ConditionExplanation, explainCondition } from './explain.ts';
import type { Test } from './fields.ts';

export { checkFilter, type FilterCheck, type FilterProblem, type FilterWarning } from './check.ts';
export type { ConditionExplanation } from './explain.ts';
export { FilterError, type FilterErrorCode } from './parse.ts';

/** `order` is an OrderDetailResult, `{ orderDetailsData: … }`, read by `parseLossless` and cut to the granularity. */
export type Filter = {
  /** Whether every condition holds. Never throws, whatever the order holds, and allocates nothing for usual filters. */
  matches(order: JsonValue): boolean;
  /**
   * The same for the text of an order's details; undefined: they are gone. Where it meets no number, which have to be read
   * with care, it parses in two thirds of the time.
   * @throws SyntaxError for text that is no JSON
   */
  matchesDetails(details: JsonText | undefined): boolean;
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
  let metNumber = false;
  const watchingTests = conditions.map((condition) =>
    watchNumbers(condition, () => {
      metNumber = true;
    }),
  );
  return {
    matches: (order) => allHold(tests, order),
    matchesDetails(details) {
      if (details === undefined) return allHold(tests, { orderDetailsData: null });
      metNumber = false;
      const isMatch = allHold(watchingTests, { orderDetailsData: details.plain });
      return metNumber ? allHold(tests, { orderDetailsData: details.exact }) : isMatch;
    },
    explain(order) {
      const explained = conditions.map((condition) => explainCondition(condition, order));
      return { matches: explained.every(({ matches }) => matches), conditions: explained };
    },
  };
}

function allHold(tests: readonly Test[], order: JsonValue): boolean {
  for (let i = 0; i < tests.length; i++) if (!tests[i]?.(order)) return false;
  return true;
}
