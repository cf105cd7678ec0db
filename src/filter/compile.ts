/**
 * Syntax tree to conditions that can be evaluated and explained. Promises that the expressions of one filter stay small
 * enough for every order to be answered in a bounded time.
 */
import { compilePath, type Step } from './evaluate.ts';
import { fieldName, type Test } from './fields.ts';
import { compileOrdering } from './ordering.ts';
import {
  FilterError,
  type PlacedCondition,
  type PlacedSegment,
  type PlacedSelector,
  parseFilter,
} from './parse.ts';
import { compileValue, NOTHING, type ScalarMatch, scalarMatch, type ValueMatch } from './value-match.ts';

/**
 * [ours] Instructions of all expressions of one filter. Linear time is text length times instructions, and `.{1000}` are
 * a thousand of them in seven characters; written out, this is more than people write.
 */
export const FILTER_INSTRUCTIONS_MAX = 2_000;

export type CompiledStep = Step & {
  readonly selector?: PlacedSelector;
  /** Of `(name=value)`. */
  readonly selectorValue?: ValueMatch;
};

export type CompiledCondition = {
  readonly source: PlacedCondition;
  readonly steps: readonly CompiledStep[];
  /** `a!=v` is not `a=v`: then the match is that of `a=v`. */
  readonly isNegated: boolean;
  /** What a value at the end of the path has to pass. */
  readonly match: ScalarMatch;
  /** Of `=` and `!=`. */
  readonly value?: ValueMatch;
  readonly holds: Test;
};

/** @throws FilterError */
export function compileConditions(text: string): readonly CompiledCondition[] {
  const conditions = parseFilter(text).map(compileCondition);
  let instructions = 0;
  for (const { value, position } of conditions.flatMap(valuesOf)) {
    instructions += value.instructions;
    if (instructions > FILTER_INSTRUCTIONS_MAX) {
      throw new FilterError(
        'filter_too_complex',
        `The regular expressions up to here need ${instructions} instructions; at most ${FILTER_INSTRUCTIONS_MAX} are allowed. Use fewer or smaller repetitions such as {100}.`,
        position,
      );
    }
  }
  return conditions;
}

/** The values that may be expressions, in the order of the text. */
export function valuesOf({
  source,
  steps,
  value,
}: CompiledCondition): { value: ValueMatch; position: number }[] {
  const ofSelectors = steps.flatMap(({ selector, selectorValue }) =>
    selector && selectorValue ? [{ value: selectorValue, position: selector.valuePosition }] : [],
  );
  return value ? [...ofSelectors, { value, position: source.valuePosition }] : ofSelectors;
}

function compileCondition(source: PlacedCondition): CompiledCondition {
  const { operator } = source;
  const steps = source.path.map(compileStep);
  const isNegated = operator === '!=';
  if (operator === '=' || operator === '!=') {
    const value = compileValue(source.value);
    return { source, steps, isNegated, match: value, value, holds: compileTest(steps, value, isNegated) };
  }
  const match = compileOrdering(operator, source.value);
  return { source, steps, isNegated, match, holds: compileTest(steps, match, isNegated) };
}

function compileTest(steps: readonly Step[], match: ScalarMatch, isNegated: boolean): Test {
  const holds = compilePath(steps, match);
  return isNegated ? (order) => !holds(order) : holds;
}

/** The test of a condition, telling of each number whose text it asks for. */
export function watchNumbers(condition: CompiledCondition, onNumber: () => void): Test {
  const watched = ({ ofText, ofNumber }: ScalarMatch) =>
    scalarMatch(ofText, (number) => {
      onNumber();
      return ofNumber(number);
    });
  const steps = condition.steps.map(({ field, selection, selectorValue }) => ({
    field,
    // What is asked for `true` asks for no text.
    ...(selection && {
      selection: selectorValue ? { field: selection.field, match: watched(selection.match) } : selection,
    }),
  }));
  return compileTest(steps, watched(condition.match), condition.isNegated);
}

function compileStep({ name, selector }: PlacedSegment): CompiledStep {
  const field = fieldName(name);
  // `(*)` is any element, as no selector is.
  if (!selector || selector.kind === 'any') return selector ? { field, selector } : { field };
  const selected = fieldName(selector.name);
  if (selector.kind === 'true') {
    return {
      field,
      selector,
      selection: { field: selected, match: { ...NOTHING, test: (value) => value === true } },
    };
  }
  const selectorValue = compileValue(selector.value);
  return { field, selector, selectorValue, selection: { field: selected, match: selectorValue } };
}
