/** Errors of the server and the driver, in the words of the contract. */
import { DatabaseError } from 'pg';
import { AppError } from '../../model/app-error.ts';

const RETRY_AFTER_SECONDS = 2;

/** Classes of SQLSTATE that pass: connection, resources, operator intervention, system. */
const PASSING_CLASSES = new Set(['08', '53', '57', '58']);
/** Single ones: a standby, a wait that was cut short, rights or a database that somebody is changing right now. */
const PASSING_CODES = new Set(['25006', '25P03', '55P03', '40001', '40P01', '28000', '28P01', '3D000']);
/** The connection must not be used again, whatever the server thinks of it. */
const BREAKING_CODES = new Set(['25006', '25P03', '26000', '0A000']);

const SOCKET_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ENOENT',
  'EADDRNOTAVAIL',
]);
/** The driver gives these no code. */
const DRIVER_MESSAGES =
  /^(Connection terminated|Connection ended|Query read timeout|timeout e(xceeded|xpired)|Client (has encountered|was closed)|Cannot use a pool)/;

export function sqlState(error: unknown): string | undefined {
  return error instanceof DatabaseError ? error.code : undefined;
}

/** The statement did not come to an answer: the connection is gone, or may answer at any later time. */
export function isConnectionTrouble(error: unknown): boolean {
  if (error instanceof DatabaseError) {
    return error.severity === 'FATAL' || error.severity === 'PANIC' || error.code?.startsWith('08') === true;
  }
  if (!(error instanceof Error)) return false;
  if (error instanceof AggregateError) return error.errors.some(isConnectionTrouble);
  const code = (error as NodeJS.ErrnoException).code;
  return (code !== undefined && SOCKET_CODES.has(code)) || DRIVER_MESSAGES.test(error.message);
}

/** A wrong user, password or database: it does not pass by itself. */
export function needsPerson(error: unknown): boolean {
  return /^(28|3D)/.test(sqlState(error) ?? '');
}

/** Waited for in vain: doing it again would only double the wait. */
export function isTimeout(error: unknown): boolean {
  return error instanceof Error && /timeout/i.test(error.message);
}

export function breaksConnection(error: unknown): boolean {
  return (
    !(error instanceof DatabaseError) || isConnectionTrouble(error) || BREAKING_CODES.has(error.code ?? '')
  );
}

/** Nothing of it was done, and doing it again may well work. */
export function isWorthRepeating(error: unknown): boolean {
  // 0A000, 26000: a prepared statement that a migration or a connection pooler has made useless.
  return ['40001', '40P01', '0A000', '26000'].includes(sqlState(error) ?? '');
}

/** It reached a server that takes no writes. */
export function isReadOnly(error: unknown): boolean {
  return sqlState(error) === '25006';
}

/** SQLite's sibling names this the same. */
export function isUniqueViolation(error: unknown): boolean {
  return sqlState(error) === '23505';
}

export function isPartitionMissing(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === '23514' && error.routine === 'ExecFindPartition';
}

export function translate(error: unknown): unknown {
  if (error instanceof AppError) return error;
  const code = sqlState(error) ?? '';
  if (isConnectionTrouble(error) || PASSING_CLASSES.has(code.slice(0, 2)) || PASSING_CODES.has(code)) {
    return unavailable('The database cannot be used right now.', error);
  }
  if (code === '22021') {
    const message = 'A text holds the character U+0000, which the database cannot keep.';
    return new AppError('invalid_value', message, {
      problems: [{ path: '', code: 'character_refused', message }],
      cause: error,
    });
  }
  return error;
}

export function unavailable(message: string, cause?: unknown): AppError {
  return new AppError('store_unavailable', message, { retryAfterSeconds: RETRY_AFTER_SECONDS, cause });
}
