/**
 * The engine in a thread of its own, with its own connection to the database, so that a flood of calls never makes the
 * pages slow and the reverse. This is the side that starts it; `engine-thread-main.ts` is what runs there.
 */
import { Worker } from 'node:worker_threads';
import type { EgressProxy } from './caller/egress-proxy.ts';
import { type CrossedError, fromCrossed } from './crossing-error.ts';
import { reviveStartError } from './model/app-error.ts';
import type { InstitutionId, InterfaceId } from './model/entities.ts';
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
  readonly egressProxy: EgressProxy | undefined;
  /** PEM; empty: none. */
  readonly extraCa: string;
  readonly retentionMs: number;
  /** Undefined: orders are kept for ever. */
  readonly orderRetentionMs: number | undefined;
};

export type Readiness = { readonly ready: boolean; readonly because?: string };

/** What came of asking for a slot of an interface's concurrency: its number, or why there is none (`Engine.reserveSlot`). */
export type SlotAnswer = number | 'full' | 'elsewhere';

type Question =
  | { readonly kind: 'metrics' | 'readiness' }
  | {
      readonly kind: 'reserve_slot';
      readonly institutionId: InstitutionId;
      readonly interfaceId: InterfaceId;
    }
  | { readonly kind: 'give_back_slot'; readonly slot: number }
  /** How long running calls may take to end. */
  | { readonly kind: 'stop'; readonly callsMs: number };
/** To the thread. */
export type EngineThreadRequest = Question & { readonly id: number };
/** From the thread; the answer to request 0 is that it has started. */
export type EngineThreadAnswer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: CrossedError };

export interface EngineThread {
  /** In the text format of Prometheus; after its end, as they were then. */
  metrics(): Promise<string>;
  readiness(): Promise<Readiness>;
  /** As `Engine.reserveSlot`; what it resolves with gives the slot back. */
  reserveSlot(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
  ): Promise<(() => void) | 'full' | 'elsewhere'>;
  /**
   * No call starts any more; those that run have `callsMs` to end. Resolves when all that ended is committed and the thread
   * is gone, at the latest `COMMIT_MS` after that. Asked again, it is the same stop.
   */
  stop(callsMs: number): Promise<void>;
  /** Rejects when the thread died; never resolves. */
  readonly died: Promise<never>;
}

/** How long the last commit and the closing of connections may take. */
const COMMIT_MS = 700;

/**
 * `callsMs`: how long calls may run on when it is `asked` to end while it starts.
 * @throws StartError; the signal's reason when it was asked to end, which it then has
 */
export async function startEngineThread(
  options: EngineThreadOptions,
  asked: AbortSignal,
  callsMs: number,
): Promise<EngineThread> {
  const worker = new Worker(new URL('./engine-thread-main.ts', import.meta.url), {
    name: 'orderhook-engine',
    workerData: options,
  });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
  let lastId = 0;
  let isDead = false;
  let lastMetrics = '';
  let stopping: Promise<void> | undefined;

  const died = new Promise<never>((_resolve, reject) => {
    const fail = (thrown: unknown) => {
      const error = reviveStartError(thrown);
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
  async function ask(question: Question): Promise<unknown> {
    if (isDead) throw new Error("The engine's thread has ended.");
    lastId += 1;
    worker.postMessage({ ...question, id: lastId } satisfies EngineThreadRequest);
    return answer(lastId);
  }

  async function stop(callsMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, callsMs + COMMIT_MS, undefined);
    });
    try {
      // A database that is away lets nothing be committed: what was not is called again by the next engine.
      const told = isDead ? undefined : await Promise.race([ask({ kind: 'stop', callsMs }), late]);
      if (typeof told === 'string') lastMetrics = told;
    } finally {
      clearTimeout(timer);
      await worker.terminate();
    }
  }

  const thread: EngineThread = {
    metrics: () => ask({ kind: 'metrics' }).then(String, () => lastMetrics),
    async readiness() {
      if (stopping) return { ready: false, because: 'The engine is stopping.' };
      return (await ask({ kind: 'readiness' })) as Readiness;
    },
    async reserveSlot(institutionId, interfaceId) {
      const slot = (await ask({ kind: 'reserve_slot', institutionId, interfaceId })) as SlotAnswer;
      // A thread that has ended has taken its slots with it.
      return typeof slot === 'number'
        ? () => void ask({ kind: 'give_back_slot', slot }).catch(() => {})
        : slot;
    },
    stop(callsMs) {
      stopping ??= stop(callsMs);
      return stopping;
    },
    died,
  };
  const onAsked = () => void thread.stop(callsMs).catch(() => {});
  asked.addEventListener('abort', onAsked);
  try {
    await answer(0);
  } catch (error) {
    await thread.stop(callsMs).catch(() => {});
    throw asked.aborted ? asked.reason : error;
  } finally {
    asked.removeEventListener('abort', onAsked);
  }
  return thread;
}
