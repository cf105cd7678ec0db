/**
 * The order operators `<`, `<=`, `>`, `>=` [ours]: decimal numbers by value, also where JavaScript numbers are not
 * exact, and ISO 8601 date-times by the moment they name. Anything else, and a number against a moment, never matches.
 */
import type { Operator } from './parse.ts';
import { NOTHING, type ScalarMatch, scalarMatch, type TextTest } from './value-match.ts';

export type OrderOperator = Exclude<Operator, '=' | '!='>;

export function compileOrdering(operator: OrderOperator, value: string): ScalarMatch {
  const decimal = readDecimal(value);
  if (decimal) return decimalMatch(operator, value, decimal);
  const seconds = momentSeconds(value);
  if (Number.isNaN(seconds)) return NOTHING;
  return scalarMatch(
    (found) => {
      const difference = momentSeconds(found) - seconds;
      // NaN, of what is no moment, is neither zero nor less nor greater than anything.
      return holds(operator, difference === 0 ? compareFractions(found, value) : difference);
    },
    () => false,
  );
}

/** What the order operators can compare the value with; undefined when with nothing. */
export function orderedKind(value: string): 'number' | 'date-time' | undefined {
  if (readDecimal(value)) return 'number';
  return Number.isNaN(momentSeconds(value)) ? undefined : 'date-time';
}

function decimalMatch(operator: OrderOperator, value: string, decimal: Decimal): ScalarMatch {
  const ofText: TextTest = (text) => {
    const other = readDecimal(text);
    return other !== undefined && holds(operator, compareDecimals(other, decimal));
  };
  const number = Number(value);
  const nearest = readDecimal(String(number));
  // Numbers that parseLossless leaves as they are print as they were written, and rounding keeps their order: when the
  // filter's value has that property too, the numbers compare as their texts do.
  if (!nearest || compareDecimals(nearest, decimal) !== 0)
    return scalarMatch(ofText, (found) => ofText(String(found)));
  return scalarMatch(ofText, (found) => Number.isFinite(found) && holds(operator, found - number));
}

/** `difference`: of what was found and the filter's value. */
function holds(operator: OrderOperator, difference: number): boolean {
  switch (operator) {
    case '<':
      return difference < 0;
    case '<=':
      return difference <= 0;
    case '>':
      return difference > 0;
    case '>=':
      return difference >= 0;
  }
}

/** `0.digits` times ten to the power of `exponent`; the digits have no zeros around them, and zero has none. */
type Decimal = { readonly sign: -1 | 0 | 1; readonly digits: string; readonly exponent: number };

/** As in JSON, and also with a plus sign or leading zeros: codes and quantities are sometimes kept as texts. */
const DECIMAL = /^([+-]?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,9}))?$/;

function readDecimal(text: string): Decimal | undefined {
  const parts = DECIMAL.exec(text);
  if (!parts) return undefined;
  const [, minus, whole = '', fraction = '', power = '0'] = parts;
  const all = whole + fraction;
  // Loops, because an expression for zeros at the end takes quadratic time on a long row of zeros before another digit.
  let start = 0;
  while (start < all.length && all[start] === '0') start++;
  let end = all.length;
  while (end > start && all[end - 1] === '0') end--;
  if (start === end) return { sign: 0, digits: '', exponent: 0 };
  const digits = all.slice(start, end);
  return { sign: minus === '-' ? -1 : 1, digits, exponent: whole.length - start + Number(power) };
}

function compareDecimals(a: Decimal, b: Decimal): number {
  if (a.sign !== b.sign) return a.sign - b.sign;
  if (a.exponent !== b.exponent) return a.sign * (a.exponent - b.exponent);
  // Fractions with the same point compare as texts do; a longer one is greater.
  return a.digits === b.digits ? 0 : a.sign * (a.digits < b.digits ? -1 : 1);
}

/** `2020-10-13T10:09:27.503+00:00`; seconds, fraction and zone may be missing, and no zone means UTC. */
const MOMENT = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:[Zz]|[+-]\d\d(?::?\d\d)?)?$/;
const FRACTION_START = 20;

/** Whole seconds since 1970; NaN when the text is no date-time that exists. */
function momentSeconds(text: string): number {
  if (!MOMENT.test(text)) return Number.NaN;
  const year = numberAt(text, 0, 4);
  const month = numberAt(text, 5, 2);
  const day = numberAt(text, 8, 2);
  const hour = numberAt(text, 11, 2);
  const minute = numberAt(text, 14, 2);
  const hasSeconds = text[16] === ':';
  const second = hasSeconds ? numberAt(text, 17, 2) : 0;
  if (month < 1 || month > 12 || day < 1 || day > daysOf(year, month)) return Number.NaN;
  // 24:00:00 is the end of the day, and :60 a leap second, which no clock of ours tells from the next second.
  if (hour > 24 || minute > 59 || second > 60 || (hour === 24 && minute + second > 0)) return Number.NaN;
  const zoneMinutes = zoneOf(text, hasSeconds ? 19 : 16);
  return daysSince1970(year, month, day) * 86_400 + hour * 3_600 + (minute - zoneMinutes) * 60 + second;
}

/** Minutes east of UTC. */
function zoneOf(text: string, start: number): number {
  let at = start;
  while (at < text.length && text[at] !== '+' && text[at] !== '-') at++;
  if (at === text.length) return 0;
  const hours = numberAt(text, at + 1, 2);
  const minutesAt = text[at + 3] === ':' ? at + 4 : at + 3;
  const minutes = minutesAt < text.length ? numberAt(text, minutesAt, 2) : 0;
  return hours > 23 || minutes > 59 ? Number.NaN : (text[at] === '-' ? -1 : 1) * (hours * 60 + minutes);
}

function numberAt(text: string, start: number, count: number): number {
  let number = 0;
  for (let at = start; at < start + count; at++) number = number * 10 + text.charCodeAt(at) - 48;
  return number;
}

function daysOf(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

/** Years begin in March, so that the leap day is a year's last. */
function daysSince1970(year: number, month: number, day: number): number {
  const y = month > 2 ? year : year - 1;
  const monthsSinceMarch = (month + 9) % 12;
  const leapDays = Math.floor(y / 4) - Math.floor(y / 100) + Math.floor(y / 400);
  return y * 365 + leapDays + Math.floor((monthsSinceMarch * 153 + 2) / 5) + day - 1 - 719_468;
}

/** Digit by digit, because a fraction may have more digits than a number holds; a missing digit is a zero. */
function compareFractions(a: string, b: string): number {
  const endA = fractionEnd(a);
  const endB = fractionEnd(b);
  for (let at = FRACTION_START; at < endA || at < endB; at++) {
    const difference = (at < endA ? numberAt(a, at, 1) : 0) - (at < endB ? numberAt(b, at, 1) : 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function fractionEnd(text: string): number {
  const mark = text[FRACTION_START - 1];
  let end = FRACTION_START;
  if (mark !== '.' && mark !== ',') return end;
  while (text.charCodeAt(end) >= 48 && text.charCodeAt(end) <= 57) end++;
  return end;
}
