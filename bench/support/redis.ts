/** A Redis server of the benchmark's own: `redis-server` where it is installed, with an append-only file. */
import { execFileSync } from 'node:child_process';
import { connect } from 'node:net';
import { freePort } from '../../test/support/postgres-server.ts';
import { Folder, OwnProcess } from './owned.ts';

/**
 * Once a second is what Redis recommends where jobs matter: up to a second of them may be lost, and `always` would be
 * slower. No snapshots and no rewriting of the file while a round runs.
 */
const SETTINGS = {
  appendonly: 'yes',
  appendfsync: 'everysec',
  save: '',
  'auto-aof-rewrite-percentage': '0',
  'maxmemory-policy': 'noeviction',
};

export class Redis implements AsyncDisposable {
  readonly url: string;
  readonly description: string;
  readonly #folder: Folder;
  readonly #process: OwnProcess;

  private constructor(folder: Folder, port: number, version: string) {
    this.#folder = folder;
    this.url = `redis://127.0.0.1:${port}`;
    this.description = `Redis ${version}, appendonly yes, appendfsync everysec`;
    const settings = Object.entries(SETTINGS).flatMap(([name, value]) => [`--${name}`, value]);
    const address = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder.path];
    this.#process = new OwnProcess('redis-server', [...address, ...settings]);
  }

  /** @throws Error when it is not installed */
  static async start(): Promise<Redis> {
    const version = redisVersion();
    const port = await freePort();
    const redis = new Redis(new Folder(), port, version);
    try {
      await redis.#process.until('it answers', () => answers(port));
    } catch (error) {
      await redis[Symbol.asyncDispose]();
      throw error;
    }
    return redis;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
    this.#folder[Symbol.dispose]();
  }
}

function redisVersion(): string {
  try {
    const said = execFileSync('redis-server', ['--version'], { encoding: 'utf8' });
    return /v=(\S+)/.exec(said)?.[1] ?? 'of an unknown version';
  } catch (cause) {
    throw new Error('redis-server is not installed', { cause });
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'));
    socket.once('data', (answer) => {
      socket.destroy();
      resolve(answer.toString().startsWith('+PONG'));
    });
    socket.once('error', () => resolve(false));
  });
}
