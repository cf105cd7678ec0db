/**
 * A callee that fails some calls and keeps, of each, when it came and when it was answered.
 *
 * A call does not say which node made it. So where there are several, each calls through an egress proxy of its own, which
 * is this callee again on another port: it answers there itself.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { SeededRandom } from './crash-random.ts';
import type { CalleeCall } from './crash-verdict.ts';

export type CrashCalleeOptions = {
  readonly failingShare: number;
  readonly delayMsMax: number;
  /** Of the calls: the connection is closed instead of an answer. */
  readonly cuttingShare?: number;
  readonly random: SeededRandom;
  /** Whose calls are told apart; 0: there is one, which calls directly. */
  readonly nodes?: number;
  /** The address it listens on. */
  readonly host?: string;
};

export class CrashCallee {
  readonly calls: CalleeCall[] = [];
  /** Of the calls that are answered 500. */
  failingShare: number;
  readonly #delayMsMax: number;
  /** Of the calls that get no answer but the end of their connection. */
  cuttingShare: number;
  /** Those on which a call was answered. */
  readonly #used = new WeakSet<Socket>();
  readonly #random: SeededRandom;
  readonly #host: string;
  readonly #server: Server;
  /** One for each node. */
  readonly #proxies: readonly Server[];

  private constructor(given: CrashCalleeOptions) {
    this.failingShare = given.failingShare;
    this.#delayMsMax = given.delayMsMax;
    this.cuttingShare = given.cuttingShare ?? 0;
    this.#random = given.random;
    this.#host = given.host ?? '127.0.0.1';
    this.#server = this.#createServer(0);
    this.#proxies = Array.from({ length: given.nodes ?? 0 }, (_, node) => this.#createServer(node));
  }

  static async start(given: CrashCalleeOptions): Promise<CrashCallee> {
    const callee = new CrashCallee(given);
    for (const server of [callee.#server, ...callee.#proxies]) {
      server.listen(0, callee.#host);
      await once(server, 'listening');
    }
    return callee;
  }

  get host(): string {
    return this.#addressOf(this.#server);
  }

  /** `ORDERHOOK_EGRESS_PROXY` of a node. */
  proxyOf(node: number): string {
    return `http://${this.#addressOf(this.#proxies[node] as Server)}`;
  }

  async stop(): Promise<void> {
    for (const server of [this.#server, ...this.#proxies]) {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    }
  }

  #addressOf(server: Server): string {
    return `${this.#host}:${(server.address() as AddressInfo).port}`;
  }

  #createServer(node: number): Server {
    const server = createServer((request, response) => {
      const receivedAt = performance.now();
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      // A body that was cut by a kill is not a call: nobody could know its order.
      request.on('end', () => {
        const { socket } = request;
        const isCut = this.cuttingShare > 0 && this.#random.isTrue(this.cuttingShare);
        const wasCutOff = isCut && this.#used.has(socket);
        const status = isCut || this.#random.isTrue(this.failingShare) ? 500 : 200;
        const { interfaceName, orderId } = parse(request.url ?? '', body);
        const call: CalleeCall = {
          node,
          interfaceName,
          orderId,
          status,
          receivedAt,
          answeredAt: undefined,
          wasCutOff,
        };
        this.calls.push(call);
        setTimeout(
          () => {
            // Before the answer leaves: as a callee sees it, from here on the order is delivered, or failed.
            if (!wasCutOff) call.answeredAt = performance.now();
            if (isCut) {
              socket.destroy();
              return;
            }
            this.#used.add(socket);
            response.writeHead(status).end();
          },
          this.#random.integer(0, this.#delayMsMax),
        );
      });
    });
    // A keep-alive connection that ends by itself would be a fault that this is not about.
    server.keepAliveTimeout = 60_000;
    return server;
  }
}

/** `/NAME/ID`, or `/NAME` with `{"id": ID}`; after the origin when it comes through a proxy. */
function parse(url: string, body: string): { interfaceName: string; orderId: string } {
  const [, interfaceName = '', inUrl] = url.replace(/^http:\/\/[^/]+/, '').split('/');
  return { interfaceName, orderId: inUrl ?? /\d+/.exec(body)?.[0] ?? '' };
}
