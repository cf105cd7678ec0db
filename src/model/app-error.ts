/**
 * The caller's mistakes and the world's troubles that a client can act on. Codes are one table; a code is added only if
 * a client would act on it. Bugs are not AppErrors: they are plain errors, which the edge answers with 500.
 */
import type { Problem } from './problem.ts';

export const ERROR_CODES = {
  invalid_json: 'The body is not JSON.',
  body_too_large: 'The body is larger than the limit.',
  wrong_host: 'The request is for a host that this service does not know as its own.',
  unsupported_media_type: 'The body has another content type than the call takes.',
  invalid_value: 'A value breaks a rule; `errors` lists every wrong field.',
  unauthenticated: 'No valid API key, session or token came with the request.',
  forbidden: 'The role of the caller does not allow this call.',
  not_found: 'What the path names does not exist, or belongs to another institution.',
  request_too_slow: 'The request did not come in time; send it again.',
  conflict: 'It exists already, or its state does not allow the change.',
  precondition_failed: 'It was changed since it was read; `If-Match` named another state of it.',
  too_many_requests: 'Too many calls; `Retry-After` says when to come back.',
  store_unavailable: 'The database cannot be used right now; nothing was changed. Try again.',
  internal: 'A bug of ours; the log has the cause under the request id.',
} as const;
export type ErrorCode = keyof typeof ERROR_CODES;

export class AppError extends Error {
  readonly code: ErrorCode;
  /** With `invalid_value` and `invalid_json`: what exactly is wrong. */
  readonly problems: readonly Problem[];
  /** With `too_many_requests` and `store_unavailable`: whole seconds to wait. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { problems?: readonly Problem[]; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.problems = options.problems ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** The database cannot be used right now, which passes: the only failure that is worth trying again without end. */
export function isStoreUnavailable(error: unknown): boolean {
  return error instanceof AppError && error.code === 'store_unavailable';
}

/** One error that lists all the problems; nothing when there are none. */
export function throwProblems(problems: readonly Problem[]): void {
  const [first, second] = problems;
  if (!first) return;
  throw new AppError('invalid_value', second ? `${problems.length} values are wrong.` : first.message, {
    problems,
  });
}

export function notFound(what: string): AppError {
  return new AppError('not_found', `There is no ${what}.`);
}

/** Something that whoever starts the process must change before it can run: a wrong setting, a folder in use. */
export class StartError extends Error {
  /** It may pass without anybody's doing, such as a server that is not up yet: waiting makes sense. */
  readonly mayPass: boolean;

  constructor(message: string, options: ErrorOptions & { readonly mayPass?: boolean } = {}) {
    super(message, options);
    this.name = 'StartError';
    this.mayPass = options.mayPass ?? false;
  }
}

/** An error that crossed from another thread is a plain one; if it was a `StartError`, it is one again. */
export function reviveStartError(error: unknown): unknown {
  if (error instanceof StartError || !(error instanceof Error) || error.name !== 'StartError') return error;
  return new StartError(error.message, { cause: error });
}
