/** What is written to a connection for one call (contract, section 2.2). Pure. */
import type { CallRequest } from '../model/outcome.ts';
import type { EgressProxy } from './egress-proxy.ts';

/**
 * The headers of a request, in the order in which they are sent: for preview, the call log, and the caller itself. There
 * are no others. A POST without a payload tells that its body is empty, without which some servers answer 411.
 */
export function headersSent(request: CallRequest, userAgent: string): Record<string, string> {
  const { method, body = '' } = request;
  return {
    Host: hostOf(request.url),
    'User-Agent': userAgent,
    Accept: '*/*',
    ...(body === '' ? {} : { 'Content-Type': 'application/json' }),
    ...(method === 'GET' ? {} : { 'Content-Length': String(Buffer.byteLength(body)) }),
  };
}

/** `http://host:port` of a serialised URL, which has no user info, no default port, and always a path. */
export function originOf(url: string): string {
  return url.slice(0, pathStart(url));
}

function hostOf(url: string): string {
  return url.slice(url.indexOf('//') + 2, pathStart(url));
}

function pathStart(url: string): number {
  return url.indexOf('/', 'https://'.length);
}

/** Why a request cannot be written; undefined: it can. Nothing in it may end its line. */
export function describeInvalid({ url }: CallRequest): string | undefined {
  return NOT_IN_A_URL.test(url) || pathStart(url) === -1
    ? `invalid request path or host, which is no serialised URL: ${JSON.stringify(url)}`
    : undefined;
}

const NOT_IN_A_URL = /[^\x21-\x7e]/;

/** Writes the requests to one origin. */
export class RequestWriter {
  readonly #targetStart: number;
  readonly #afterTarget: string;
  readonly #beforeLength: string;
  readonly #beforeLengthOfPayload: string;

  /**
   * `proxy`: where the request goes to a proxy rather than into a tunnel. It is told the whole URL (RFC 9112, 3.2.2), and who
   * asks; that header is between it and us (RFC 9110, 11.7.1), so neither preview nor call log knows it.
   */
  constructor(origin: string, userAgent: string, proxy: EgressProxy | undefined) {
    this.#targetStart = proxy === undefined ? origin.length : 0;
    const asWhom =
      proxy?.authorization === undefined ? '' : `Proxy-Authorization: ${proxy.authorization}\r\n`;
    const url = `${origin}/`;
    this.#afterTarget = ` HTTP/1.1\r\n${asWhom}${lines({ method: 'GET', url }, userAgent)}\r\n`;
    this.#beforeLength = ` HTTP/1.1\r\n${asWhom}${lines({ method: 'POST', url }, userAgent).slice(0, -'0\r\n'.length)}`;
    this.#beforeLengthOfPayload = ` HTTP/1.1\r\n${asWhom}${lines({ method: 'POST', url, body: '0' }, userAgent).slice(0, -'1\r\n'.length)}`;
  }

  /** Characters above ASCII are to be sent as UTF-8. */
  text({ method, url, body = '' }: CallRequest): string {
    const fragment = url.indexOf('#', this.#targetStart);
    const target = url.slice(this.#targetStart, fragment === -1 ? undefined : fragment);
    if (method === 'GET') return `GET ${target}${this.#afterTarget}`;
    const before = body === '' ? this.#beforeLength : this.#beforeLengthOfPayload;
    return `POST ${target}${before}${Buffer.byteLength(body)}\r\n\r\n${body}`;
  }
}

/** `Content-Length`, where there is one, is the last. */
function lines(request: CallRequest, userAgent: string): string {
  return Object.entries(headersSent(request, userAgent))
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
}
