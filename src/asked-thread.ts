/** A thread that is asked questions: the side that starts it and asks, and what it runs to answer. */
import { parentPort, Worker } from 'node:worker_threads';
import { type CrossedError, fromCrossed, toCrossed } from './crossing-error.ts';

type Ask = { readonly id: number; readonly question: unknown };
/** The answer to question 0 is that the thread has started. */
type Told = { readonly id: number; readonly answer?: unknown; readonly error?: CrossedError };

export type AskedThreadOptions = {
  /** The module that runs there. */
  readonly main: URL;
  readonly name: string;
  /** Plain data. */
  readonly workerData: unknown;
};

/**
 * A death of the thread, once it has started, is an error that nobody catches: it may have died with the lock of the database.
 */
export class AskedThread<Question, Answer> {
  readonly #worker: Worker;
  readonly #waiting = new Map<
    number,
    { resolve: (answer: never) => void; reject: (error: unknown) => void }
  >();
  #lastId = 0;
  #isStarted = false;
  #isStopping = false;

  private constructor({ main, name, workerData }: AskedThreadOptions) {
    this.#worker = new Worker(main, { name, workerData });
    const die = (error: unknown) => {
      if (this.#isStarted && !this.#isStopping) throw error;
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
    this.#worker.on('error', die);
    this.#worker.on('exit', (code) => die(new Error(`The thread ${name} ended with code ${code}.`)));
    this.#worker.on('message', ({ id, answer, error }: Told) => {
      const asked = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) asked?.reject(fromCrossed(error));
      else asked?.resolve(answer as never);
    });
  }

  /** Rejects when it dies before it has started. */
  static async start<Question, Answer>(options: AskedThreadOptions): Promise<AskedThread<Question, Answer>> {
    const thread = new AskedThread<Question, Answer>(options);
    await thread.#answerTo(0);
    thread.#isStarted = true;
    return thread;
  }

  /** Rejects with the error of the thread, or when that was stopped. */
  ask(question: Question): Promise<Answer> {
    this.#lastId += 1;
    const answer = this.#answerTo(this.#lastId) as Promise<Answer>;
    this.#worker.postMessage({ id: this.#lastId, question } satisfies Ask);
    return answer;
  }

  /** Ends it where it is. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#worker.terminate();
  }

  #answerTo(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}

/** For the thread: answers what is asked from now on, and tells that it has started. */
export function answerQuestions<Question, Answer>(answer: (question: Question) => Promise<Answer>): void {
  const port = parentPort;
  if (!port) throw new Error('This module runs in a thread only.');
  port.on('message', async ({ id, question }: Ask) => {
    try {
      port.postMessage({ id, answer: await answer(question as Question) } satisfies Told);
    } catch (error) {
      port.postMessage({ id, error: toCrossed(error) } satisfies Told);
    }
  });
  port.postMessage({ id: 0 } satisfies Told);
}
