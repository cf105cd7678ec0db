/**
 * A callee that answers 200 as fast as it can, in a process of its own, and writes down each call: nginx with one worker
 * where it is installed, else a Node.js process.
 *
 * Both append one line a call to a file, in portions, so that writing costs the answers next to nothing; the benchmark reads
 * it from outside. `$msec` is the system clock, which the senders share.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { freePort } from '../../test/support/postgres-server.ts';
import { FIRST_ORDER_ID } from './orders.ts';
import { Folder, OwnProcess } from './owned.ts';

/** All lines are as long as this one: the paths are of one shape (`hookPath`) and the order ids have as many digits. */
const LINE = `1700000000.123 /00/${FIRST_ORDER_ID}\n`;
const [PATH_AT, ID_AT] = [LINE.indexOf('/'), LINE.lastIndexOf('/') + 1];
/** Lines wait no longer than this to be written. */
const FLUSH_MS = 20;
const QUIET_MS = 5 * FLUSH_MS;

export type CallTimes = { readonly firstAt: number; readonly lastAt: number };

/** The path of an interface's calls; `number` (0 … 99) tells interfaces apart. */
export function hookPath(number = 0): string {
  return `/${String(number).padStart(2, '0')}/`;
}

export class Callee implements AsyncDisposable {
  readonly url: string;
  /** What it is, for the printed settings. */
  readonly description: string;
  readonly #folder: Folder;
  readonly #process: OwnProcess;
  readonly #log: string;

  private constructor(folder: Folder, port: number, description: string, command: string, args: string[]) {
    this.#folder = folder;
    this.#log = join(folder.path, 'calls');
    this.url = `http://127.0.0.1:${port}`;
    this.description = description;
    writeFileSync(this.#log, '');
    this.#process = new OwnProcess(command, args);
  }

  static async start(): Promise<Callee> {
    const [folder, port] = [new Folder(), await freePort()];
    const nginx = nginxVersion();
    let callee: Callee;
    if (nginx === undefined) {
      const program = join(import.meta.dirname, 'callee-process.ts');
      const args = [program, String(port), join(folder.path, 'calls'), String(FLUSH_MS)];
      callee = new Callee(folder, port, 'Node.js (nginx is not installed)', process.execPath, args);
    } else {
      writeFileSync(join(folder.path, 'nginx.conf'), nginxSettings(folder.path, port));
      const args = ['-p', folder.path, '-c', 'nginx.conf', '-e', 'stderr'];
      callee = new Callee(folder, port, `nginx ${nginx}, one worker`, 'nginx', args);
    }
    try {
      await callee.#process.until('it listens', () => listens(port));
    } catch (error) {
      await callee[Symbol.asyncDispose]();
      throw error;
    }
    return callee;
  }

  get host(): string {
    return new URL(this.url).host;
  }

  /** Calls written down since the last `forget`. */
  get answered(): number {
    return Math.floor(statSync(this.#log).size / LINE.length);
  }

  async untilAnswered(count: number, withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (this.answered < count) {
      if (performance.now() > deadline) {
        throw new Error(`${this.answered} of ${count} calls were made in ${withinMs} ms`);
      }
      await wait(FLUSH_MS);
    }
  }

  /** Until all lines are written and no more come. */
  async untilQuiet(): Promise<void> {
    let size = -1;
    while (size !== statSync(this.#log).size) {
      size = statSync(this.#log).size;
      await wait(QUIET_MS);
    }
  }

  /** Begins again with no calls. Both callees append, so the file may be cut under them once their lines are written. */
  async forget(): Promise<void> {
    await this.untilQuiet();
    truncateSync(this.#log);
  }

  /** When the calls were answered, in their order, in milliseconds since 1970. */
  times(): Float64Array {
    return Float64Array.from(this.#lines(), (line) => Number(line.slice(0, PATH_AT)) * 1000);
  }

  /**
   * That each of `count` orders from number `first` on was called exactly once, and nothing else.
   *
   * @throws Error otherwise: a figure of a sender that loses or repeats calls is worth nothing
   */
  checkEachOnce(first: number, count: number, path = hookPath()): CallTimes {
    const lines = this.#lines().filter((line) => line.startsWith(path, PATH_AT));
    const seen = new Uint8Array(count);
    for (const line of lines) {
      const number = Number(line.slice(ID_AT)) - FIRST_ORDER_ID - first;
      if (!(number >= 0 && number < count)) throw new Error(`Nobody asked for this call: ${line}`);
      if (seen[number] === 1) throw new Error(`This call was made twice: ${line}`);
      seen[number] = 1;
    }
    if (lines.length !== count) throw new Error(`${count - lines.length} of ${count} calls were not made`);
    const time = (line: string | undefined) => Number(line?.slice(0, PATH_AT)) * 1000;
    return { firstAt: time(lines[0]), lastAt: time(lines.at(-1)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
    this.#folder[Symbol.dispose]();
  }

  #lines(): string[] {
    const lines = readFileSync(this.#log, 'latin1').split('\n');
    lines.pop();
    return lines;
  }
}

function nginxVersion(): string | undefined {
  try {
    // It tells its version on standard error.
    const said = execFileSync('sh', ['-c', 'nginx -v 2>&1'], { encoding: 'utf8' });
    return /nginx\/(\S+)/.exec(said)?.[1];
  } catch {
    return undefined;
  }
}

/** One process without a master, which has nothing to do here. Connections stay open: reopening them is not what is measured. */
function nginxSettings(folder: string, port: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `
    daemon off; master_process off; worker_processes 1; pid nginx.pid;
    events { worker_connections 4096; }
    http {
      ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
      log_format call '$msec $request_uri';
      access_log ${folder}/calls call buffer=64k flush=${FLUSH_MS}ms;
      keepalive_requests 1000000000; keepalive_timeout 3600s;
      server { listen 127.0.0.1:${port} backlog=1024; location / { return 200; } }
    }`;
}

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
