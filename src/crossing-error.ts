/**
 * Errors between threads. What the structured clone keeps of an error is its message and stack: a code by which somebody
 * acts, and the chain of causes, would be lost on the way.
 */
import { AppError, type ErrorCode } from './model/app-error.ts';
import type { Problem } from './model/problem.ts';

/** Plain data. */
export type CrossedError = {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  /** Of an AppError, of the system or of the database. */
  readonly code?: string;
  readonly cause?: CrossedError;
  /** Present when it was an AppError. */
  readonly app?: {
    readonly code: ErrorCode;
    readonly problems: readonly Problem[];
    readonly retryAfterSeconds?: number;
  };
};

/** Longer chains are circles. */
const CAUSES_MAX = 10;

export function toCrossed(error: unknown, causesLeft = CAUSES_MAX): CrossedError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const { name, message, stack, cause } = error;
  const code = (error as { code?: unknown }).code;
  return {
    name,
    message,
    ...(stack !== undefined && { stack }),
    ...(typeof code === 'string' && { code }),
    ...(cause !== undefined && causesLeft > 0 && { cause: toCrossed(cause, causesLeft - 1) }),
    ...(error instanceof AppError && {
      app: {
        code: error.code,
        problems: error.problems,
        ...(error.retryAfterSeconds !== undefined && { retryAfterSeconds: error.retryAfterSeconds }),
      },
    }),
  };
}

/** An error that says and holds the same, with the stack of where it happened. */
export function fromCrossed({ name, message, stack, code, cause, app }: CrossedError): Error {
  const options = cause === undefined ? {} : { cause: fromCrossed(cause) };
  const error =
    app === undefined
      ? Object.assign(new Error(message, options), { name }, code === undefined ? {} : { code })
      : new AppError(app.code, message, { ...app, ...options });
  if (stack !== undefined) error.stack = stack;
  return error;
}
