/**
 * Walks a JSON text (RFC 8259) without building its values: is it JSON, where does it stop being so, and where are the
 * fields of the outermost object?
 *
 * It takes what `JSON.parse` takes and nothing else. It never recurses, and it can stop anywhere and go on later: `JSON.parse`
 * takes up to 60 ms for one megabyte, in which the thread does nothing else. All at once, it is two to five times slower.
 */

/** A field of the outermost object: its name, and where the text of its value, without blanks, begins and ends. */
export type JsonField = {
  readonly name: string;
  /** Where the name begins, with its quote. */
  readonly nameStart: number;
  readonly start: number;
  readonly end: number;
};

export type JsonScan =
  /** `fields` are those that were asked for, in the order of the text; a name may come more than once, and the last counts. */
  | { readonly isJson: true; readonly isObject: boolean; readonly fields: readonly JsonField[] }
  /** The position of the first character that does not fit; the length of the text when there is too little of it. */
  | { readonly isJson: false; readonly position: number }
  /** Lists and objects are nested in more levels than allowed; whether the rest is JSON was not looked at. */
  | { readonly isJson: 'too_deep' };

export type ScanOptions = {
  readonly levelsMax?: number;
  /** Of the outermost object, the fields whose places are wanted. */
  readonly names?: ReadonlySet<string>;
};

const NO_NAMES: ReadonlySet<string> = new Set();
const OBJECT = 1;
const LIST = 2;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** What needs no closer look within a text: all but its end, an escape and control characters. */
const PLAIN_CHARACTERS = /[^"\\\u0000-\u001f]*/y;

/** The text of an object without these of its fields, in the order of the text; all other text stays as it is. */
export function withoutFields(text: string, fields: readonly JsonField[]): string {
  let rest = '';
  let copiedTo = 0;
  for (const { nameStart, end } of fields) {
    rest += text.slice(copiedTo, nameStart);
    const next = skipBlanks(text, end);
    const isLast = text.charCodeAt(next) !== 0x2c;
    // A field goes with the comma behind it; the last one with the comma before it.
    if (isLast) rest = rest.replace(/,[ \t\r\n]*$/, '');
    copiedTo = isLast ? end : next + 1;
  }
  return rest + text.slice(copiedTo);
}

/** All at once. */
export function scanJson(text: string, options?: ScanOptions): JsonScan {
  return new JsonWalk(text, options).go() as JsonScan;
}

export class JsonWalk {
  readonly #text: string;
  readonly #levelsMax: number;
  readonly #names: ReadonlySet<string>;
  readonly #fields: JsonField[] = [];
  /** What is open, outermost first. */
  readonly #open: number[] = [];
  #at: number;
  /** A value has just ended, or one begins. */
  #isEnded = false;
  #isObject = false;
  /** The wanted field whose value is being walked. */
  #field: { readonly name: string; readonly nameStart: number; readonly start: number } | undefined;

  constructor(text: string, { levelsMax = Number.POSITIVE_INFINITY, names = NO_NAMES }: ScanOptions = {}) {
    this.#text = text;
    this.#levelsMax = levelsMax;
    this.#names = names;
    this.#at = skipBlanks(text, 0);
  }

  /** What was found; undefined when it went about that many characters without coming to an end. */
  go(charactersMax = Number.POSITIVE_INFINITY): JsonScan | undefined {
    const text = this.#text;
    const open = this.#open;
    const until = this.#at + charactersMax;
    while (this.#at < until) {
      const wrong = this.#isEnded ? this.#goOn(text, open) : this.#takeValue(text, open);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  }

  /** A value begins here. */
  #takeValue(text: string, open: number[]): JsonScan | undefined {
    const code = text.charCodeAt(this.#at);
    if (code !== 0x7b && code !== 0x5b) {
      const end = skipScalar(text, this.#at);
      if (end < 0) return this.#fault(~end);
      this.#at = end;
      this.#isEnded = true;
      return undefined;
    }
    if (open.length >= this.#levelsMax) return { isJson: 'too_deep' };
    const kind = code === 0x7b ? OBJECT : LIST;
    if (open.length === 0) this.#isObject = kind === OBJECT;
    open.push(kind);
    this.#at = skipBlanks(text, this.#at + 1);
    if (text.charCodeAt(this.#at) === (kind === OBJECT ? 0x7d : 0x5d)) {
      open.pop();
      this.#at += 1;
      this.#isEnded = true;
      return undefined;
    }
    return kind === OBJECT ? this.#takeName(text) : undefined;
  }

  /** A value has ended before here: what follows it, or the end of what it stands in. */
  #goOn(text: string, open: number[]): JsonScan | undefined {
    if (this.#field !== undefined && open.length === 1) {
      this.#fields.push({ ...this.#field, end: this.#at });
      this.#field = undefined;
    }
    const at = skipBlanks(text, this.#at);
    this.#at = at;
    if (open.length === 0) {
      return at === text.length
        ? { isJson: true, isObject: this.#isObject, fields: this.#fields }
        : this.#fault(at);
    }
    const kind = open[open.length - 1];
    const code = text.charCodeAt(at);
    if (code === 0x2c) {
      this.#at = skipBlanks(text, at + 1);
      this.#isEnded = false;
      return kind === OBJECT ? this.#takeName(text) : undefined;
    }
    if (code !== (kind === OBJECT ? 0x7d : 0x5d)) return this.#fault(at);
    open.pop();
    this.#at = at + 1;
    return undefined;
  }

  /** A name and its colon. */
  #takeName(text: string): JsonScan | undefined {
    const start = this.#at;
    if (text.charCodeAt(start) !== QUOTE) return this.#fault(start);
    const end = skipString(text, start);
    if (end < 0) return this.#fault(~end);
    const colon = skipBlanks(text, end);
    if (text.charCodeAt(colon) !== 0x3a) return this.#fault(colon);
    this.#at = skipBlanks(text, colon + 1);
    if (this.#open.length === 1 && this.#names.size > 0) {
      const raw = text.slice(start + 1, end - 1);
      const name = raw.includes('\\') ? (JSON.parse(text.slice(start, end)) as string) : raw;
      if (this.#names.has(name)) this.#field = { name, nameStart: start, start: this.#at };
    }
    return undefined;
  }

  #fault(position: number): JsonScan {
    return { isJson: false, position: Math.min(position, this.#text.length) };
  }
}

function skipBlanks(text: string, start: number): number {
  let at = start;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return at;
    at += 1;
  }
}

/** Where a text, number or word ends that begins here, or the complement of where it does not fit. */
function skipScalar(text: string, start: number): number {
  const code = text.charCodeAt(start);
  if (code === QUOTE) return skipString(text, start);
  if (code === 0x2d || isDigit(code)) return skipNumber(text, start);
  const word = code === 0x74 ? 'true' : code === 0x66 ? 'false' : code === 0x6e ? 'null' : '';
  for (let index = 0; index < word.length; index += 1) {
    if (text.charCodeAt(start + index) !== word.charCodeAt(index)) return ~(start + index);
  }
  return word === '' ? ~start : start + word.length;
}

function skipString(text: string, start: number): number {
  for (let at = start + 1; ; ) {
    PLAIN_CHARACTERS.lastIndex = at;
    PLAIN_CHARACTERS.test(text);
    at = PLAIN_CHARACTERS.lastIndex;
    const code = text.charCodeAt(at);
    if (code === QUOTE) return at + 1;
    // A control character, or the end of the text.
    if (code !== BACKSLASH) return ~at;
    const escaped = text.charCodeAt(at + 1);
    if (escaped === 0x75) {
      for (let index = 2; index < 6; index += 1) {
        if (!isHexDigit(text.charCodeAt(at + index))) return ~(at + index);
      }
      at += 6;
    } else if (isEscape(escaped)) {
      at += 2;
    } else {
      return ~(at + 1);
    }
  }
}

function skipNumber(text: string, start: number): number {
  let at = text.charCodeAt(start) === 0x2d ? start + 1 : start;
  if (!isDigit(text.charCodeAt(at))) return ~at;
  at = text.charCodeAt(at) === 0x30 ? at + 1 : skipDigits(text, at);
  if (text.charCodeAt(at) === 0x2e) {
    if (!isDigit(text.charCodeAt(at + 1))) return ~(at + 1);
    at = skipDigits(text, at + 1);
  }
  const exponent = text.charCodeAt(at);
  if (exponent === 0x65 || exponent === 0x45) {
    at += 1;
    const sign = text.charCodeAt(at);
    if (sign === 0x2b || sign === 0x2d) at += 1;
    if (!isDigit(text.charCodeAt(at))) return ~at;
    at = skipDigits(text, at);
  }
  return at;
}

function skipDigits(text: string, start: number): number {
  let at = start;
  while (isDigit(text.charCodeAt(at))) at += 1;
  return at;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

function isHexDigit(code: number): boolean {
  return isDigit(code) || (code >= 0x41 && code <= 0x46) || (code >= 0x61 && code <= 0x66);
}

/** What may stand after a backslash, but for `u`: `"`, `\`, `/`, `b`, `f`, `n`, `r`, `t`. */
function isEscape(code: number): boolean {
  switch (code) {
    case 0x22:
    case 0x5c:
    case 0x2f:
    case 0x62:
    case 0x66:
    case 0x6e:
    case 0x72:
    case 0x74:
      return true;
    default:
      return false;
  }
}
