/**
 * A partner's server in small: takes calls, finds the order id in them, and can read each order back as the contract
 * says (section 4.3). `listen` shows it to integrators, `demo` plays the partner with it.
 */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';

export type ReceivedCall = {
  readonly method: string;
  /** Path and query. */
  readonly target: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** The first number in the target or, without one, in the body. */
  readonly orderId: string | undefined;
};

export type Callee = {
  readonly address: string;
  close(): Promise<void>;
};

export type CalleeOptions = {
  readonly host: string;
  readonly port: number;
  /** Answered after `delayMs`. */
  readonly status: number;
  readonly delayMs: number;
  readonly onCall: (call: ReceivedCall) => void;
};

const BODY_CHARACTERS_MAX = 1024 * 1024;

export async function startCallee({ host, port, status, delayMs, onCall }: CalleeOptions): Promise<Callee> {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) {
      if (body.length < BODY_CHARACTERS_MAX) body += chunk;
    }
    const { method = '', url: target = '', headers } = request;
    onCall({ method, target, headers, body, orderId: findOrderId(target) ?? findOrderId(body) });
    setTimeout(() => response.writeHead(status).end(), delayMs);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const bound = server.address() as AddressInfo;
  return {
    address: `http://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function findOrderId(text: string): string | undefined {
  return /(?<![\w.])\d{1,19}(?![\w.])/.exec(text)?.[0] ?? /\d{1,19}/.exec(text)?.[0];
}

export type PartnerIdentity = {
  readonly partner: string;
  readonly operator: string;
  readonly secret: string;
};

/** Good for 30 seconds; asked for again a little earlier. */
const TOKEN_USED_MS = 20_000;

type Token = { readonly text: Promise<string>; readonly endsAt: number };

/**
 * Reads orders back: the auth call for a token, then getOrderDetails. A token is used until it ends or is refused; one that
 * could not be had is asked for again by the next read.
 */
export class OrderReader {
  readonly #service: string;
  readonly #identity: PartnerIdentity;
  #token: Token | undefined;

  constructor(service: string, identity: PartnerIdentity) {
    this.#service = service.replace(/\/+$/, '');
    this.#identity = identity;
  }

  /** The text of the answer: order ids may be larger than a JavaScript number holds. */
  async read(orderId: string, granularity?: string): Promise<string> {
    const body = `{"orderId": ${orderId}${granularity === undefined ? '' : `, "granularity": "${granularity}"`}}`;
    const ask = async (token: Token) =>
      this.#post('/tnseb/backend-apis/externalOrderService/v1_33/getOrderDetails', body, {
        authorization: `Bearer ${await token.text}`,
      });
    const token = this.#currentToken();
    try {
      return await ask(token);
    } catch (error) {
      if (!(error instanceof RefusedTokenError)) throw error;
      // The partner's secret was changed, or the service was started anew: another token may be good. Once.
      this.#forget(token);
      return ask(this.#currentToken());
    }
  }

  #currentToken(): Token {
    if (this.#token === undefined || Date.now() > this.#token.endsAt) {
      const text = this.#post('/tnai/backend-apis/v1/auth', JSON.stringify(this.#identity), {}).then(
        (answer) => (JSON.parse(answer) as { token: string }).token,
      );
      const token = { text, endsAt: Date.now() + TOKEN_USED_MS };
      text.catch(() => this.#forget(token));
      this.#token = token;
    }
    return this.#token;
  }

  /** Unless another one has taken its place. */
  #forget(token: Token): void {
    if (this.#token === token) this.#token = undefined;
  }

  async #post(path: string, body: string, headers: Record<string, string>): Promise<string> {
    const url = `${this.#service}${path}`;
    const response = await fetch(url, {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', ...headers },
    });
    const text = await response.text();
    if (response.ok) return text;
    const message = `${path} answered ${response.status}: ${text}`;
    throw response.status === 401 && headers.authorization !== undefined
      ? new RefusedTokenError(message)
      : new Error(message);
  }
}

class RefusedTokenError extends Error {}
