/** What runs in the thread that reads the log: a store of its own and a reader. */
import { workerData } from 'node:worker_threads';
import { answerQuestions } from './asked-thread.ts';
import { createLogReader, type LogPage, type LogQuestion } from './engine/log-reader.ts';
import { type DatabaseChoice, openStoreToRead } from './open-store.ts';

const reader = createLogReader(await openStoreToRead(workerData as DatabaseChoice));
answerQuestions<LogQuestion, LogPage>((question) => reader.read(question));
