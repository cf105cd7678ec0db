/**
 * Paths to closures, once per filter, that answer for a parsed order without allocating. Hides how they are made fast;
 * promises never to throw, whatever the order holds.
 */
import type { JsonObject, JsonValue } from '../model/lossless-json.ts';
import { knownField } from '../model/order-fields.ts';
import { anyElement, type FieldName, lookThrough, readField, type Test } from './fields.ts';
import type { ScalarMatch, ScalarTest } from './value-match.ts';

/** What a selector asks of an element: whether its field, or any element of that, passes. */
export type Selection = { readonly field: FieldName; readonly match: ScalarMatch };

/** One name of a path, ready to be followed. */
export type Step = {
  readonly field: FieldName;
  /** Which elements the path goes on with; absent for all. What is no list is its own only element. */
  readonly selection?: Selection;
};

/** Whether any value that the path leads to passes. */
export function compilePath(steps: readonly Step[], match: ScalarMatch): Test {
  let rest: Test | undefined;
  for (const { field, selection } of steps.toReversed()) {
    if (selection) rest = step(field, anyHolder(selection, rest ?? match.test));
    else rest = rest ? step(field, rest) : anyHolder({ field, match });
  }
  if (!rest) throw new Error('a path has at least one name');
  return rest;
}

function step(field: FieldName, rest: Test): Test {
  const holds: Test = (holder) => {
    if (Array.isArray(holder)) return anyElement(holder, holds);
    const value = readField(holder, field);
    return value !== undefined && rest(value);
  };
  return holds;
}

/** Whether the field of what is no list, or any element of the field, passes. */
export function fieldPasses({ field, match: { test } }: Selection): Test {
  return (holder) => {
    const value = readField(holder, field);
    return value !== undefined && valuePasses(value, test);
  };
}

function valuePasses(value: JsonValue, test: ScalarTest): boolean {
  return Array.isArray(value) ? anyElement(value, test) : test(value);
}

/** Whether anything that the selection takes, of the elements of a list or of what is no list, passes the rest. */
function anyHolder(selection: Selection, rest?: Test): Test {
  const selects = fieldPasses(selection);
  const holds: Test = rest ? (holder) => selects(holder) && rest(holder) : selects;
  const { field, match } = selection;
  if (field.isGuarded) return (holder) => (Array.isArray(holder) ? anyElement(holder, holds) : holds(holder));
  return loopFor(field.usual)(field, match, rest, holds);
}

/**
 * Most of the time of most filters is spent here. So it does in place what `holds` would do by calls, as long as fields
 * are texts or numbers in their usual spelling.
 */
function loop(field: FieldName, match: ScalarMatch, rest: Test | undefined, holds: Test): Test {
  const { usual } = field;
  const { test, ofText, ofNumber, literal } = match;
  return (holder) => {
    if (!Array.isArray(holder)) return holds(holder);
    let isUsual = true;
    for (let i = 0; i < holder.length; i++) {
      const element = holder[i] as JsonValue;
      if (typeof element !== 'object' || element === null) continue;
      let value = isUsual ? (element as JsonObject)[usual] : undefined;
      if (value === undefined) {
        if (Array.isArray(element)) {
          if (anyElement(element, holds)) return true;
          continue;
        }
        // The elements of a list mostly have the same fields: what one does not have is not tried again.
        isUsual = false;
        value = lookThrough(element as JsonObject, field);
        if (value === undefined) continue;
      }
      if (typeof value === 'string') {
        if (literal ? value !== literal.text : !ofText(value)) continue;
      } else if (typeof value === 'number') {
        if (literal ? value !== literal.number : !ofNumber(value)) continue;
      } else if (!valuePasses(value, test)) {
        continue;
      }
      if (rest === undefined || rest(element)) return true;
    }
    return false;
  };
}

const loops = new Map<string, typeof loop>();

/**
 * For a known field, the loop once more, with the field's name in its code: reading it then costs the engine a
 * comparison of shapes, not a search by name, and the loop takes half the time. Only names of our own table get into
 * code, never the text of a filter. Where code cannot be made from text, the loop itself does the same.
 */
function loopFor(usual: string): typeof loop {
  const name = knownField(usual)?.name;
  if (name === undefined) return loop;
  const made = loops.get(name) ?? makeLoop(name);
  loops.set(name, made);
  return made;
}

function makeLoop(name: string): typeof loop {
  const [before, after, ...more] = loop.toString().split('[usual]');
  if (after === undefined || more.length > 0) return loop;
  try {
    const make = new Function(
      'anyElement',
      'lookThrough',
      'valuePasses',
      `'use strict'; return ${before}.${name}${after}`,
    ) as (...uses: readonly unknown[]) => typeof loop;
    return make(anyElement, lookThrough, valuePasses);
  } catch (error) {
    // `--disallow-code-generation-from-strings`
    if (error instanceof EvalError) return loop;
    throw error;
  }
}
