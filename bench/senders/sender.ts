/** What the programs of this folder have in common: orders from the benchmark by IPC, and the call itself. */
import { Pool } from 'undici';
import { USER_AGENT } from '../../src/version.ts';
import { FIRST_ORDER_ID } from '../support/orders.ts';

export type SenderOrder = {
  readonly action: 'load' | 'drain';
  readonly first: number;
  readonly count: number;
};
export type SenderAnswer = {
  /** How it is set up, in the first answer. */
  readonly description?: string;
  readonly failure?: string;
  /** Milliseconds since 1970. */
  readonly endedAt?: number;
};

export type Sender = {
  readonly description: string;
  /** Queues orders from number `first` on. */
  load(first: number, count: number): Promise<void>;
  /** Resolves when `count` orders are called and, if it stores anything, stored as done. */
  drain(first: number, count: number): Promise<void>;
};

export type SenderSettings = {
  /** The order id is written behind it. */
  readonly url: string;
  /** Connections to the callee. */
  readonly concurrency: number;
  /** Of the sender's store. */
  readonly serverUrl: string;
};

/** Runs a sender until the benchmark ends. */
export async function runSender(create: (settings: SenderSettings) => Promise<Sender>): Promise<void> {
  const [url, concurrency, serverUrl] = process.argv.slice(2) as [string, string, string];
  const tell = (answer: SenderAnswer) => process.send?.(answer);
  const tellFailure = (error: unknown) =>
    tell({ failure: error instanceof Error ? error.message : String(error) });
  // A benchmark that is gone has nobody to tell, and wants nothing any more.
  process.once('disconnect', () => process.exit(1));
  try {
    const sender = await create({ url, concurrency: Number(concurrency), serverUrl });
    process.on('message', async ({ action, first, count }: SenderOrder) => {
      try {
        await sender[action](first, count);
        tell({ endedAt: Date.now() });
      } catch (error) {
        tellFailure(error);
      }
    });
    tell({ description: sender.description });
  } catch (error) {
    tellFailure(error);
  }
}

/** Makes calls over `concurrency` connections: the request that Orderhook sends, header for header. */
export class Calls {
  readonly #pool: Pool;
  readonly #path: string;
  readonly #headers = ['User-Agent', USER_AGENT, 'Accept', '*/*'];

  constructor(url: string, concurrency: number) {
    const { origin, pathname } = new URL(url);
    this.#pool = new Pool(origin, { connections: concurrency, pipelining: 1 });
    this.#path = pathname;
  }

  /** `dispatch` is what costs least in undici; `done` is given what went wrong, if anything. */
  send(orderId: number, done: (error?: Error) => void): void {
    this.#pool.dispatch(
      { method: 'GET', path: this.#path + orderId, headers: this.#headers },
      {
        onRequestStart() {},
        onResponseStart(_controller, status) {
          if (status >= 300) throw new Error(`The callee answered ${status}`);
        },
        onResponseData() {},
        onResponseEnd() {
          done();
        },
        onResponseError(_controller, error) {
          done(error);
        },
      },
    );
  }

  promise(orderId: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.send(orderId, (error) => (error ? reject(error) : resolve()));
    });
  }
}

export function orderIdOf(number: number): number {
  return FIRST_ORDER_ID + number;
}
