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

/** @throws FilterError, as soon as the expressions up to there are too many: to compile the others would take seconds */
export function compileConditions(text: string): readonly CompiledCondition[] {
  const budget = new InstructionBudget();
  return parseFilter(text).map((source) => compileCondition(source, budget));
}

class InstructionBudget {
  #instructions = 0;

  /** @throws FilterError */
  compileValue(text: string, position: number): ValueMatch {
    const value = compileValue(text);
    this.#instructions += value.instructions;
    if (this.#instructions <= FILTER_INSTRUCTIONS_MAX) return value;
    throw new FilterError(
      'filter_too_complex',
      `The regular expressions up to here need ${this.#instructions} instructions; at most ${FILTER_INSTRUCTIONS_MAX} are allowed. Use fewer or smaller repetitions such as {100}.`,
      position,
    );
  }
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

function compileCondition(source: PlacedCondition, budget: InstructionBudget): CompiledCondition {
  const { operator } = source;
  const steps = source.path.map((segment) => compileStep(segment, budget));
  const isNegated = operator === '!=';
  if (operator === '=' || operator === '!=') {
    const value = budget.compileValue(source.value, source.valuePosition);
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

function compileStep({ name, selector }: PlacedSegment, budget: InstructionBudget): CompiledStep {
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
  const selectorValue = budget.compileValue(selector.value, selector.valuePosition);
  return { field, selector, selectorValue, selection: { field: selected, match: selectorValue } };
}
