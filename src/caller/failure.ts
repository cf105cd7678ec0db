/**
 * Why a call failed: errors of sockets, TLS and HTTP, said in the words of the contract (section 2.3), each with what helps
 * where somebody can do something. Never in the words of OpenSSL or of Node.js's flags. Pure, but for one look at the machine's
 * addresses.
 */
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Answer, FailureReason } from '../model/outcome.ts';
import { ProtocolError } from './answer-head.ts';

export type Failure = { readonly reason: FailureReason; readonly detail: string };

/** Carries a failure that is already understood through what passes on errors only. */
export class CallFailure extends Error {
  readonly reason: FailureReason;

  constructor({ reason, detail }: Failure) {
    super(detail);
    this.reason = reason;
  }
}

type CodedError = Error & {
  readonly code?: string;
  /** That was to be connected to. */
  readonly address?: string;
  readonly errors?: readonly CodedError[];
};

/**
 * What this machine or process is short of, by the code of a system's error; undefined: nothing, as far as the code says.
 * An address that cannot be had is a port that cannot be had, but for IPv6 on a machine without an IPv6 address to call from.
 */
export function shortageOf(error: Error, hasIpv6: () => boolean = hasIpv6Address): string | undefined {
  const { code = '', address = '', message } = error as CodedError;
  if (code === 'EADDRNOTAVAIL') {
    return isIP(address) === 6 && !hasIpv6() ? undefined : 'This machine has no local port left to call from';
  }
  if (/malloc failure|allocation failed/i.test(message)) return NO_MEMORY;
  return SHORTAGES.get(code);
}

const NO_MEMORY = 'This machine has no memory left for the call';
const SHORTAGES: ReadonlyMap<string, string> = new Map([
  ['EMFILE', 'This process has no file descriptor left'],
  ['ENFILE', 'This machine has no file descriptor left'],
  ['ENOMEM', NO_MEMORY],
  ['EAI_MEMORY', NO_MEMORY],
  ['ERR_MEMORY_ALLOCATION_FAILED', NO_MEMORY],
  ['ENOBUFS', 'This machine has no room left for network traffic'],
]);

/** Whether the machine has an IPv6 address beyond itself and its links. */
function hasIpv6Address(): boolean {
  try {
    return Object.values(networkInterfaces()).some((addresses) =>
      addresses?.some(
        ({ family, internal, address }) => family === 'IPv6' && !internal && !address.startsWith('fe80:'),
      ),
    );
  } catch {
    // To look, the system needs what there is too little of.
    return true;
  }
}

/** An error before the connection stood. */
export function describeConnectError(error: Error): Failure {
  if (error instanceof CallFailure) return { reason: error.reason, detail: error.message };
  // When a name has several addresses, each that was tried has an error.
  const attempts = (error as CodedError).errors ?? [error as CodedError];
  const codes = attempts.map(({ code = '' }) => code);
  const detail = attempts.map(({ message }) => message).join('; ') || error.message;
  // One that could not be tried might have been the one that works.
  const [shortage] = attempts.map((attempt) => shortageOf(attempt)).filter((one) => one !== undefined);
  if (shortage !== undefined) return { reason: 'local', detail: `${shortage}: ${detail}` };
  if (codes.some((code) => UNREACHABLE.has(code))) return { reason: 'refused', detail };
  if (codes.includes('ETIMEDOUT')) return { reason: 'timeout_connect', detail };
  return { reason: codes.includes('ECONNRESET') ? 'reset' : 'refused', detail };
}

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'EACCES',
  'EPERM',
]);

/** An error while TLS was being agreed on. A callee that hangs up on our greeting has not agreed. */
export function describeTlsError(error: Error): Failure {
  const { code, message } = error as CodedError;
  const shortage = shortageOf(error);
  if (shortage !== undefined) return { reason: 'local', detail: `${shortage}: ${message}` };
  if (code === 'ECONNRESET')
    return { reason: 'tls', detail: 'The connection was closed during the TLS handshake' };
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return { reason: 'tls', detail: describeOtherName(error) };
  const known = code === undefined ? undefined : TLS_TEXTS.get(code);
  return { reason: 'tls', detail: `${known ?? unknownTlsText(error, message)}${code ? ` (${code})` : ''}` };
}

const ADD_AUTHORITY =
  'Name a file with the certificate of its authority in ORDERHOOK_EXTRA_CA_FILE, and start the service again';
const SPEAKS_NO_TLS =
  'What answers on this port speaks no TLS: write http:// in the URL, or the port that speaks TLS';
const NO_COMMON_TLS = 'The callee and this service have no version of TLS in common: it needs 1.2 or newer';
const WANTS_OUR_CERTIFICATE =
  'The callee asks for a certificate of its client, and calls have none: let it accept calls without';
/** By the code that OpenSSL or Node.js gives the error. */
const TLS_TEXTS: ReadonlyMap<string, string> = new Map([
  [
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'The certificate is self-signed. Name a file with it in ORDERHOOK_EXTRA_CA_FILE, and start the service again',
  ],
  [
    'SELF_SIGNED_CERT_IN_CHAIN',
    `The certificate was issued by an authority that is not trusted. ${ADD_AUTHORITY}`,
  ],
  [
    'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    'The certificate was issued by an authority that is not known, or the callee does not send the certificates between. ' +
      ADD_AUTHORITY,
  ],
  ['UNABLE_TO_GET_ISSUER_CERT', `The authority of the certificate is not known. ${ADD_AUTHORITY}`],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', `The authority of the certificate is not known. ${ADD_AUTHORITY}`],
  ['CERT_UNTRUSTED', `The authority of the certificate is not trusted. ${ADD_AUTHORITY}`],
  [
    'CERT_SIGNATURE_FAILURE',
    `The certificate is not signed by the authority that it names. ${ADD_AUTHORITY}`,
  ],
  ['CERT_HAS_EXPIRED', 'The certificate has expired: the callee needs a new one'],
  [
    'CERT_NOT_YET_VALID',
    'The certificate is not valid yet: check the clocks of the callee and of this machine',
  ],
  ['CERT_REVOKED', 'The certificate was revoked: the callee needs a new one'],
  ['ERR_SSL_WRONG_VERSION_NUMBER', SPEAKS_NO_TLS],
  ['ERR_SSL_PACKET_LENGTH_TOO_LONG', SPEAKS_NO_TLS],
  ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', NO_COMMON_TLS],
  ['ERR_SSL_UNSUPPORTED_PROTOCOL', NO_COMMON_TLS],
  ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', WANTS_OUR_CERTIFICATE],
  [
    'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE',
    'The callee refused the TLS handshake: it wants a certificate of its client, which calls do not have, or a cipher ' +
      'that is too weak for this service',
  ],
  [
    'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
    'The callee does not speak HTTP/1.1 over TLS, which calls are made in',
  ],
  [
    'ERR_SSL_TLSV1_UNRECOGNIZED_NAME',
    'The callee has no certificate for the host in the URL: check the host, or the name that the callee is set up for',
  ],
]);

/** OpenSSL's texts hold addresses of memory and lines of its source; its reason is in plain words. */
function unknownTlsText(error: Error, message: string): string {
  const { reason } = error as { reason?: unknown };
  const isRaw = message.includes(':error:');
  return `TLS failed: ${typeof reason === 'string' ? reason : isRaw ? 'no reason was given' : message}`;
}

const NAMES_CHARACTERS_MAX = 200;

function describeOtherName(error: Error): string {
  const { host, cert } = error as { host?: string; cert?: { subjectaltname?: string } };
  const names = cert?.subjectaltname ?? 'no name';
  const told = names.length > NAMES_CHARACTERS_MAX ? `${names.slice(0, NAMES_CHARACTERS_MAX)}…` : names;
  return `The certificate is not for ${host ?? 'this host'} but for ${told}: check the host in the URL (ERR_TLS_CERT_ALTNAME_INVALID)`;
}

/** What a status says to whoever set the interface up; others speak for themselves. */
const STATUS_REMEDIES: ReadonlyMap<number, string> = new Map([
  [401, 'it asks for credentials, which calls do not carry: let it accept them without'],
  [403, 'it, or a firewall before it, lets this service not in: let it accept calls from here'],
  [404, 'there is nothing at this path: check the URL'],
  [405, 'it does not take this method: check the method of the interface'],
  [407, 'a proxy before it asks for credentials'],
  [410, 'what was at this path is gone: check the URL'],
  [411, 'it wants a length that the call has: something on the way takes it off'],
  [413, 'the payload is too large for it'],
  [414, 'the URL is too long for it'],
  [415, 'it does not take application/json, which a payload is'],
  [426, 'it wants another protocol than HTTP/1.1'],
  [429, 'there are too many calls for it: lower the concurrency or the batch size'],
  [500, 'it has a fault; its own log says more'],
  [502, 'a proxy before the callee cannot reach it'],
  [503, 'it cannot take calls at the moment'],
  [504, 'a proxy before the callee waited for it in vain'],
]);
/** How servers say that they were spoken to without TLS: nginx, Go, Apache. */
const WANTS_TLS =
  /HTTP request was sent to HTTPS port|HTTP request to an HTTPS server|speaking plain HTTP to an SSL/i;
const WRITE_HTTPS = 'it speaks TLS on this port: write https:// in the URL';
const LOCATION_CHARACTERS_MAX = 500;

/** An answer that is not 2xx. `url` is what was called. */
export function describeStatus({ status, headers, bodyStart }: Answer, url: string): string {
  const answered = `The callee answered ${status}`;
  const isRedirect = status > 300 && status < 400 && status !== 304;
  const remedy =
    isRedirect && headers.location !== undefined
      ? redirectRemedy(headers.location, url)
      : status === 400 && url.startsWith('http:') && WANTS_TLS.test(bodyStart)
        ? WRITE_HTTPS
        : STATUS_REMEDIES.get(status);
  return remedy === undefined ? answered : `${answered}: ${remedy}`;
}

/** Where a redirect leads, if that can stand in an interface's URL; it may be relative (RFC 9110, 10.2.2). */
function redirectRemedy(location: string, url: string): string {
  const target = URL.parse(location, url);
  const isCallable = target?.protocol === 'http:' || target?.protocol === 'https:';
  if (!isCallable || target.href.length > LOCATION_CHARACTERS_MAX) {
    return 'redirects are not followed: put the URL where it wants the call into the URL of the interface';
  }
  target.username = '';
  target.password = '';
  target.hash = '';
  return `redirects are not followed: put ${target.href} into the URL, with \${orderId} in place of the id`;
}

/** Whether a connection that carried a request was ended by its other side, and nothing else went wrong. */
export function isEnd(error: Error | undefined): boolean {
  const { code = '' } = (error ?? {}) as Partial<CodedError>;
  return error === undefined || code === 'ECONNRESET' || code === 'EPIPE';
}

/** The first bytes of a TLS alert (RFC 8446, 5.1), as a ProtocolError shows them: plain HTTP was sent to a port of TLS. */
const IS_TLS_ALERT = /^no status line: "\\u0015\\u0003/;
/** The usual port of HTTPS, and those that are called like it: 443, 8443, 9443 … */
const IS_PLAIN_TO_TLS_PORT = /^http:\/\/[^/?#]*:\d*443(?=[/?#]|$)/;

/** The end of a connection that carried a request to `url`; without an error the callee closed it. */
export function describeExchangeError(
  error: Error | undefined,
  isAnswerBegun: boolean,
  url: string,
): Failure {
  const { code = '', message = '' } = (error ?? {}) as Partial<CodedError>;
  const shortage = error && !isAnswerBegun ? shortageOf(error) : undefined;
  if (shortage !== undefined) return { reason: 'local', detail: `${shortage}: ${message}` };
  if (error instanceof ProtocolError) {
    const because = IS_TLS_ALERT.test(message) ? WRITE_HTTPS : message;
    return { reason: 'protocol', detail: `The answer is not HTTP/1.1: ${because}` };
  }
  if (error && (code.startsWith('ERR_SSL_') || message.includes(':error:'))) return describeTlsError(error);
  if (code === 'ETIMEDOUT') return { reason: 'timeout_response', detail: message };
  const closed = isAnswerBegun
    ? 'The callee closed the connection before its answer was whole'
    : `The callee closed the connection without an answer${IS_PLAIN_TO_TLS_PORT.test(url) ? `; perhaps ${WRITE_HTTPS}` : ''}`;
  return { reason: 'reset', detail: error === undefined ? closed : `${closed} (${message})` };
}

/**
 * An answer that the egress proxy gave instead of the callee. Squid marks the ones it made with `X-Squid-Error`, and tells
 * its own refusals from what happened between it and the callee. What it does not blame on the callee is its own.
 */
export function describeProxyAnswer(status: number, squidError: string | undefined): Failure {
  const name = squidError?.split(' ')[0] ?? '';
  const detail = `The egress proxy answered ${status}${name === '' ? '' : ` (${name})`}`;
  return { reason: SQUID_BLAMES_CALLEE.get(name) ?? 'proxy', detail };
}

const SQUID_BLAMES_CALLEE: ReadonlyMap<string, FailureReason> = new Map([
  ['ERR_CONNECT_FAIL', 'refused'],
  ['ERR_DNS_FAIL', 'dns'],
  ['ERR_READ_TIMEOUT', 'timeout_response'],
  ['ERR_LIFETIME_EXP', 'timeout_response'],
  ['ERR_READ_ERROR', 'reset'],
  ['ERR_WRITE_ERROR', 'reset'],
  ['ERR_ZERO_SIZE_OBJECT', 'reset'],
  ['ERR_SECURE_CONNECT_FAIL', 'tls'],
  ['ERR_INVALID_RESP', 'protocol'],
]);

/**
 * Whether a plain http answer that came through the egress proxy was made by the proxy. 407 is a proxy's alone (RFC 9110,
 * 15.5.8). `X-Squid-Error` of a second squid, on the callee's side, comes with two hops in `Via` and is the callee's.
 * Other proxies do not mark their answers: these are taken for the callee's, reason `status`. No refusal is 2xx.
 */
export function isProxyAnswer(status: number, headers: Readonly<Record<string, string>>): boolean {
  if (status < 300) return false;
  if (status === 407) return true;
  return headers['x-squid-error'] !== undefined && !(headers.via ?? '').includes(',');
}
