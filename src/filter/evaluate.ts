/**
 * Conditions to closures, once per filter, that answer for a parsed order without allocating. Hides how a field is
 * found whatever its case and how paths go through lists; promises never to throw and never to read what an order does
 * not hold itself (no prototypes, no recursion into the depth of its lists).
 */
import { isRawNumber, type JsonObject, type JsonValue } from '../model/lossless-json.ts';
import { knownField, ORDER_ROOT } from '../model/order-fields.ts';
import type { ScalarMatch, ScalarTest } from './value-match.ts';

export type Test = (value: JsonValue) => boolean;

export type FieldName = {
  /** As orders usually spell it. */
  readonly usual: string;
  readonly lower: string;
  /** An object or a list answers to this name although its JSON text did not have it. */
  readonly isGuarded: boolean;
};

export function fieldName(name: string): FieldName {
  const lower = name.toLowerCase();
  const usual = usualSpelling(name, lower);
  return { usual, lower, isGuarded: usual in Array.prototype || lower === 'rawjson' };
}

function usualSpelling(name: string, lower: string): string {
  if (lower === ORDER_ROOT.toLowerCase()) return ORDER_ROOT;
  return knownField(name)?.name ?? name.slice(0, 1).toLowerCase() + name.slice(1);
}

/**
 * The field of an object: in its usual spelling, else the first in any other; undefined when it is missing, and for
 * what is no object. Lists are not looked into.
 */
export function readField(holder: JsonValue, field: FieldName): JsonValue | undefined {
  if (typeof holder !== 'object' || holder === null) return undefined;
  if (field.isGuarded) return isRawNumber(holder) ? undefined : lookThrough(holder as JsonObject, field);
  const value = (holder as JsonObject)[field.usual];
  return value !== undefined ? value : lookThrough(holder as JsonObject, field);
}

function lookThrough(holder: JsonObject, field: FieldName): JsonValue | undefined {
  const name = spellingIn(holder, field);
  return name === undefined ? undefined : holder[name];
}

/**
 * How an object spells the field that it has. Runs for every object that lacks the field, so also for orders in usual
 * spelling: it allocates nothing, and compares the letters of only those names that have the length.
 */
export function spellingIn(holder: JsonObject, { usual, lower }: FieldName): string | undefined {
  let other: string | undefined;
  for (const name in holder) {
    if (name.length !== lower.length || !isSameName(name, lower) || !Object.hasOwn(holder, name)) continue;
    if (name === usual) return name;
    other ??= name;
  }
  return other;
}

function isSameName(name: string, lower: string): boolean {
  for (let at = 0; at < lower.length; at++) {
    const code = name.charCodeAt(at);
    if (code > 127) return name.toLowerCase() === lower;
    const lowerCode = code >= 65 && code <= 90 ? code + 32 : code;
    if (lowerCode !== lower.charCodeAt(at)) return false;
  }
  return true;
}

/** Of the lists in a list the elements count, at any depth. */
export function anyElement(list: readonly JsonValue[], test: Test): boolean {
  for (let i = 0; i < list.length; i++) {
    const element = list[i] as JsonValue;
    if (Array.isArray(element) ? flatten(element).some(test) : test(element)) return true;
  }
  return false;
}

/** With a stack of its own, because lists in lists may be deeper than the engine's (so may `flat` not be used). */
function flatten(list: readonly JsonValue[]): JsonValue[] {
  const elements: JsonValue[] = [];
  const open = [{ list, next: 0 }];
  for (let top = open.at(-1); top; top = open.at(-1)) {
    if (top.next === top.list.length) {
      open.pop();
      continue;
    }
    const element = top.list[top.next++] as JsonValue;
    if (Array.isArray(element)) open.push({ list: element, next: 0 });
    else elements.push(element);
  }
  return elements;
}

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
    if (selection) rest = step(field, selectThen(selection, rest ?? match.test));
    else rest = rest ? step(field, rest) : lastStep(field, match);
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

// Most of the time of most filters is spent in the loops of the next two functions. So they do in place what
// `readField` and `anyElement` would do by calls, as long as a field is a text or a number in its usual spelling.

/** Whether the field, or any element of it, passes. */
function lastStep(field: FieldName, match: ScalarMatch): Test {
  const { usual, isGuarded } = field;
  const holds = fieldPasses({ field, match });
  if (isGuarded) return (holder) => (Array.isArray(holder) ? anyElement(holder, holds) : holds(holder));
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
        if (literal ? value === literal.text : ofText(value)) return true;
      } else if (typeof value === 'number') {
        if (literal ? value === literal.number : ofNumber(value)) return true;
      } else if (valuePasses(value, test)) {
        return true;
      }
    }
    return false;
  };
}

/** Whether any of the elements that the selector takes passes. */
function selectThen(selection: Selection, rest: Test): Test {
  const { field, match } = selection;
  const { usual, isGuarded } = field;
  const selects = fieldPasses(selection);
  const holds: Test = (element) => selects(element) && rest(element);
  if (isGuarded) return (value) => (Array.isArray(value) ? anyElement(value, holds) : holds(value));
  const { test, ofText, literal } = match;
  return (list) => {
    if (!Array.isArray(list)) return holds(list);
    let isUsual = true;
    for (let i = 0; i < list.length; i++) {
      const element = list[i] as JsonValue;
      if (typeof element !== 'object' || element === null) continue;
      let value = isUsual ? (element as JsonObject)[usual] : undefined;
      if (value === undefined) {
        if (Array.isArray(element)) {
          if (anyElement(element, holds)) return true;
          continue;
        }
        isUsual = false;
        value = lookThrough(element as JsonObject, field);
        if (value === undefined) continue;
      }
      if (typeof value === 'string') {
        if ((literal ? value === literal.text : ofText(value)) && rest(element)) return true;
      } else if (valuePasses(value, test) && rest(element)) {
        return true;
      }
    }
    return false;
  };
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
