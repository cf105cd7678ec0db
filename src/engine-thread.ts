/**
 * The engine in a thread of its own, with its own connection to the database, so that a flood of calls never makes the
 * pages slow and the reverse. This is the side that starts it; `engine-thread-main.ts` is what runs there.
 */
import { Worker } from 'node:worker_threads';
import { type CrossedError, fromCrossed } from './crossing-error.ts';
import type { LogLevel } from './observe/log.ts';
import type { DatabaseChoice } from './open-store.ts';

/** What the thread needs to put its parts together; plain data, since it crosses into the thread. */
export type EngineThreadOptions = {
  readonly database: DatabaseChoice;
  readonly logLevel: LogLevel;
  readonly limits: {
    readonly connectMs: number;
    readonly firstByteMs: number;
    readonly exchangeMs: number;
    readonly answerBytesMax: number;
  };
  readonly egressProxy: string;
  /** PEM; empty: none. */
  readonly extraCa: string;
  readonly retentionMs: number;
  /** Undefined: orders are kept for ever. */
  readonly orderRetentionMs: number | undefined;
};

export type Readiness = { readonly ready: boolean; readonly because?: string };

/** To the thread. */
export type EngineThreadRequest = { readonly kind: 'stop' | 'metrics' | 'readiness'; readonly id: number };
/** From the thread; the answer to request 0 is that it has started. */
export type EngineThreadAnswer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: CrossedError };

export interface EngineThread {
  /** In the text format of Prometheus. */
  metrics(): Promise<string>;
  readiness(): Promise<Readiness>;
  /** Resolves when all is committed, or when the thread is dead. */
  stop(): Promise<void>;
  /** Ends it where it is: what it did not commit is done again by the next engine. */
  kill(): Promise<void>;
  /** Rejects when the thread died; never resolves. */
  readonly died: Promise<never>;
}

export async function startEngineThread(options: EngineThreadOptions): Promise<EngineThread> {
  const worker = new Worker(new URL('./engine-thread-main.ts', import.meta.url), {
    name: 'orderhook-engine',
    workerData: options,
  });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
  let lastId = 0;
  let isDead = false;

  const died = new Promise<never>((_resolve, reject) => {
    const fail = (error: unknown) => {
      isDead = true;
      for (const one of waiting.values()) one.reject(error);
      waiting.clear();
      reject(error);
    };
    worker.on('error', fail);
    worker.on('exit', (code) => fail(new Error(`The engine's thread ended with code ${code}.`)));
  });
  died.catch(() => {}); // whoever waits for it hears of it
  worker.on('message', (answer: EngineThreadAnswer) => {
    const asked = waiting.get(answer.id);
    waiting.delete(answer.id);
    if ('error' in answer) asked?.reject(fromCrossed(answer.error));
    else asked?.resolve(answer.value);
  });

  function answer(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  }
  function ask(kind: EngineThreadRequest['kind']): Promise<unknown> {
    lastId += 1;
    worker.postMessage({ kind, id: lastId } satisfies EngineThreadRequest);
    return answer(lastId);
  }

  await answer(0);
  return {
    metrics: async () => (await ask('metrics')) as string,
    readiness: async () => (await ask('readiness')) as Readiness,
    async stop() {
      if (!isDead) await ask('stop');
      await worker.terminate();
    },
    async kill() {
      await worker.terminate();
    },
    died,
  };
}
