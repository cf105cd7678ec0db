/**
 * Why a call failed: errors of sockets, TLS and HTTP, said in the words of the contract (section 2.3). Pure, but for one
 * look at the machine's addresses.
 */
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { FailureReason } from '../model/outcome.ts';
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
  return {
    reason: 'tls',
    detail: code === undefined || message.includes(code) ? message : `${message} (${code})`,
  };
}

/** Whether a connection that carried a request was ended by its other side, and nothing else went wrong. */
export function isEnd(error: Error | undefined): boolean {
  const { code = '' } = (error ?? {}) as Partial<CodedError>;
  return error === undefined || code === 'ECONNRESET' || code === 'EPIPE';
}

/** The end of a connection that carried a request; without an error the callee closed it. */
export function describeExchangeError(error: Error | undefined, isAnswerBegun: boolean): Failure {
  const { code = '', message = '' } = (error ?? {}) as Partial<CodedError>;
  const shortage = error && !isAnswerBegun ? shortageOf(error) : undefined;
  if (shortage !== undefined) return { reason: 'local', detail: `${shortage}: ${message}` };
  if (error instanceof ProtocolError)
    return { reason: 'protocol', detail: `The answer is not HTTP/1.1: ${message}` };
  if (code.startsWith('ERR_SSL_')) return { reason: 'tls', detail: message };
  if (code === 'ETIMEDOUT') return { reason: 'timeout_response', detail: message };
  const closed = isAnswerBegun
    ? 'The callee closed the connection before its answer was whole'
    : 'The callee closed the connection without an answer';
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
