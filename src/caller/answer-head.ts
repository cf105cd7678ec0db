/** The head of an answer in HTTP/1.1: what its text means (RFC 9112, sections 4 to 6 and 9.3). Pure. */
import type { Answer } from '../model/outcome.ts';
import { CARRIAGE_RETURN, isBlank, SPACE } from './ascii.ts';

/** How the body ends. */
export type Framing =
  | { readonly kind: 'none' }
  /** `bytes` ≥ 1 */
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'until_close' };

export type AnswerHead = {
  /** Without a body: answers that have none share it. Its status is 100 … 999. */
  readonly answer: Answer;
  readonly framing: Framing;
  /** Whether the connection may carry another request when the answer is whole. False for a head that is odd in any way. */
  readonly keepsAlive: boolean;
  /** How long the callee promises to keep it, when it says so. */
  readonly keepAliveMs: number | undefined;
};

/** What a callee sends is not HTTP/1.1; its message says where. */
export class ProtocolError extends Error {}

const STATUS_LINE = /^HTTP\/1\.(\d)[ \t]+(\d{3})/;
/** Digits that can be counted with, leading zeros aside. */
const LENGTH = /^0*(\d{1,15})$/;
/** A length in its usual form: any other is taken, and is odd. */
const PLAIN_LENGTH = /^(?:0|[1-9]\d*)$/;
const TIMEOUT = /(?:^|[, \t])timeout=(\d{1,9})/i;

/**
 * @param text as `HeadScanner` let it pass, from the status line to the empty line; bytes above ASCII read as UTF-8
 * @param isOdd whether the scanner found it odd
 * @throws ProtocolError for a length that is none, and for a coding that cannot be undone
 */
export function parseAnswerHead(text: string, isOdd: boolean): AnswerHead {
  const [, minor = '', digits = ''] = STATUS_LINE.exec(text) ?? [];
  const status = Number(digits);
  const { headers, hasOddBlanks } = readFields(text, text.indexOf('\n') + 1);
  const framing = framingOf(status, headers);
  // A later minor version is read as the latest that we know (RFC 9110, 2.5).
  const isPlain = !isOdd && !hasOddBlanks && minor <= '1' && isPlainlyFramed(framing, headers);
  return {
    answer: { status, headers, bodyStart: '' },
    framing,
    keepsAlive: isPlain && keepsAlive(minor, framing, headers),
    keepAliveMs: keepAliveMs(headers),
  };
}

/** Reads the fields from `from` on. Blanks are odd around a value, but for one space before it, which nearly all send. */
function readFields(text: string, from: number): { headers: Answer['headers']; hasOddBlanks: boolean } {
  // Names come from outside: nothing is found under one that did not come.
  const headers: Record<string, string> = Object.create(null);
  let hasOddBlanks = false;
  let name = '';
  let value = '';
  const keep = () => {
    if (name === '') return;
    const before = headers[name];
    headers[name] = before === undefined ? value : `${before}, ${value}`;
  };
  for (let at = from; ; ) {
    const lineFeed = text.indexOf('\n', at);
    const end = text.charCodeAt(lineFeed - 1) === CARRIAGE_RETURN ? lineFeed - 1 : lineFeed;
    if (end <= at) break;
    if (isBlank(text.charCodeAt(at))) {
      // A value that goes on in the next line is one value (RFC 9112, 5.2).
      const more = withoutBlanks(text, at, end);
      value = value === '' || more === '' ? value + more : `${value} ${more}`;
    } else {
      keep();
      const colon = text.indexOf(':', at);
      const start = text.charCodeAt(colon + 1) === SPACE ? colon + 2 : colon + 1;
      name = withoutBlanks(text, at, colon).toLowerCase();
      value = withoutBlanks(text, start, end);
      hasOddBlanks ||= value.length !== end - start;
    }
    at = lineFeed + 1;
  }
  keep();
  return { headers, hasOddBlanks };
}

/** RFC 9112, section 6.3. */
function framingOf(status: number, headers: Answer['headers']): Framing {
  if (hasNoBody(status)) return { kind: 'none' };
  // What is both coded and measured is coded.
  const coding = codings(headers['transfer-encoding']).at(-1);
  if (coding !== undefined) {
    if (/^chunked[ \t]*;/.test(coding)) throw new ProtocolError('chunks with parameters, which nobody knows');
    return { kind: coding === 'chunked' ? 'chunked' : 'until_close' };
  }
  const length = headers['content-length'];
  if (length === undefined) return { kind: 'until_close' };
  const [digits, ...others] = listed(length).map((one) => LENGTH.exec(one)?.[1]);
  // Repeated it counts, as long as it is the same.
  if (digits === undefined || others.some((other) => other !== digits))
    throw new ProtocolError(`no length: content-length: ${quote(length)}`);
  return Number(digits) === 0 ? { kind: 'none' } : { kind: 'length', bytes: Number(digits) };
}

function hasNoBody(status: number): boolean {
  return status < 200 || status === 204 || status === 304;
}

/** In the order in which they were applied. `identity` is what older standards call no coding at all (RFC 2616, 3.6). */
function codings(transferEncoding: string | undefined): readonly string[] {
  return listed(transferEncoding).filter((coding) => coding !== '' && coding !== 'identity');
}

/**
 * Whether nobody could take the body to end elsewhere. A callee that announces a body where there can be none may send it
 * later, when the connection carries another call.
 */
function isPlainlyFramed({ kind }: Framing, headers: Answer['headers']): boolean {
  const coding = headers['transfer-encoding'];
  const length = headers['content-length'];
  if (kind === 'chunked') return /^chunked$/i.test(coding ?? '') && length === undefined;
  if (coding !== undefined) return false;
  return length === undefined || (PLAIN_LENGTH.test(length) && (kind === 'length' || length === '0'));
}

/** Whether both sides keep it (RFC 9112, 9.3). Chunks in HTTP/1.0 are no sign of it (6.1). */
function keepsAlive(minor: string, { kind }: Framing, headers: Answer['headers']): boolean {
  const options = listed(headers.connection);
  if (kind === 'until_close' || options.includes('close')) return false;
  return minor !== '0' || (kind !== 'chunked' && options.includes('keep-alive'));
}

function keepAliveMs(headers: Answer['headers']): number | undefined {
  const [, seconds] = TIMEOUT.exec(headers['keep-alive'] ?? '') ?? [];
  return seconds === undefined ? undefined : Number(seconds) * 1_000;
}

/** In lower case, but letters of ASCII only: the lower case of the Kelvin sign is a k, and HTTP knows nothing of that. */
function listed(value: string | undefined): readonly string[] {
  if (value === undefined) return [];
  return value
    .replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
    .split(',')
    .map((one) => withoutBlanks(one, 0, one.length));
}

function withoutBlanks(text: string, from: number, to: number): string {
  let start = from;
  let end = to;
  while (start < end && isBlank(text.charCodeAt(start))) start += 1;
  while (start < end && isBlank(text.charCodeAt(end - 1))) end -= 1;
  return text.slice(start, end);
}

/** For people: what came, as far as it is short. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
