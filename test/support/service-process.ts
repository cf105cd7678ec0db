/** A real `serve`, as a user starts it, and a client of its API. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const START_MS = 40_000;

export type Finished = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** The environment of a command: ours without settings, and those given. */
function environment(settings: Record<string, string>): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('ORDERHOOK_'));
  return { ...Object.fromEntries(own), ...settings };
}

/** Runs a command to its end. */
export async function runCommand(
  args: readonly string[],
  settings: Record<string, string> = {},
): Promise<Finished> {
  const child = spawn(process.execPath, [MAIN, ...args], { env: environment(settings) });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

export class ServiceProcess {
  readonly address: string;
  readonly key: string;
  readonly #child: ChildProcess;
  readonly lines: readonly string[];

  private constructor(child: ChildProcess, address: string, key: string, lines: readonly string[]) {
    this.#child = child;
    this.address = address;
    this.key = key;
    this.lines = lines;
  }

  static async start(dataFolder: string, settings: Record<string, string> = {}): Promise<ServiceProcess> {
    const key = settings.ORDERHOOK_ADMIN_KEY ?? 'test-admin-key';
    const env = environment({
      ORDERHOOK_DATA: dataFolder,
      ORDERHOOK_PORT: '0',
      ORDERHOOK_ADMIN_KEY: key,
      ORDERHOOK_LOG_LEVEL: 'warn',
      ...settings,
    });
    const child = spawn(process.execPath, [MAIN, 'serve'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    const lines: string[] = [];
    const address = await new Promise<string>((resolve, reject) => {
      const late = setTimeout(() => {
        child.kill('SIGKILL'); // nobody else would
        reject(new Error('serve was not ready in time'));
      }, START_MS);
      child.once('exit', (code) => reject(new Error(`serve ended with code ${code}`)));
      createInterface({ input: child.stdout as NonNullable<typeof child.stdout> }).on('line', (line) => {
        lines.push(line);
        const ready = / is ready at (\S+)$/.exec(line)?.[1];
        if (ready === undefined) return;
        clearTimeout(late);
        resolve(ready);
      });
    });
    return new ServiceProcess(child, address, key, lines);
  }

  /** @returns the exit code */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    const ended = once(this.#child, 'exit');
    this.#child.kill(signal);
    const [code] = (await ended) as [number | null];
    return code;
  }

  async request(method: string, path: string, body?: unknown, key = this.key) {
    const response = await fetch(`${this.address}/api/v1${path}`, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
    return { status: response.status, body: (text === '' ? undefined : JSON.parse(text)) as any };
  }

  /** @throws Error when the answer is not 2xx */
  async call(method: string, path: string, body?: unknown) {
    const answer = await this.request(method, path, body);
    if (answer.status >= 300) {
      throw new Error(`${method} ${path} answered ${answer.status}: ${JSON.stringify(answer.body)}`);
    }
    return answer.body;
  }

  /** An institution, an opening for the callee's loopback address, an interface and a schedule. */
  async setUp(
    callee: string,
    given: { code?: string; interface?: Record<string, unknown>; schedule?: Record<string, unknown> } = {},
  ): Promise<{ code: string; interfaceId: string; scheduleId: string }> {
    const { code = 'MYVENUE' } = given;
    const institution = `/institutions/${code}`;
    await this.call('POST', '/institutions', { code, name: 'My venue' });
    const opening = await this.call('POST', `${institution}/proxy-openings`, {
      destination: new URL(callee).host,
    });
    await this.call('POST', `${institution}/proxy-openings/${opening.id}/open`, { allowPrivate: true });
    const created = await this.call('POST', `${institution}/interfaces`, {
      name: 'CRM',
      type: 'ORDER_WEBHOOK_V1',
      url: `${callee}/hook?id=\${orderId}`,
      method: 'GET',
      ...given.interface,
    });
    const schedule = await this.call('POST', `${institution}/interfaces/${created.id}/schedules`, {
      name: 'By hand',
      launch: 'MANUAL',
      ...given.schedule,
    });
    return { code, interfaceId: created.id, scheduleId: schedule.id };
  }
}
