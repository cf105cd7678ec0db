/** The service under measurement: a real process with the command line of `npm start`, and a client of its API. */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { hookPath } from './callee.ts';
import { FILTER, ORDER_BYTES, orderLines } from './orders.ts';
import { Folder, OwnProcess } from './owned.ts';

const ROOT = join(import.meta.dirname, '../..');
const START_MS = 60_000;
const CODE = 'BENCH';
const KEY = 'bench-admin-key';
export const INSTITUTION = `/api/v1/institutions/${CODE}`;
export const AUTHORIZATION = `Bearer ${KEY}`;
/** The most that the contract allows. */
export const CONCURRENCY = 64;

export type InterfaceId = string;
export type QueueState = { readonly waiting: number; readonly owed: number; readonly abandoned: number };

/** A client of the API as an administrator, for one institution. */
export class InstitutionClient {
  readonly address: string;
  readonly code: string;

  constructor(address: string, code: string) {
    this.address = address;
    this.code = code;
  }

  get path(): string {
    return `/api/v1/institutions/${this.code}`;
  }

  /** @throws Error when the answer is not 2xx */
  async call<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await fetch(`${this.address}${path}`, {
      method,
      headers: {
        authorization: AUTHORIZATION,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
    return (text === '' ? undefined : JSON.parse(text)) as Answer;
  }

  /** The institution, and the permission to call these hosts. */
  async setUp(...hosts: readonly string[]): Promise<void> {
    await this.call('POST', '/api/v1/institutions', { code: this.code, name: 'Bench' });
    for (const destination of hosts) {
      const opening = await this.call<{ id: string }>('POST', `${this.path}/proxy-openings`, {
        destination,
      });
      await this.call('POST', `${this.path}/proxy-openings/${opening.id}/open`, { allowPrivate: true });
    }
  }

  /** An interface with a continuous schedule, paused unless `active`. It asks `FILTER` of every order. */
  async addInterface(given: {
    calleeUrl: string;
    batchSize: number;
    number?: number;
    concurrency?: number;
    active?: boolean;
  }): Promise<InterfaceId> {
    const { calleeUrl, batchSize, number = 0, concurrency = CONCURRENCY, active = false } = given;
    const { id } = await this.call<{ id: InterfaceId }>('POST', `${this.path}/interfaces`, {
      name: `Interface ${number}`,
      type: 'ORDER_WEBHOOK_V1',
      method: 'GET',
      url: `${calleeUrl}${hookPath(number)}\${orderId}`,
      filter: FILTER,
      concurrency,
      active,
    });
    await this.call('POST', `${this.path}/interfaces/${id}/schedules`, {
      name: 'Continuous',
      launch: 'AUTOMATIC',
      frequencyMinutes: 0,
      batchSize,
    });
    return id;
  }

  async setActive(id: InterfaceId, active: boolean): Promise<void> {
    await this.call('PATCH', `${this.path}/interfaces/${id}`, { active });
  }

  async queue(id: InterfaceId): Promise<QueueState> {
    return this.call('GET', `${this.path}/interfaces/${id}/queue`);
  }

  /** Until nothing waits or is owed, so every outcome is committed; when that was, in milliseconds since 1970. */
  async untilDrained(id: InterfaceId, withinMs: number): Promise<number> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const { waiting, owed, abandoned } = await this.queue(id);
      if (abandoned > 0) throw new Error(`${abandoned} deliveries were abandoned`);
      if (waiting === 0 && owed === 0) return Date.now();
      if (performance.now() > deadline)
        throw new Error(`${waiting} wait and ${owed} are owed after ${withinMs} ms`);
      await wait(5);
    }
  }

  /** Orders from number `first` on, all closed, by the import of the API. */
  async import(first: number, count: number): Promise<void> {
    const answer = await sendStream(`${this.address}${this.path}/orders/import`, first, count);
    const { closed } = JSON.parse(answer) as { closed: number };
    if (closed !== count) throw new Error(`${closed} of ${count} imported orders were closed: ${answer}`);
  }
}

/** A service, and the client of its first institution. */
export class Service extends InstitutionClient implements AsyncDisposable {
  readonly #process: OwnProcess;
  readonly #ownFolder: Folder | undefined;

  private constructor(process: OwnProcess, address: string, ownFolder: Folder | undefined) {
    super(address, CODE);
    this.#process = process;
    this.#ownFolder = ownFolder;
  }

  /** `folder`: outlives the service; without one it has its own, which does not. */
  static async start(
    given: { folder?: string; databaseUrl?: string; settings?: Record<string, string> } = {},
  ): Promise<Service> {
    const ownFolder = given.folder === undefined ? new Folder() : undefined;
    const others = Object.entries(process.env).filter(([name]) => !name.startsWith('ORDERHOOK_'));
    const child = new OwnProcess(process.execPath, startArguments(), {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...Object.fromEntries(others),
        ORDERHOOK_DATA: given.folder ?? (ownFolder as Folder).path,
        ORDERHOOK_DATABASE_URL: given.databaseUrl ?? '',
        ORDERHOOK_PORT: '0',
        ORDERHOOK_ADMIN_KEY: KEY,
        ORDERHOOK_LOG_LEVEL: 'warn',
        ...given.settings,
      },
    });
    try {
      let address = '';
      createInterface({ input: child.child.stdout as Readable }).on('line', (line) => {
        address ||= / is ready at (\S+)$/.exec(line)?.[1] ?? '';
      });
      await child.until('it is ready', () => address !== '', START_MS);
      return new Service(child, address, ownFolder);
    } catch (error) {
      await child.stop();
      ownFolder?.[Symbol.dispose]();
      throw error;
    }
  }

  get pid(): number {
    return this.#process.pid;
  }

  async stop(): Promise<void> {
    await this.#process.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#ownFolder?.[Symbol.dispose]();
  }
}

/** Orders as one NDJSON body to any server; its answer. */
export function sendStream(url: string, first: number, count: number): Promise<string> {
  const headers = {
    authorization: AUTHORIZATION,
    'content-type': 'application/x-ndjson',
    'content-length': count * ORDER_BYTES,
  };
  return new Promise((resolve, reject) => {
    const sending = request(url, { method: 'POST', headers }, async (response) => {
      let text = '';
      for await (const chunk of response.setEncoding('utf8')) text += chunk;
      if (response.statusCode === 200) resolve(text);
      else reject(new Error(`The stream was answered by ${response.statusCode}: ${text}`));
    });
    sending.once('error', reject);
    const portions = orderLines(first, count);
    function send(): void {
      for (let next = portions.next(); !next.done; next = portions.next()) {
        if (!sending.write(next.value)) {
          sending.once('drain', send);
          return;
        }
      }
      sending.end();
    }
    send();
  });
}

/** What `npm start` gives to Node.js, flags of its own included. */
function startArguments(): string[] {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const [node, ...args] = (scripts.start as string).split(' ');
  if (node !== 'node') throw new Error(`This start script is not understood: ${scripts.start}`);
  return args;
}
