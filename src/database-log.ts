/**
 * Lines of the log about the database server: few, whatever happens, since a server that is away makes the same thing happen
 * again and again, in every thread. Each line says how many of its kind there were since the one before.
 */
import type { Log } from './observe/log.ts';
import type { DatabaseEvent, DatabaseEventKind } from './store/postgres/events.ts';

/** Between two lines about the same kind of event. */
const PAUSE_MS = 10_000;

const LINES: Readonly<Record<DatabaseEventKind, { level: 'info' | 'warn'; text: string }>> = {
  listen_lost: {
    level: 'warn',
    text: 'other nodes are not heard at the moment; closings are found by looking',
  },
  listen_restored: { level: 'info', text: 'other nodes are heard again' },
  notify_failed: { level: 'warn', text: 'other nodes could not be told of a change; it is tried again' },
  look_failed: { level: 'warn', text: 'the database could not be asked for changes; it is tried again' },
  connection_lost: { level: 'warn', text: 'a database connection was lost; another one takes its place' },
  server_left: { level: 'warn', text: 'the database server is left for another one of the URL' },
  statement_repeated: { level: 'info', text: 'a statement had to be repeated' },
};

/** @param now milliseconds */
export function databaseEventLog(
  log: Pick<Log, 'info' | 'warn'>,
  now: () => number = Date.now,
): (event: DatabaseEvent) => void {
  const lastLines = new Map<DatabaseEventKind, { at: number; skipped: number }>();
  return ({ kind, server, cause }) => {
    const last = lastLines.get(kind);
    if (last && now() - last.at < PAUSE_MS) {
      last.skipped += 1;
      return;
    }
    lastLines.set(kind, { at: now(), skipped: 0 });
    const { level, text } = LINES[kind];
    log[level](
      {
        event: `database.${kind}`,
        ...(server !== undefined && { server }),
        ...(last && last.skipped > 0 && { skippedLines: last.skipped }),
        ...(cause !== undefined && { err: cause }),
      },
      text,
    );
  };
}
