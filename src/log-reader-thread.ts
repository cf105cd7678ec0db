/**
 * The reader of the log in a thread of its own, with its own connections to the database: it parses and filters orders
 * while the engine makes calls. This is the side that starts it; `log-reader-thread-main.ts` is what runs there.
 */
import { Worker } from 'node:worker_threads';
import type { LogPage, LogQuestion, LogReader } from './engine/log-reader.ts';
import { AppError, type ErrorCode } from './model/app-error.ts';
import type { DatabaseChoice } from './open-store.ts';

export type LogReaderRequest = { readonly id: number; readonly question: LogQuestion };
/** The answer to request 0 is that it has started. An error is told by what of it crosses between threads. */
export type LogReaderAnswer = {
  readonly id: number;
  readonly page?: LogPage;
  readonly error?: { readonly code: ErrorCode | undefined; readonly message: string };
};

/** A death of the thread is an error that nobody catches: the engine cannot do without it. */
export async function startLogReaderThread(
  database: DatabaseChoice,
): Promise<LogReader & { stop(): Promise<void> }> {
  const worker = new Worker(new URL('./log-reader-thread-main.ts', import.meta.url), {
    name: 'orderhook-reader',
    workerData: database,
  });
  type Waiting = {
    resolve: (page: LogPage | undefined) => void;
    reject: (error: unknown) => void;
  };
  const waiting = new Map<number, Waiting>();
  let lastId = 0;
  let isStopping = false;

  worker.on('error', (error) => {
    throw error;
  });
  worker.on('exit', (code) => {
    if (!isStopping) throw new Error(`The thread that reads the log ended with code ${code}.`);
  });
  worker.on('message', ({ id, page, error }: LogReaderAnswer) => {
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error) asked?.reject(error.code ? new AppError(error.code, error.message) : new Error(error.message));
    else asked?.resolve(page);
  });
  function answer(id: number): Promise<LogPage | undefined> {
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  }

  await answer(0);
  return {
    async read(question) {
      lastId += 1;
      worker.postMessage({ id: lastId, question } satisfies LogReaderRequest);
      return (await answer(lastId)) as LogPage;
    },
    async stop() {
      isStopping = true;
      await worker.terminate();
    },
  };
}
