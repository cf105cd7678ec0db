/**
 * Why a database cannot be opened, in one line for whoever starts a node (contract, section 8): what was tried, what the
 * system or the server said, what to do. Never the password, never a stack trace for what a person can mend.
 */
import { DatabaseError } from 'pg';
import { AppError, StartError } from '../../model/app-error.ts';
import { isConnectionTrouble } from './trouble.ts';

type Advice = {
  readonly doThis: string;
  /** It may pass by itself: the server is not up yet, or full. Where it is left out, `isConnectionTrouble` says so. */
  readonly mayPass?: boolean;
};

/** By the system's code or the SQLSTATE. */
const ADVICE: ReadonlyMap<string, Advice> = new Map([
  ['ENOTFOUND', { doThis: 'No such host is known: check its name.', mayPass: true }],
  ['EAI_AGAIN', { doThis: 'The name server does not answer: check the network.', mayPass: true }],
  [
    'ECONNREFUSED',
    { doThis: 'Nothing listens there: check that the server runs, and the port.', mayPass: true },
  ],
  ['ETIMEDOUT', { doThis: 'It does not answer: check address, network and firewall.', mayPass: true }],
  ['EHOSTUNREACH', { doThis: 'There is no way to it: check address and network.', mayPass: true }],
  ['ENETUNREACH', { doThis: 'There is no way to it: check address and network.', mayPass: true }],
  ['28P01', { doThis: 'Check user and password.', mayPass: false }],
  ['28000', { doThis: 'Check the user, and what pg_hba.conf lets in.', mayPass: false }],
  ['3D000', { doThis: 'Create the database, or check its name.', mayPass: false }],
  ['42501', { doThis: 'Give the user the rights that docs/scaling.md names.', mayPass: false }],
  [
    '53300',
    {
      doThis: 'Raise max_connections, or run fewer nodes (docs/scaling.md, "pgbouncer, and connections").',
      mayPass: true,
    },
  ],
  [
    '55P03',
    {
      doThis: 'A migration waited for a table that others use: start again when they have ended.',
      mayPass: false,
    },
  ],
  ['57P03', { doThis: 'It is starting up or shutting down.', mayPass: true }],
  [
    'ERR_TLS_CERT_ALTNAME_INVALID',
    { doThis: 'Its certificate is for another name: check the host in the URL.', mayPass: false },
  ],
]);

const CHECK_URL = 'Check ORDERHOOK_DATABASE_URL.';
const CHECK_TLS = 'Check sslmode and sslrootcert in ORDERHOOK_DATABASE_URL.';
/** The driver gives these no code. */
const TLS_MESSAGES = /SSL|certificate/i;
const LOGIN_MESSAGES = /^SASL|password must be a string/;

/** What `error` is to whoever starts: a `StartError`, or itself where it is a bug of ours. `target`: what was connected to. */
export function startTrouble(error: unknown, target: string): unknown {
  // What the store's own statements throw has the driver's error as its cause.
  const cause = error instanceof AppError ? (error.cause ?? error) : error;
  if (cause instanceof StartError || !(cause instanceof Error)) return cause;
  const advice = adviceOn(cause);
  if (advice === undefined) return cause;
  const { doThis, mayPass = isConnectionTrouble(cause) } = advice;
  return new StartError(`The database cannot be used. Tried ${target}: ${answerOf(cause)}. ${doThis}`, {
    cause,
    mayPass,
  });
}

function adviceOn(error: Error): Advice | undefined {
  // A server that takes no writes: a failover may be under way.
  if (error instanceof AppError) return { doThis: 'A primary is needed.', mayPass: true };
  const { code, syscall } = error as NodeJS.ErrnoException;
  // Reading a file of the URL's parameters; a socket of the file system that is not there has the same code.
  if (syscall === 'open' || syscall === 'read') return { doThis: `${CHECK_TLS}`, mayPass: false };
  const known = ADVICE.get(code ?? '');
  if (known) return known;
  if (error instanceof DatabaseError) {
    return isConnectionTrouble(error) || /^(28|53|57|58)/.test(code ?? '')
      ? { doThis: CHECK_URL, mayPass: /^5[378]/.test(code ?? '') }
      : undefined;
  }
  if (isConnectionTrouble(error)) return { doThis: CHECK_URL };
  if (LOGIN_MESSAGES.test(error.message)) return { doThis: 'Check user and password.', mayPass: false };
  if (TLS_MESSAGES.test(error.message)) return { doThis: CHECK_TLS, mayPass: false };
  // OpenSSL's own codes.
  return /CERT|SIGNATURE|^ERR_(TLS|SSL)|^EPROTO$/.test(code ?? '')
    ? { doThis: CHECK_TLS, mayPass: false }
    : undefined;
}

/** Several addresses of one name fail together, each with its own message. */
function answerOf(error: Error): string {
  const messages =
    error instanceof AggregateError ? error.errors.map((one) => (one as Error).message) : [error.message];
  const code = (error as NodeJS.ErrnoException).code;
  const text = [...new Set(messages)].join('; ').replace(/\.$/, '');
  return code === undefined || text.includes(code) ? text : `${code} ${text}`;
}
