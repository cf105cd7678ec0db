/** What runs in the thread that reads the log: a store of its own and a reader. */
import { parentPort, workerData } from 'node:worker_threads';
import { createLogReader } from './engine/log-reader.ts';
import type { LogReaderAnswer, LogReaderRequest } from './log-reader-thread.ts';
import { AppError } from './model/app-error.ts';
import { type DatabaseChoice, openStoreToRead } from './open-store.ts';

const port = parentPort;
if (!port) throw new Error('This module runs in a thread only.');

const reader = createLogReader(await openStoreToRead(workerData as DatabaseChoice));

function answer(given: LogReaderAnswer): void {
  port?.postMessage(given);
}

port.on('message', async ({ id, question }: LogReaderRequest) => {
  try {
    answer({ id, page: await reader.read(question) });
  } catch (error) {
    const { code, message } = error instanceof AppError ? error : { code: undefined, message: String(error) };
    answer({ id, error: { code, message } });
  }
});
answer({ id: 0 });
