/** A real `serve` or `worker` process that may be killed at any moment, even before it is ready. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const START_MS = 30_000;
const END_MS = 45_000;
export const ADMIN_KEY = 'crash-test-admin-key';

/** When the signal was about to be sent, and when the process was seen to be gone: it died in between. */
export type Death = {
  readonly signal: 'SIGKILL' | 'SIGTERM';
  readonly sentAt: number;
  readonly endedAt: number;
  readonly exitCode: number | null;
};

export type NodeOptions = {
  readonly command?: 'serve' | 'worker';
  readonly settings?: Readonly<Record<string, string>>;
  /** What runs it, `ip netns exec NAME` for example. */
  readonly through?: readonly string[];
};

export class NodeProcess {
  readonly spawnedAt = performance.now();
  readonly command: 'serve' | 'worker';
  /** The address, when it is ready; rejects when the process ends before. */
  readonly ready: Promise<string>;
  readyAt: number | undefined;
  /** What it wrote to standard error. */
  errors = '';
  readonly #child: ChildProcess;
  readonly #exit: Promise<number | null>;

  constructor(dataFolder: string, options: NodeOptions = {}) {
    const { command = 'serve', settings = {}, through = [] } = options;
    this.command = command;
    const own = Object.entries(process.env).filter(([name]) => !name.startsWith('ORDERHOOK_'));
    const [program, ...args] = [...through, process.execPath, MAIN, command];
    const child = spawn(program as string, args, {
      env: {
        ...Object.fromEntries(own),
        ORDERHOOK_DATA: dataFolder,
        ORDERHOOK_PORT: '0',
        ORDERHOOK_ADMIN_KEY: ADMIN_KEY,
        ORDERHOOK_LOG_LEVEL: 'error',
        ...settings,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    // Nobody else would end it when the test is cut short.
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    child.once('exit', () => process.off('exit', kill));
    this.#exit = once(child, 'exit').then(([code]) => code as number | null);
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    const address = new Promise<string>((resolve) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const found = / is ready at (\S+)$/.exec(line);
        if (!found) return;
        this.readyAt = performance.now();
        resolve(found[1] as string);
      });
    });
    this.ready = Promise.race([
      address,
      this.#exit.then((code) => {
        throw new Error(`${command} ended with code ${code} before it was ready: ${this.errors}`);
      }),
      wait(START_MS, undefined, { ref: false }).then(() => {
        throw new Error(`${command} was not ready within ${START_MS} ms: ${this.errors}`);
      }),
    ]);
    this.ready.catch(() => {}); // it may be killed before anybody waits for it
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** It stands still, in all its threads, until `thaw`. */
  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child.kill('SIGCONT');
  }

  async end(signal: Death['signal']): Promise<Death> {
    if (this.hasEnded) throw new Error(`${this.command} ended by itself: ${this.errors}`);
    const sentAt = performance.now();
    this.#child.kill(signal);
    const exitCode = await Promise.race([
      this.#exit,
      wait(END_MS, undefined, { ref: false }).then(() => {
        this.#child.kill('SIGKILL');
        throw new Error(`${this.command} did not end within ${END_MS} ms of ${signal}: ${this.errors}`);
      }),
    ]);
    return { signal, sentAt, endedAt: performance.now(), exitCode };
  }
}

/** One call of the API. */
export async function api<T>(address: string, method: string, path: string, body?: unknown): Promise<T> {
  const response = await fetch(`${address}/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${ADMIN_KEY}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}
