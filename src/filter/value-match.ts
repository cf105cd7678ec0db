/**
 * When does the text of a JSON scalar match a filter's value? When it is equal, or when the value, read as a regular
 * expression in RE2 syntax, matches the whole text. Promises an answer in time linear in the text, whatever value and
 * text: every expression that is not one of a few plain shapes is run by an automaton, never by a backtracking engine.
 */
import { RE2JS, RE2JSException, RE2Set } from 're2js';
import { type JsonValue, scalarText } from '../model/lossless-json.ts';

/** Whether a value that is not a list matches; null and objects never do. */
export type ScalarTest = (value: JsonValue) => boolean;
export type TextTest = (text: string) => boolean;
export type NumberTest = (number: number) => boolean;

export type ScalarMatch = {
  readonly test: ScalarTest;
  // For the fastest loops, what the test does for most of what they meet.
  readonly ofText: TextTest;
  readonly ofNumber: NumberTest;
  /** When the test is nothing but equality: with this text, or with the number that has it. */
  readonly literal?: { readonly text: string; readonly number: number | undefined };
};

/** `ofNumber` has to answer as `ofText` would for the number's text. */
export function scalarMatch(ofText: TextTest, ofNumber: NumberTest): ScalarMatch {
  const test: ScalarTest = (value) => {
    if (typeof value === 'string') return ofText(value);
    if (typeof value === 'number') return ofNumber(value);
    const text = scalarText(value);
    return text !== undefined && ofText(text);
  };
  return { test, ofText, ofNumber };
}

export const NOTHING: ScalarMatch = scalarMatch(
  () => false,
  () => false,
);

export type ValueMatch = ScalarMatch & {
  /** Why a value that looks like an expression is none and is compared literally. */
  readonly expressionProblem?: string;
  /** What the automaton of the value costs, in instructions; 0 when it needs none. */
  readonly instructions: number;
};

/** Without one of these a text means itself also as a regular expression. */
const METACHARACTER = /[\\^$.|?*+()[\]{}]/;

/**
 * [ours] Bytes that the lazily built automaton of one value may hold. The library's own 8 MiB would let one filter of 64
 * values take half a gigabyte; where this is too little it goes on without the memory, slower and still linear.
 */
const AUTOMATON_BYTES_MAX = 256 * 1024;

export function compileValue(value: string): ValueMatch {
  if (!METACHARACTER.test(value)) return { ...literalMatch(value), instructions: 0 };
  const plain = plainShapes(value);
  if (plain) return { ...textMatch(plain), instructions: 0 };
  try {
    const instructions = RE2JS.compile(value).programSize();
    return { ...textMatch(automaton(value)), instructions };
  } catch (error) {
    if (!(error instanceof RE2JSException)) throw error;
    const expressionProblem = error.message.replace('error parsing regexp: ', '');
    return { ...literalMatch(value), instructions: 0, expressionProblem };
  }
}

function literalMatch(text: string): ScalarMatch {
  // A number whose text is the value has to be this one, so that no number is turned into text to be compared.
  const number = String(Number(text)) === text ? Number(text) : undefined;
  return {
    ...scalarMatch(
      (found) => found === text,
      (found) => found === number,
    ),
    literal: { text, number },
  };
}

function textMatch(ofText: TextTest): ScalarMatch {
  return scalarMatch(ofText, (number) => ofText(String(number)));
}

/** Of a value such as `ab.c`, which is both an expression and a text of its own. */
function automaton(expression: string): TextTest {
  const set = new RE2Set(RE2Set.ANCHOR_BOTH, 0, AUTOMATON_BYTES_MAX);
  set.add(expression);
  set.compile();
  const start = literalStart(expression);
  // Most texts that do not match differ in their first characters.
  const mayMatch = start === '' ? () => true : startsWith(start);
  return (text) => text === expression || (mayMatch(text) && set.match(text).length > 0);
}

/** As the method of strings, but most texts are told apart by their first character. `start` is not empty. */
function startsWith(start: string): TextTest {
  const code = start.charCodeAt(0);
  return (text) => text.charCodeAt(0) === code && text.startsWith(start);
}

/** What every text that the expression matches begins with; possibly less than that, never more. */
function literalStart(expression: string): string {
  if (expression.includes('|')) return '';
  const end = expression.search(METACHARACTER);
  // These stand for something of their own. A quantifier speaks of the character before it, also across what stands for
  // nothing, such as `(?i)` or `\Q\E`.
  if ('.[^$'.includes(expression[end] as string)) return expression.slice(0, end);
  // A character may be a surrogate pair.
  return Array.from(expression.slice(0, end)).slice(0, -1).join('');
}

/**
 * The expressions that people write most, without the automaton: alternatives of plain text with `.*` before or after
 * it, such as `13.*`, `.*VIP.*` or `SALE|RENEWAL`, also in parentheses. Undefined for all others.
 */
function plainShapes(expression: string): TextTest | undefined {
  const alternatives = /^\(([^()]*)\)$/s.exec(expression)?.[1] ?? expression;
  // In a class, a group or after a backslash the bar is no alternative; the test for metacharacters finds these.
  const shapes = alternatives.split('|').map(plainShape);
  if (!shapes.every((shape) => shape !== undefined)) return undefined;
  const [first, second] = shapes;
  // A single shape matches its own text.
  if (first && !second && alternatives === expression) return first;
  return (text) => {
    for (let i = 0; i < shapes.length; i++) if (shapes[i]?.(text)) return true;
    return text === expression;
  };
}

function plainShape(alternative: string): TextTest | undefined {
  const opensAny = alternative.startsWith('.*');
  const closesAny = alternative.endsWith('.*');
  const text = alternative.slice(opensAny ? 2 : 0, closesAny ? -2 : undefined);
  // The automaton reads whole characters: half a surrogate pair would be found here and not there.
  if (METACHARACTER.test(text) || !text.isWellFormed()) return undefined;
  if (!opensAny && !closesAny) return (found) => found === text;
  // A dot stands for any character but a line feed.
  if (text.includes('\n')) return undefined;
  if (opensAny && closesAny) return (found) => found.includes(text) && !found.includes('\n');
  if (opensAny) return (found) => found.endsWith(text) && !found.includes('\n');
  const code = text.charCodeAt(0);
  return (found) => found.charCodeAt(0) === code && found.startsWith(text) && !found.includes('\n');
}
