/** The server's queue of NOTIFY, full: a session that listens stands in a transaction and reads nothing. */
import assert from 'node:assert/strict';
import type { PostgresServer } from './postgres-server.ts';

type Client = Awaited<ReturnType<PostgresServer['client']>>;

export class NotifyQueue {
  /** The smallest that there is; PostgreSQL 17 and newer. */
  static readonly SERVER_SETTINGS = ['max_notify_queue_pages=64'];
  /** What that session has read on the channel of the store. */
  readonly heard: string[] = [];
  readonly #listener: Client;
  readonly #notifier: Client;

  private constructor(listener: Client, notifier: Client) {
    this.#listener = listener;
    this.#notifier = notifier;
    listener.on('notification', ({ payload }) => this.heard.push(payload ?? ''));
  }

  static async of(server: PostgresServer, url: string): Promise<NotifyQueue> {
    return new NotifyQueue(await server.client(url), await server.client(url));
  }

  async fill(): Promise<void> {
    await this.#listener.query('LISTEN orderhook');
    await this.#listener.query('BEGIN');
    const notify = async (bytes: number) => {
      // A page has 8 KiB, and there are 64.
      for (let times = 0; times < 10_000; times += 1) {
        await this.#notifier.query("SELECT pg_notify('elsewhere', repeat('x', $1) || $2::integer)", [
          bytes,
          times,
        ]);
      }
    };
    const isFull = { message: 'too many notifications in the NOTIFY queue' };
    await assert.rejects(notify(7_000), isFull);
    await assert.rejects(notify(1), isFull);
  }

  /** The session reads on. */
  async release(): Promise<void> {
    await this.#listener.query('COMMIT');
  }

  async close(): Promise<void> {
    await Promise.all([this.#listener.end(), this.#notifier.end()]);
  }
}
