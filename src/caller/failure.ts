/** Why a call failed: errors of sockets, TLS and HTTP, said in the words of the contract (section 2.3). Pure. */
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

type CodedError = Error & { readonly code?: string; readonly errors?: readonly CodedError[] };

/** An error before the connection stood. */
export function describeConnectError(error: Error): Failure {
  if (error instanceof CallFailure) return { reason: error.reason, detail: error.message };
  // When a name has several addresses, each that was tried has an error.
  const attempts = (error as CodedError).errors ?? [error as CodedError];
  const codes = attempts.map(({ code = '' }) => code);
  const detail = attempts.map(({ message }) => message).join('; ') || error.message;
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
  return { reason: SQUID_BLAMES_CALLEE[name] ?? 'proxy', detail };
}

const SQUID_BLAMES_CALLEE: Readonly<Record<string, FailureReason>> = {
  ERR_CONNECT_FAIL: 'refused',
  ERR_DNS_FAIL: 'dns',
  ERR_READ_TIMEOUT: 'timeout_response',
  ERR_LIFETIME_EXP: 'timeout_response',
  ERR_READ_ERROR: 'reset',
  ERR_WRITE_ERROR: 'reset',
  ERR_ZERO_SIZE_OBJECT: 'reset',
  ERR_SECURE_CONNECT_FAIL: 'tls',
  ERR_INVALID_RESP: 'protocol',
};

/**
 * Whether a plain http answer that came through the egress proxy was made by the proxy. 407 is a proxy's alone (RFC 9110,
 * 15.5.8). `X-Squid-Error` of a second squid, on the callee's side, comes with two hops in `Via` and is the callee's.
 * Other proxies do not mark their answers: these are taken for the callee's, reason `status`.
 */
export function isProxyAnswer(status: number, headers: Readonly<Record<string, string>>): boolean {
  if (status === 407) return true;
  return headers['x-squid-error'] !== undefined && !(headers.via ?? '').includes(',');
}
