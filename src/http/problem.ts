/**
 * The one place where errors meet HTTP: whatever is thrown becomes an RFC 9457 problem.
 *
 * Promises that a client sees a cause only when it is an `AppError`, and that it always sees the request id under which
 * the log has the rest. Never puts the message of a bug or of the database's driver into an answer.
 */
import { STATUS_CODES } from 'node:http';
import { AppError, ERROR_CODES, type ErrorCode } from '../model/app-error.ts';
import type { Problem } from '../model/problem.ts';

export const PROBLEM_TYPE = 'application/problem+json';

export const STATUS_OF: Readonly<Record<ErrorCode, number>> = {
  invalid_json: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  request_too_slow: 408,
  conflict: 409,
  precondition_failed: 412,
  body_too_large: 413,
  unsupported_media_type: 415,
  wrong_host: 421,
  invalid_value: 422,
  too_many_requests: 429,
  internal: 500,
  store_unavailable: 503,
};

/** RFC 9457, with the members of contract section 7. */
export type ProblemBody = {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly errors?: readonly Problem[];
  readonly requestId: string;
};

export type ProblemAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ProblemBody;
};

/** What the edge knows of the request whose handling threw. */
export type ErrorContext = {
  readonly requestId: string;
  /** The types that the body may be of, for the message about them. */
  readonly bodyTypes: readonly string[];
  /** Where a route answers a code with another status: the web service has 400 for every wrong value. */
  readonly statusOf?: Partial<Record<ErrorCode, number>> | undefined;
  /** Whether it came with a bearer token or key. */
  readonly hasToken?: boolean;
};

/** Seconds after which to try again when whoever refused did not say. */
const RETRY_AFTER_SECONDS_DEFAULT = 1;

export function problemAnswer(thrown: unknown, context: ErrorContext): ProblemAnswer {
  const { error, status: ownStatus } = asAppError(thrown, context);
  const status = ownStatus ?? context.statusOf?.[error.code] ?? STATUS_OF[error.code];
  const headers: Record<string, string> = {};
  // What is left of such a request is not read.
  if (status === 408 || status === 413) headers.connection = 'close';
  if (status === 401) headers['www-authenticate'] = challenge(context);
  if (error.code === 'too_many_requests' || status === 503) {
    headers['retry-after'] = String(error.retryAfterSeconds ?? RETRY_AFTER_SECONDS_DEFAULT);
  }
  return {
    status,
    headers,
    body: {
      type: `urn:orderhook:problem:${error.code}`,
      title: ERROR_CODES[error.code],
      status,
      code: error.code,
      detail: error.message,
      ...(error.problems.length > 0 ? { errors: error.problems } : {}),
      requestId: context.requestId,
    },
  };
}

/** RFC 6750, section 3: an error is told only of a token that was sent. */
function challenge({ hasToken = false }: ErrorContext): string {
  return `Bearer realm="Orderhook"${hasToken ? ', error="invalid_token"' : ''}`;
}

function asAppError(thrown: unknown, context: ErrorContext): { error: AppError; status?: number } {
  if (thrown instanceof AppError) return { error: thrown };
  const { code, statusCode } = (thrown ?? {}) as { code?: unknown; statusCode?: unknown };
  switch (code) {
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return {
        error: new AppError(
          'unsupported_media_type',
          context.bodyTypes.length > 0
            ? `Send the body with Content-Type: ${context.bodyTypes.join(' or ')}.`
            : 'This call takes no body.',
        ),
      };
    default:
      // What the HTTP framework itself refuses, such as a path with a broken escape or a body of another length than told.
      return typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500
        ? {
            error: new AppError('invalid_value', `The request cannot be read: ${(thrown as Error).message}.`),
            status: statusCode,
          }
        : { error: new AppError('internal', 'Something went wrong on our side; the log has the cause.') };
  }
}

/** For requests that are not even HTTP: a whole answer, to be written to the socket. */
export function unreadableRequestAnswer(status: 400 | 408 | 413 | 414 | 431, requestId: string): string {
  const body = JSON.stringify({
    type: 'urn:orderhook:problem:invalid_value',
    title: ERROR_CODES.invalid_value,
    status,
    code: 'invalid_value',
    detail: 'The request cannot be read as HTTP.',
    requestId,
  } satisfies ProblemBody);
  return [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `Content-Type: ${PROBLEM_TYPE}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}
