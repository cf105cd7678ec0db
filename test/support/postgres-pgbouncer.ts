/** pgbouncer in transaction mode before a test server: every transaction may go to another session. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, type PostgresServer } from './postgres-server.ts';

/** Undefined when it is not installed. `TEST_PGBOUNCER` may name another one. */
export function installedPgbouncer(): string | undefined {
  const places = [process.env.TEST_PGBOUNCER, '/usr/sbin/pgbouncer', '/usr/local/bin/pgbouncer'];
  return places.find((place) => place !== undefined && existsSync(place));
}

export class Pgbouncer {
  readonly #process: ChildProcess;
  readonly port: number;

  private constructor(child: ChildProcess, port: number) {
    this.#process = child;
    this.port = port;
  }

  static async start(binary: string, server: PostgresServer): Promise<Pgbouncer> {
    const port = await freePort();
    const folder = join(server.folder, `pgbouncer-${port}`);
    mkdirSync(folder);
    const settings = [
      '[databases]',
      `* = host=127.0.0.1 port=${server.port}`,
      '[pgbouncer]',
      'listen_addr = 127.0.0.1',
      `listen_port = ${port}`,
      'unix_socket_dir =',
      'auth_type = any',
      'pool_mode = transaction',
      'default_pool_size = 3',
      // Each test has a database of its own, whose sessions would otherwise stay when the test is over.
      'server_idle_timeout = 1',
      'max_client_conn = 100',
    ].map((line) => (line.startsWith('*') ? `${line} user=postgres` : line));
    writeFileSync(join(folder, 'pgbouncer.ini'), `${settings.join('\n')}\n`);
    const { uid, gid } = server.identity;
    if (uid !== undefined) chownSync(folder, uid, gid as number);
    const child = spawn(binary, [join(folder, 'pgbouncer.ini')], {
      ...server.identity,
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let output = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (chunk) => {
        output += chunk;
        if (output.includes('process up')) resolve();
      });
      child.once('exit', () => reject(new Error(`pgbouncer did not start: ${output}`)));
    });
    return new Pgbouncer(child, port);
  }

  /** The same database, through here. */
  url(direct: string): string {
    const url = new URL(direct);
    url.port = String(this.port);
    return url.href;
  }

  async stop(): Promise<void> {
    const exited = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGINT');
    await exited;
  }
}
