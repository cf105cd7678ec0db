/**
 * The reader of the log in a thread of its own, with its own connections to the database: it parses and filters orders
 * while the engine makes calls. This is the side that starts it; `log-reader-thread-main.ts` is what runs there.
 */
import { AskedThread } from './asked-thread.ts';
import type { LogPage, LogQuestion, LogReader } from './engine/log-reader.ts';
import type { LogLevel } from './observe/log.ts';
import type { DatabaseChoice } from './open-store.ts';

/** Plain data. */
export type LogReaderOptions = { readonly database: DatabaseChoice; readonly logLevel: LogLevel };

export async function startLogReaderThread(
  database: DatabaseChoice,
  logLevel: LogLevel,
): Promise<LogReader & { stop(): Promise<void> }> {
  const thread = await AskedThread.start<LogQuestion, LogPage>({
    main: new URL('./log-reader-thread-main.ts', import.meta.url),
    name: 'orderhook-reader',
    workerData: { database, logLevel } satisfies LogReaderOptions,
  });
  return { read: (question) => thread.ask(question), stop: () => thread.stop() };
}
