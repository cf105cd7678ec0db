/**
 * Filter text to syntax tree and back: the grammar of the contract's section 3, by recursive descent. Hides the
 * grammar's blanks and parentheses; promises that printing a tree and parsing the text gives the same tree; knows
 * nothing of orders. The only error it throws is FilterError.
 */
import { FILTER_CHARACTERS_MAX, FILTER_CONDITIONS_MAX, FILTER_SEGMENTS_MAX } from '../model/limits.ts';

/** [V1] `=`; [ours] the others. */
export const OPERATORS = ['=', '!=', '<', '<=', '>', '>='] as const;
export type Operator = (typeof OPERATORS)[number];

export type Selector =
  /** `(*)`: any element. */
  | { readonly kind: 'any' }
  /** `(name=value)`: the elements whose field matches. */
  | { readonly kind: 'equal'; readonly name: string; readonly value: string }
  /** `(name)`: the elements whose boolean field is true. */
  | { readonly kind: 'true'; readonly name: string };

export type Segment = { readonly name: string; readonly selector?: Selector };
export type Condition = {
  readonly path: readonly Segment[];
  readonly operator: Operator;
  readonly value: string;
};

/** Where the parts of a tree stand in its text: 0-based offsets. */
export type PlacedSelector = Selector & {
  /** Of the opening parenthesis. */
  readonly position: number;
  readonly namePosition: number;
  readonly valuePosition: number;
};
export type PlacedSegment = Omit<Segment, 'selector'> & {
  readonly position: number;
  readonly selector?: PlacedSelector;
};
export type PlacedCondition = Omit<Condition, 'path'> & {
  readonly path: readonly PlacedSegment[];
  readonly valuePosition: number;
  readonly position: number;
  /** As written, without the blanks around it. */
  readonly text: string;
};

export type FilterErrorCode =
  | 'filter_syntax'
  | 'filter_too_long'
  | 'filter_too_many_conditions'
  | 'filter_too_many_segments'
  | 'filter_too_complex';

/** The text is no filter. The message says what was found and what was expected. */
export class FilterError extends Error {
  readonly code: FilterErrorCode;
  /** 0-based offset into the filter text. */
  readonly position: number;

  constructor(code: FilterErrorCode, message: string, position: number) {
    super(message);
    this.name = 'FilterError';
    this.code = code;
    this.position = position;
  }
}

const NAME = /\p{L}[\p{L}0-9_]*/uy;
const OPERATOR = /!=|<=|>=|=|<|>/y;
/** The same characters that `trim` takes away. */
const BLANKS = /\s*/y;
const EXPECTED_OPERATOR = `an operator (${OPERATORS.join(' ')})`;

/**
 * Blank text has no conditions.
 * @throws FilterError
 */
export function parseFilter(text: string): readonly PlacedCondition[] {
  if (text.length > FILTER_CHARACTERS_MAX) {
    throw new FilterError(
      'filter_too_long',
      `The filter has ${text.length} characters; at most ${FILTER_CHARACTERS_MAX} are allowed.`,
      FILTER_CHARACTERS_MAX,
    );
  }
  return new Parser(text).filter();
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  filter(): readonly PlacedCondition[] {
    const conditions: PlacedCondition[] = [];
    this.#skipBlanks();
    while (!this.#isAtEnd()) {
      if (conditions.length === FILTER_CONDITIONS_MAX) {
        throw new FilterError(
          'filter_too_many_conditions',
          `The filter has more than ${FILTER_CONDITIONS_MAX} conditions.`,
          this.#at,
        );
      }
      conditions.push(this.#condition());
      // A value ends at a semicolon or at the end; nothing else can stand here.
      if (this.#next() === ';') this.#at++;
      this.#skipBlanks();
    }
    return conditions;
  }

  #condition(): PlacedCondition {
    const position = this.#at;
    if (this.#next() === ';') throw this.#expected('a condition before the semicolon');
    const path = this.#path();
    const operator = this.#operator(path.at(-1)?.selector === undefined);
    this.#skipBlanks();
    const valuePosition = this.#at;
    const semicolon = this.#text.indexOf(';', valuePosition);
    this.#at = semicolon === -1 ? this.#text.length : semicolon;
    const value = this.#text.slice(valuePosition, this.#at).trimEnd();
    if (value === '') throw this.#valueMissing(operator);
    const text = this.#text.slice(position, valuePosition + value.length);
    return { path, operator, value, valuePosition, position, text };
  }

  #path(): readonly PlacedSegment[] {
    const path: PlacedSegment[] = [];
    do {
      if (path.length > 0) this.#at++;
      if (path.length === FILTER_SEGMENTS_MAX) {
        throw new FilterError(
          'filter_too_many_segments',
          `The path has more than ${FILTER_SEGMENTS_MAX} names.`,
          this.#at,
        );
      }
      const position = this.#at;
      const name = this.#name('a field name');
      const selector = this.#next() === '(' ? this.#selector() : undefined;
      path.push(selector ? { name, position, selector } : { name, position });
    } while (this.#next() === '.');
    return path;
  }

  #selector(): PlacedSelector {
    const position = this.#at++;
    this.#skipBlanks();
    const namePosition = this.#at;
    if (this.#next() === '*') {
      this.#at++;
      this.#close(position, '")"');
      return { kind: 'any', position, namePosition, valuePosition: namePosition };
    }
    if (this.#isAtEnd()) throw this.#notClosed(position);
    const name = this.#name('"*" or a field name');
    this.#skipBlanks();
    if (this.#next() !== '=') {
      this.#close(position, '"=" or ")"');
      return { kind: 'true', name, position, namePosition, valuePosition: namePosition };
    }
    this.#at++;
    this.#skipBlanks();
    const valuePosition = this.#at;
    this.#at = this.#balancingParenthesis(position);
    const value = this.#text.slice(valuePosition, this.#at).trimEnd();
    if (value === '') throw this.#valueMissing('=');
    this.#at++;
    return { kind: 'equal', name, value, position, namePosition, valuePosition };
  }

  /** A parenthesis behind a backslash belongs to the value, as it does in a regular expression. */
  #balancingParenthesis(opening: number): number {
    let depth = 1;
    for (let at = this.#at; at < this.#text.length; at++) {
      const character = this.#text[at];
      if (character === '\\') at++;
      else if (character === '(') depth++;
      else if (character === ')' && --depth === 0) return at;
    }
    throw this.#notClosed(opening);
  }

  #close(opening: number, expected: string): void {
    this.#skipBlanks();
    if (this.#isAtEnd()) throw this.#notClosed(opening);
    if (this.#next() !== ')') throw this.#expected(expected);
    this.#at++;
  }

  #name(expected: string): string {
    const name = this.#take(NAME);
    if (name === '') throw this.#expected(`${expected} (a letter, then letters, digits and "_")`);
    return name;
  }

  #operator(maySelect: boolean): Operator {
    const end = this.#at;
    this.#skipBlanks();
    const operator = this.#take(OPERATOR);
    if (operator !== '') return operator as Operator;
    if (this.#at > end) throw this.#expected(EXPECTED_OPERATOR);
    throw this.#expected(`${maySelect ? '".", "("' : '"."'} or ${EXPECTED_OPERATOR}`);
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const taken = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += taken.length;
    return taken;
  }

  #skipBlanks(): void {
    this.#take(BLANKS);
  }

  #next(): string | undefined {
    return this.#text[this.#at];
  }

  #isAtEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  #expected(expected: string): FilterError {
    return this.#error(`Expected ${expected} at ${this.#at}, found ${this.#found()}.`, this.#at);
  }

  #valueMissing(operator: Operator): FilterError {
    return this.#error(
      `Expected a value after "${operator}" at ${this.#at}, found ${this.#found()}. An empty text is written ^$.`,
      this.#at,
    );
  }

  #notClosed(opening: number): FilterError {
    const inside = this.#text.slice(opening);
    const hint =
      inside.lastIndexOf('(') > 0 ? ' A parenthesis that belongs to a value is written \\( or \\).' : '';
    return this.#error(
      `The parenthesis opened at ${opening} is not closed: expected ")" after ${quote(inside)}, found the end.${hint}`,
      opening,
    );
  }

  #found(): string {
    if (this.#isAtEnd()) return 'the end';
    return quote(/^(?:;|.[^\s;]*)/su.exec(this.#text.slice(this.#at))?.[0] ?? '');
  }

  #error(message: string, position: number): FilterError {
    return new FilterError('filter_syntax', message, position);
  }
}

const QUOTED_CHARACTERS_MAX = 32;

function quote(text: string): string {
  return `"${text.length > QUOTED_CHARACTERS_MAX ? `${text.slice(0, QUOTED_CHARACTERS_MAX)}…` : text}"`;
}

/** The text of a tree, in its shortest spelling. */
export function printFilter(conditions: readonly Condition[]): string {
  return conditions.map(printCondition).join(';');
}

function printCondition({ path, operator, value }: Condition): string {
  // Without the blank, `<` and `=5` would read as `<=` and `5`.
  const gap = value.startsWith('=') ? ' ' : '';
  return `${path.map(printSegment).join('.')}${operator}${gap}${value}`;
}

function printSegment({ name, selector }: Segment): string {
  return selector ? `${name}(${printSelector(selector)})` : name;
}

export function printSelector(selector: Selector): string {
  switch (selector.kind) {
    case 'any':
      return '*';
    case 'true':
      return selector.name;
    case 'equal':
      return `${selector.name}=${selector.value}`;
  }
}
