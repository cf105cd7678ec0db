/**
 * A second evaluator of filters, as plain as can be and far too slow: it gathers every value that a path leads to and
 * shares nothing with the first but the parser. The two have to agree.
 */
import { RE2JS } from 're2js';
import type { Condition, Segment } from '../../src/filter/parse.ts';
import { isRawNumber, type JsonObject, type JsonValue } from '../../src/model/lossless-json.ts';

export function matchesNaively(conditions: readonly Condition[], order: JsonValue): boolean {
  return conditions.every(({ path, operator, value }) => {
    const texts = valuesAt(path, [order]).map(textOf);
    const some = (passes: (text: string) => boolean) =>
      texts.some((text) => text !== undefined && passes(text));
    if (operator === '=') return some((text) => equals(text, value));
    if (operator === '!=') return !some((text) => equals(text, value));
    return some((text) => {
      const difference = compare(text, value);
      if (difference === undefined) return false;
      return { '<': difference < 0, '<=': difference <= 0, '>': difference > 0, '>=': difference >= 0 }[
        operator
      ];
    });
  });
}

function valuesAt([segment, ...rest]: readonly Segment[], holders: readonly JsonValue[]): JsonValue[] {
  if (!segment) return holders.flatMap(elementsOf);
  const { name, selector } = segment;
  const elements = fieldsCalled(name, holders);
  const selected = elements.filter((element) => {
    if (!selector || selector.kind === 'any') return true;
    const values = fieldsCalled(selector.name, [element]);
    if (selector.kind === 'true') return values.includes(true);
    return values.map(textOf).some((text) => text !== undefined && equals(text, selector.value));
  });
  return valuesAt(rest, selected);
}

function fieldsCalled(name: string, holders: readonly JsonValue[]): JsonValue[] {
  return holders.flatMap(elementsOf).flatMap((holder) => {
    if (typeof holder !== 'object' || holder === null || isRawNumber(holder)) return [];
    return Object.entries(holder as JsonObject)
      .filter(([key]) => key.toLowerCase() === name.toLowerCase())
      .flatMap(([, value]) => elementsOf(value));
  });
}

function elementsOf(value: JsonValue): JsonValue[] {
  return Array.isArray(value) ? value.flatMap(elementsOf) : [value];
}

function textOf(value: JsonValue): string | undefined {
  if (isRawNumber(value)) return value.rawJSON;
  return value === null || typeof value === 'object' ? undefined : String(value);
}

function equals(text: string, value: string): boolean {
  try {
    return text === value || RE2JS.matches(value, text);
  } catch {
    return false;
  }
}

function compare(a: string, b: string): number | undefined {
  const decimals = [a, b].map(decimalOf);
  const moments = [a, b].map(momentOf);
  const [left, right] = decimals.includes(undefined) ? moments : decimals;
  if (left === undefined || right === undefined) return undefined;
  return left < right ? -1 : left > right ? 1 : 0;
}

const SCALE = 60;

/** Times ten to the power of SCALE; the numbers of the tests have no more places. */
function decimalOf(text: string): bigint | undefined {
  const parts = /^([+-]?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (!parts) return undefined;
  const [, sign, whole = '', fraction = '', power = '0'] = parts;
  const shift = SCALE - fraction.length + Number(power);
  if (shift < 0 || shift > 200) throw new Error(`${text} is out of the reach of this test`);
  return BigInt(`${sign}${whole}${fraction}${'0'.repeat(shift)}`);
}

/** Milliseconds; the moments of the tests are no finer. */
function momentOf(text: string): bigint | undefined {
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/.exec(text);
  if (!parts) return undefined;
  const [, minutes = '', seconds = ':00', zone = 'Z'] = parts;
  const milliseconds = Date.parse(`${minutes}${seconds}${zone}`);
  // Date.parse rolls a day that does not exist over into the next month.
  const isReal = new Date(`${minutes}Z`).toJSON()?.startsWith(minutes);
  return Number.isNaN(milliseconds) || !isReal ? undefined : BigInt(milliseconds);
}
