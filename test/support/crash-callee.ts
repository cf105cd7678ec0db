/** A callee that fails some calls and keeps, of each, when it came and when it was answered. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SeededRandom } from './crash-random.ts';
import type { CalleeCall } from './crash-verdict.ts';

export class CrashCallee {
  readonly calls: CalleeCall[] = [];
  /** Of the calls that are answered 500. */
  failingShare: number;
  readonly #delayMsMax: number;
  readonly #random: SeededRandom;
  readonly #server: Server;

  private constructor(given: { failingShare: number; delayMsMax: number; random: SeededRandom }) {
    this.failingShare = given.failingShare;
    this.#delayMsMax = given.delayMsMax;
    this.#random = given.random;
    this.#server = createServer((request, response) => {
      const receivedAt = performance.now();
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      // A body that was cut by a kill is not a call: nobody could know its order.
      request.on('end', () => {
        const status = this.#random.isTrue(this.failingShare) ? 500 : 200;
        const { interfaceName, orderId } = parse(request.url ?? '', body);
        const call: CalleeCall = { interfaceName, orderId, status, receivedAt, answeredAt: undefined };
        this.calls.push(call);
        setTimeout(
          () => {
            // Before the answer leaves: as a callee sees it, from here on the order is delivered.
            call.answeredAt = performance.now();
            response.writeHead(status).end();
          },
          this.#random.integer(0, this.#delayMsMax),
        );
      });
    });
    // A keep-alive connection that ends by itself would be a fault that this is not about.
    this.#server.keepAliveTimeout = 60_000;
  }

  static async start(given: {
    failingShare: number;
    delayMsMax: number;
    random: SeededRandom;
  }): Promise<CrashCallee> {
    const callee = new CrashCallee(given);
    callee.#server.listen(0, '127.0.0.1');
    await once(callee.#server, 'listening');
    return callee;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

/** `/NAME/ID`, or `/NAME` with `{"id": ID}`. */
function parse(url: string, body: string): { interfaceName: string; orderId: string } {
  const [, interfaceName = '', inUrl] = url.split('/');
  return { interfaceName, orderId: inUrl ?? /\d+/.exec(body)?.[0] ?? '' };
}
