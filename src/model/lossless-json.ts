/**
 * JSON whose numbers keep their text. JavaScript numbers cannot hold every 64-bit id (contract, section 4.1), so a
 * number that would not print as it was written is kept as a raw JSON value: an object that `JSON.stringify` writes
 * as the original digits. All other numbers are plain numbers, and text without such numbers costs one native parse.
 */
import { scanJson } from './json-scan.ts';

/** A number kept as text; made by the engine's own `JSON.rawJSON`. */
export type RawNumber = { readonly rawJSON: string };
export type JsonScalar = string | number | boolean | null | RawNumber;
export type JsonValue = JsonScalar | JsonValue[] | JsonObject;
export type JsonObject = { [name: string]: JsonValue };

// lib.esnext does not know these two yet (TC39 "JSON.parse source text access", in V8 since 11.4).
const json = JSON as unknown as {
  rawJSON(text: string): RawNumber;
  isRawJSON(value: unknown): value is RawNumber;
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { source?: string }) => unknown,
  ): unknown;
};

/**
 * A number that JavaScript may print differently: 16 digits and more, a fraction (its last digit may be 0, or it may be
 * long), an exponent, minus zero. It stands where a value begins, after a colon that ends a name, a comma, or a bracket.
 * False alarms, from such text inside strings, only cost time.
 */
const SUSPICIOUS_NUMBER = /(?::(?<=["\s]:)|[[,])\s*((?:-0|-?(?:\d{16}|\d+[.eE]))[\d.eE+-]*)/g;

/** @throws SyntaxError as `JSON.parse` does. */
export function parseLossless(text: string): JsonValue {
  return new JsonText(text).exact;
}

/** A JSON text that is parsed when somebody asks, and once. Both ways throw a SyntaxError as `JSON.parse` does. */
export class JsonText {
  readonly text: string;
  #plain: JsonValue | undefined;
  #exact: JsonValue | undefined;

  constructor(text: string) {
    this.text = text;
  }

  /** Its numbers may have lost digits; everything else is as in `exact`. Looking for such numbers costs half a parse. */
  get plain(): JsonValue {
    this.#plain ??= JSON.parse(this.text) as JsonValue;
    return this.#plain;
  }

  /** All numbers keep their text. */
  get exact(): JsonValue {
    this.#exact ??= mayLose(this.text) ? parseRaw(this.text) : this.plain;
    return this.#exact;
  }
}

function parseRaw(text: string): JsonValue {
  return json.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined && String(value) !== source
      ? json.rawJSON(source)
      : value,
  ) as JsonValue;
}

function mayLose(text: string): boolean {
  // A number that is the whole text has nothing before it.
  if (!/[[{"]/.test(text)) return true;
  SUSPICIOUS_NUMBER.lastIndex = 0;
  for (let found = SUSPICIOUS_NUMBER.exec(text); found; found = SUSPICIOUS_NUMBER.exec(text)) {
    const [, number] = found;
    if (String(Number(number)) !== number) return true;
  }
  return false;
}

export function isRawNumber(value: unknown): value is RawNumber {
  return json.isRawJSON(value);
}

/** The text of a scalar as the JSON text had it (a string without its quotes); undefined for null, lists and objects. */
export function scalarText(value: JsonValue | undefined): string | undefined {
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
    case 'boolean':
      return String(value);
    case 'object':
      return isRawNumber(value) ? value.rawJSON : undefined;
    default:
      return undefined;
  }
}

export type JsonSyntaxProblem = { message: string; position: number; line: number; column: number };

/** Of longer texts the place alone is told: V8 would parse all of them once more to say it in its own words. */
const NATIVE_CHARACTERS_MAX = 16 * 1024;

/** Where and why a text is not JSON (RFC 8259); undefined when it is. Lines and columns start at 1, the position at 0. */
export function jsonSyntaxProblem(text: string): JsonSyntaxProblem | undefined {
  if (text.length > NATIVE_CHARACTERS_MAX) return scannedProblem(text);
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    return nativeProblem(error as SyntaxError) ?? scannedProblem(text);
  }
}

/** V8 tells the place of most errors, in good words; of an unexpected character it does not. */
function nativeProblem(error: SyntaxError): JsonSyntaxProblem | undefined {
  const place = / in JSON at position (\d+) \(line (\d+) column (\d+)\)$/.exec(error.message);
  if (!place) return undefined;
  const [, position, line, column] = place.map(Number) as [number, number, number, number];
  return { message: error.message.slice(0, place.index), position, line, column };
}

function scannedProblem(text: string): JsonSyntaxProblem | undefined {
  const scan = scanJson(text);
  return scan.isJson === false ? syntaxProblemAt(text, scan.position) : undefined;
}

/** At the first character that does not fit. */
export function syntaxProblemAt(text: string, position: number): JsonSyntaxProblem {
  const before = text.slice(0, position);
  const lineStart = before.lastIndexOf('\n') + 1;
  let line = 1;
  for (let at = before.indexOf('\n'); at !== -1; at = before.indexOf('\n', at + 1)) line += 1;
  const character = String.fromCodePoint(text.codePointAt(position) ?? 0);
  const message = position >= text.length ? 'Unexpected end' : `Unexpected character '${character}'`;
  return { message, position, line, column: position - lineStart + 1 };
}
