/** What runs in the thread that reads the log: a store of its own and a reader. */
import { workerData } from 'node:worker_threads';
import { answerQuestions } from './asked-thread.ts';
import { createLogReader, type LogPage, type LogQuestion } from './engine/log-reader.ts';
import type { LogReaderThreadOptions } from './log-reader-thread.ts';
import { createLog } from './observe/log.ts';
import { openStoreToRead } from './open-store.ts';

const { database, logLevel } = workerData as LogReaderThreadOptions;
// Whoever is asked to end while this starts ends the thread where it is: it only reads.
const asked = new AbortController().signal;
const reader = createLogReader(await openStoreToRead(database, { log: createLog(logLevel), asked }));
answerQuestions<LogQuestion, LogPage>((question) => reader.read(question));
