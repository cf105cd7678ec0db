/** The head of an answer in HTTP/1.1: what its text says (RFC 9112, sections 4 to 6 and 9.3). Pure. */
import type { Answer } from '../model/outcome.ts';

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
  /** Whether the connection may carry another request when the answer is whole. */
  readonly keepsAlive: boolean;
  /** How long the callee promises to keep it, when it says so. */
  readonly keepAliveMs: number | undefined;
};

/** What a callee sends is not HTTP/1.1; its message says where. */
export class ProtocolError extends Error {}

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: [^\0\r\n]*)?$/;
const HEADER_NAME = /^[!#$%&'*+.^_`|~\w-]+$/;
const NOT_IN_A_VALUE = /[\0-\x08\n-\x1f\x7f]/;

/**
 * @param text without the empty line at its end; bytes above ASCII read as UTF-8
 * @throws ProtocolError
 */
export function parseAnswerHead(text: string): AnswerHead {
  // A value that goes on in the next line is one value (RFC 9112, 5.2).
  const lines = text.replace(/\r\n[ \t]+/g, ' ').split('\r\n');
  const [, minor, digits] = STATUS_LINE.exec(lines[0] ?? '') ?? [];
  if (digits === undefined) throw new ProtocolError(`no status line: ${quote(lines[0] ?? '')}`);
  const status = Number(digits);
  const headers = readHeaders(lines.slice(1));
  const framing = framingOf(status, headers);
  return {
    answer: { status, headers, bodyStart: '' },
    framing,
    keepsAlive: framing.kind !== 'until_close' && keepsAlive(minor === '1', headers),
    keepAliveMs: keepAliveMs(headers),
  };
}

function readHeaders(lines: readonly string[]): Answer['headers'] {
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(colon, 0)).toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (!HEADER_NAME.test(name) || NOT_IN_A_VALUE.test(value))
      throw new ProtocolError(`no header: ${quote(line)}`);
    const before = headers.get(name);
    headers.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return Object.fromEntries(headers);
}

function framingOf(status: number, headers: Answer['headers']): Framing {
  if (status < 200 || status === 204 || status === 304) return { kind: 'none' };
  const coding = headers['transfer-encoding'];
  const length = headers['content-length'];
  if (coding !== undefined) {
    // Who says both may be read in two ways, and that has been used for attacks (RFC 9112, 6.3).
    if (length !== undefined) throw new ProtocolError('both a content-length and a transfer-encoding');
    return { kind: listed(coding).at(-1) === 'chunked' ? 'chunked' : 'until_close' };
  }
  if (length === undefined) return { kind: 'until_close' };
  const lengths = new Set(listed(length));
  const [bytes = ''] = lengths;
  if (lengths.size !== 1 || !/^\d{1,15}$/.test(bytes))
    throw new ProtocolError(`no length: content-length: ${quote(length)}`);
  return Number(bytes) === 0 ? { kind: 'none' } : { kind: 'length', bytes: Number(bytes) };
}

function keepsAlive(isHttp11: boolean, headers: Answer['headers']): boolean {
  const options = listed(headers.connection ?? '');
  return isHttp11 ? !options.includes('close') : options.includes('keep-alive');
}

function keepAliveMs(headers: Answer['headers']): number | undefined {
  const [, seconds] = /(?:^|[,\s])timeout=(\d{1,9})/i.exec(headers['keep-alive'] ?? '') ?? [];
  return seconds === undefined ? undefined : Number(seconds) * 1_000;
}

function listed(value: string): string[] {
  return value
    .toLowerCase()
    .split(',')
    .map((one) => one.trim());
}

export function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
