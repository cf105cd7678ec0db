/**
 * How a field is found in an object whatever its case, and how lists are gone through. Promises never to throw and never
 * to read what an order does not hold itself: no prototypes, and no recursion into the depth of its lists.
 */
import { isRawNumber, type JsonObject, type JsonValue } from '../model/lossless-json.ts';
import { knownField, ORDER_ROOT } from '../model/order-fields.ts';

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

/** For when the usual spelling was looked for in vain. */
export function lookThrough(holder: JsonObject, field: FieldName): JsonValue | undefined {
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
