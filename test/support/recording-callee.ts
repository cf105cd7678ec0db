import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Recorded = {
  readonly method: string;
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
};

/** A callee that keeps what it was sent, in order of arrival, and answers as the test says. */
export class RecordingCallee {
  readonly calls: Recorded[] = [];
  status: (call: Recorded, number: number) => number = () => 200;
  /** What an answer waits for. */
  hold: (call: Recorded, number: number) => Promise<unknown> | undefined = () => undefined;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request.setEncoding('utf8')) body += chunk;
      const { method = '', url: target = '', headers } = request;
      const number = this.calls.push({ method, target, headers, body }) - 1;
      await this.hold(this.calls[number] as Recorded, number);
      response.writeHead(this.status(this.calls[number] as Recorded, number)).end();
    });
    // A keep-alive connection that ends by itself would be a fault that these tests are not about.
    this.#server.keepAliveTimeout = 60_000;
  }

  static async start(): Promise<RecordingCallee> {
    const callee = new RecordingCallee();
    callee.#server.listen(0, '127.0.0.1');
    await once(callee.#server, 'listening');
    return callee;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The last number in each target or, without one, in the body. */
  get orderIds(): string[] {
    return this.calls.map(({ target, body }) => (/\d+(?=\D*$)/.exec(target) ?? /\d+/.exec(body))?.[0] ?? '');
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}
