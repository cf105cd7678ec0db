/** The log: JSON lines, one wide line per unit of work. Secrets never reach it: callers hand in no headers or bodies. */
import { type Logger, pino, type SerializedError, stdSerializers } from 'pino';
import { maskCredentials } from '../model/credentials.ts';

export type Log = Pick<Logger, 'debug' | 'info' | 'warn' | 'error' | 'fatal'>;
export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Writes to standard error: standard output is for what a command answers. */
export function createLog(level: LogLevel): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: writeError },
  };
  return pino(options, pino.destination({ fd: 2, sync: true }));
}

/** The system and the drivers put what they were given into their messages, URLs with passwords included. */
function writeError(error: unknown): unknown {
  if (error instanceof Error) return masked(stdSerializers.err(error));
  return typeof error === 'string' ? maskCredentials(error) : error;
}

function masked(error: SerializedError): SerializedError {
  const { message, stack, aggregateErrors } = error;
  return {
    ...error,
    message: maskCredentials(String(message)),
    stack: maskCredentials(String(stack)),
    ...(aggregateErrors === undefined ? {} : { aggregateErrors: aggregateErrors.map(masked) }),
  };
}
