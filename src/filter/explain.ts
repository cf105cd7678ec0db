/**
 * Why a condition holds or not for one order: the element and text that decided it, and for a miss the nearest miss. For
 * people, so it may take its time; its answers are those of the evaluation, because it asks the same tests. Promises
 * that no sentence grows with the order.
 */
import { type JsonObject, type JsonValue, scalarText } from '../model/lossless-json.ts';
import { knownField, ORDER_LISTS, ORDER_ROOT } from '../model/order-fields.ts';
import type { CompiledCondition } from './compile.ts';
import { fieldPasses, type Selection, type Step } from './evaluate.ts';
import { type FieldName, readField, spellingIn } from './fields.ts';
import { orderedKind } from './ordering.ts';
import { type Operator, printSelector, type Selector } from './parse.ts';
import type { ScalarMatch } from './value-match.ts';

export type ConditionExplanation = {
  /** The condition as written. */
  readonly text: string;
  readonly matches: boolean;
  /** The value that decided, in the order's own spelling, from its details on: `operationDatas[2].productCode`. */
  readonly path?: string;
  /** Its text. */
  readonly found?: string;
  /** A phrase that says it all. */
  readonly because: string;
};

/** Characters of `found`. */
const FOUND_CHARACTERS_MAX = 1_000;
/** Values that a phrase tells; it counts the others. */
const VALUES_TOLD_MAX = 5;
/** Characters that a phrase shows of one text. */
const TEXT_CHARACTERS_MAX = 60;
const PATH_CHARACTERS_MAX = 200;

/** A value and the way to it, which is spelled out only when it is told. */
type Place = {
  readonly value: JsonValue;
  /** Absent for the whole. */
  readonly parent?: Place;
  /** The name or the index in the parent. */
  readonly key: string | number;
};

/** What a phrase counts: the elements of the last list that the path went through. */
type Crowd = {
  readonly field: FieldName;
  readonly total: number;
  readonly selected?: { readonly count: number; readonly by: string };
};

/** `only`: the one value that could have matched. */
type Miss = { readonly because: string; readonly only?: Place };

export function explainCondition(condition: CompiledCondition, order: JsonValue): ConditionExplanation {
  const found = search(condition, order);
  const isHit = 'value' in found;
  const told = isHit ? found : found.only;
  const text = told && scalarText(told.value);
  return {
    text: condition.source.text,
    matches: isHit !== condition.isNegated,
    ...(told && { path: pathOf(told) }),
    ...(text !== undefined && { found: shorten(text, FOUND_CHARACTERS_MAX) }),
    because: isHit ? becauseHit(condition, found) : found.because,
  };
}

/** Follows the path with everything it can lead to, one name at a time, and stops where nothing is left. */
function search(condition: CompiledCondition, order: JsonValue): Place | Miss {
  let places = elementsOf({ value: order, key: '' });
  let crowd: Crowd | undefined;
  for (const { field, selector, selection } of condition.steps) {
    const fields = fieldsOf(places, field);
    if (fields.length === 0) return { because: becauseMissing(places, field, crowd) };
    places = fields.flatMap(elementsOf);
    if (fields.some(({ value }) => Array.isArray(value))) crowd = { field, total: places.length };
    if (places.length === 0) return { because: count(crowd) };
    if (!selector || !selection) continue;
    const selected = places.filter(({ value }) => fieldPasses(selection)(value));
    const all = crowd ?? { field, total: places.length };
    if (selected.length === 0) return { because: becauseNoneSelected(places, selector, selection, all) };
    crowd = { ...all, selected: { count: selected.length, by: printSelector(selector) } };
    places = selected;
  }
  return (
    places.find(({ value }) => condition.match.test(value)) ?? becauseNoneMatches(condition, places, crowd)
  );
}

function fieldsOf(holders: readonly Place[], field: FieldName): Place[] {
  return holders.flatMap((parent) => {
    const value = readField(parent.value, field);
    if (value === undefined) return [];
    return [{ value, parent, key: spellingIn(parent.value as JsonObject, field) ?? field.usual }];
  });
}

/** What is no list is its own only element; of lists in lists the innermost elements count, as in evaluation. */
function elementsOf(place: Place): Place[] {
  const elements: Place[] = [];
  const open = [place];
  for (let parent = open.pop(); parent; parent = open.pop()) {
    const { value } = parent;
    if (!Array.isArray(value)) {
      elements.push(parent);
      continue;
    }
    for (let key = value.length - 1; key >= 0; key--) {
      open.push({ value: value[key] as JsonValue, parent, key });
    }
  }
  return elements;
}

function becauseHit({ source, value }: CompiledCondition, hit: Place): string {
  const text = scalarText(hit.value) ?? '';
  const phrase = `${pathOf(hit)} is ${shorten(text)}`;
  if (!value) return `${phrase}, which is ${source.operator} ${shorten(source.value)}`;
  return text === source.value ? phrase : `${phrase}, which ${shorten(source.value)} matches`;
}

function becauseMissing(holders: readonly Place[], { usual }: FieldName, crowd: Crowd | undefined): string {
  const [only, ...others] = holders;
  if (!only || others.length > 0) return `${count(crowd)}; none has the field ${usual}`;
  if (!only.parent) return `there is no ${usual}: a path starts with OrderDetailsData`;
  const path = pathOf(only);
  return `${path === ORDER_ROOT ? 'the order' : path} has no field ${usual}`;
}

function becauseNoneSelected(
  elements: readonly Place[],
  selector: Selector,
  { field, match }: Selection,
  all: Crowd,
): string {
  if (selector.kind !== 'equal') return `${count(all)}; ${field.usual} is true in none`;
  const values = fieldsOf(elements, field).flatMap(elementsOf);
  if (values.length === 0) return becauseMissing(elements, field, all);
  return `${count(all)}, ${tell(values, field)}; none ${expectation(selector.value, match)}`;
}

function becauseNoneMatches(
  { source, steps, value: equality }: CompiledCondition,
  places: readonly Place[],
  crowd: Crowd | undefined,
): Miss {
  const [only, ...others] = places;
  if (only && others.length === 0) {
    const text = scalarText(only.value);
    const contrast =
      text === undefined
        ? ''
        : equality
          ? unequal(source.value, equality)
          : unordered(text, source.operator, source.value);
    return { because: `${pathOf(only)} is ${textOf(only.value)}${contrast}`, only };
  }
  const { field } = steps.at(-1) as Step;
  const values = field === crowd?.field ? `: ${valuesOf(places).told}` : `, ${tell(places, field)}`;
  const expected = equality
    ? expectation(source.value, equality)
    : `is ${source.operator} ${shorten(source.value)}`;
  return { because: `${count(crowd)}${values}; none ${expected}` };
}

function unequal(value: string, { literal }: ScalarMatch): string {
  return literal ? `, not ${shorten(value)}` : `, which ${shorten(value)} does not match`;
}

function unordered(text: string, operator: Operator, value: string): string {
  const kind = orderedKind(value);
  if (!kind) return `, and ${shorten(value)} is neither a number nor a date-time`;
  return orderedKind(text) === kind
    ? `, which is not ${operator} ${shorten(value)}`
    : `, which is no ${kind}`;
}

function expectation(value: string, { literal }: ScalarMatch): string {
  return literal ? `is ${shorten(value)}` : `matches ${shorten(value)}`;
}

/** `product codes A, B, C and 4 more`. */
function tell(places: readonly Place[], field: FieldName): string {
  const { told, total } = valuesOf(places);
  return `${labelOf(field, total)} ${told}`;
}

/** Different values only. */
function valuesOf(places: readonly Place[]): { told: string; total: number } {
  const texts = new Set(places.map(({ value }) => textOf(value)));
  const more = texts.size - VALUES_TOLD_MAX;
  const told = texts.values().take(VALUES_TOLD_MAX).toArray().join(', ');
  return { told: more > 0 ? `${told} and ${more} more` : told, total: texts.size };
}

function labelOf({ usual }: FieldName, valueCount: number): string {
  const type = knownField(usual)?.type;
  if (type === undefined || type === 'boolean' || type === 'any' || type === 'list') return usual;
  const words = usual.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return valueCount === 1 ? words : plural(words);
}

function count(crowd: Crowd | undefined): string {
  if (!crowd) return 'the elements';
  const { field, total, selected } = crowd;
  const noun = ORDER_LISTS.get(field.usual)?.noun;
  const counted = total === 1 ? (noun ?? 'element') : plural(noun ?? 'element');
  const all = `${total || 'no'} ${counted}${noun ? '' : ` of ${field.usual}`}`;
  return selected ? `${selected.count} of ${all} with ${shorten(selected.by)}` : all;
}

function plural(noun: string): string {
  return noun.endsWith('y') ? `${noun.slice(0, -1)}ies` : `${noun}s`;
}

function textOf(value: JsonValue): string {
  return shorten(scalarText(value) ?? (value === null ? 'null' : 'an object'));
}

function shorten(text: string, charactersMax = TEXT_CHARACTERS_MAX): string {
  return text.length > charactersMax ? `${text.slice(0, charactersMax)}…` : text;
}

/** From the order's details on; the way into lists in lists can be as deep as the order is long. */
function pathOf(place: Place): string {
  let path = '';
  for (let at: Place | undefined = place; at?.parent; at = at.parent) {
    if (path.length > PATH_CHARACTERS_MAX) return `…${path}`;
    const isRoot =
      !at.parent.parent && typeof at.key === 'string' && at.key.toLowerCase() === ORDER_ROOT.toLowerCase();
    if (isRoot) return path === '' ? ORDER_ROOT : path;
    const key = typeof at.key === 'number' ? `[${at.key}]` : at.key;
    path = path === '' || path.startsWith('[') ? key + path : `${key}.${path}`;
  }
  return path;
}
