/**
 * No client holds a connection for longer than it is good for anything: whatever it sends or does not send, and whether or
 * not it reads its answer, the connection is gone within a bounded time, its descriptor included.
 *
 *     connected ── 30 s ──> head ──> body ── 60 s for all of it (an import: until a line ends) ──> handled, as long as that takes
 *         ^                                                                                            │
 *         └───── idle, 72 s ◀──── answer taken by the client, 120 s for all of it ◀────────────────────┘
 *
 * Node.js itself looks after heads and idle connections. It leaves the socket of a late head half open, and everything
 * behind a head to us.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** All in milliseconds. */
export type ConnectionLimits = {
  /** From the connection, or from the first byte after the last request, to the end of the head. */
  readonly headMs: number;
  /** From the end of the head to the end of the body, whether somebody reads it or not. An import has `importProgressMs`. */
  readonly bodyMs: number;
  /** For an import: while it waits, until the end of a line that is not blank. */
  readonly importProgressMs: number;
  /** Without a request on a connection that had one. */
  readonly idleMs: number;
  /** From the first byte of an answer until the client has taken all of it. */
  readonly answerMs: number;
  /** For a client to read why its request was not read. */
  readonly lingerMs: number;
};

export const CONNECTION_LIMITS: ConnectionLimits = {
  headMs: 30_000,
  bodyMs: 60_000,
  importProgressMs: 60_000,
  // Longer than the minute for which reverse proxies usually keep theirs: so they close first, and lose no request.
  idleMs: 72_000,
  answerMs: 120_000,
  lingerMs: 2_000,
};

const LOOK_EVERY_MS_MAX = 1_000;

/**
 * Bytes of a body that wait for their reader before the socket is no longer read. Node.js reads 64 KiB at a time, which may
 * be a thousand times as much work as it is bytes.
 */
export const WAITING_BYTES_MAX = 16 * 1024;
/** Chunks of a body may be as small as they like, so long as they are no more than so many; then they must have so many bytes. */
const SMALL_CHUNKS_MAX = 2_000;
const CHUNK_BYTES_MIN = 16;

/** Between two looks at all connections: no limit is overrun by much more. */
export function lookEveryMs(limits: ConnectionLimits): number {
  return Math.ceil(Math.min(LOOK_EVERY_MS_MAX, ...Object.values(limits).map((ms) => ms / 4)));
}

type Exchange = {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** When the time of the body began; undefined while an import looks after it. */
  bodySince: number | undefined;
  /** Told once when the body is late; the connection is there for a moment more. */
  onLate: (() => void) | undefined;
  /** When the answer was first seen to be under way. */
  answerSince: number | undefined;
};
type Connection = {
  /** In the order in which they came and are answered. More than one only where a client does not wait for its answers. */
  readonly exchanges: Exchange[];
  hadRequest: boolean;
  /** When it was first seen that there is nothing to do. */
  idleSince: number | undefined;
};

export class ConnectionWatch {
  readonly #limits: ConnectionLimits;
  readonly #now: () => number;
  readonly #connections = new Map<Socket, Connection>();

  /** From now on, until the server closes. */
  constructor(server: Server, limits: ConnectionLimits, now: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#now = now;
    server.on('connection', (socket) => this.#begin(socket));
    server.on('request', (request, response) => this.#beginExchange(request, response));
    const looking = setInterval(() => this.#look(), lookEveryMs(limits)).unref();
    server.on('close', () => clearInterval(looking));
  }

  /** Whoever reads the body looks after its time, until the answer has begun. */
  letBodyTake(request: IncomingMessage): void {
    const exchange = this.#exchangeOf(request);
    if (exchange) exchange.bodySince = undefined;
  }

  /** Whoever reads the body is told when its time is over: so no body needs a timer of its own. */
  tellLate(request: IncomingMessage, onLate: (() => void) | undefined): void {
    const exchange = this.#exchangeOf(request);
    if (exchange) exchange.onLate = onLate;
  }

  /** The next request is not read before this one has ended. */
  #exchangeOf(request: IncomingMessage): Exchange | undefined {
    const exchange = this.#connections.get(request.socket)?.exchanges.at(-1);
    return exchange?.request === request ? exchange : undefined;
  }

  #begin(socket: Socket): void {
    this.#connections.set(socket, { exchanges: [], hadRequest: false, idleSince: this.#now() });
    socket.once('close', () => this.#connections.delete(socket));
  }

  #beginExchange(request: IncomingMessage, response: ServerResponse): void {
    const connection = this.#connections.get(request.socket);
    if (connection === undefined) return;
    // At once: what is kept until the next request comes makes the young generation of the heap expensive to clear.
    response.once('close', () => forgetDone(connection));
    const bodySince = this.#now();
    connection.exchanges.push({
      request,
      response,
      bodySince,
      onLate: undefined,
      answerSince: undefined,
    });
    connection.hadRequest = true;
    connection.idleSince = undefined;
    if (request.headers['transfer-encoding'] !== undefined) refuseCrumbs(request);
  }

  #look(): void {
    const now = this.#now();
    for (const [socket, connection] of this.#connections) {
      if (this.#isOver(connection, now)) socket.destroy();
    }
  }

  #isOver(connection: Connection, now: number): boolean {
    const { headMs, bodyMs, idleMs, answerMs, lingerMs } = this.#limits;
    forgetDone(connection);
    for (const exchange of connection.exchanges) {
      const { request, response } = exchange;
      // Until those before it are done, it has no socket to be written to.
      if (response.headersSent && response.socket) {
        exchange.answerSince ??= now;
        exchange.bodySince ??= now;
      }
      const { bodySince, answerSince } = exchange;
      if (!request.complete && bodySince !== undefined && now - bodySince > bodyMs) {
        exchange.onLate?.();
        if (now - bodySince > bodyMs + lingerMs) return true;
      }
      if (!isAnswered(exchange) && answerSince !== undefined && now - answerSince > answerMs) return true;
    }
    if (connection.exchanges.length > 0) return false;
    connection.idleSince ??= now;
    // Node.js ends it sooner, but for a client that sends line ends between two requests for ever, or reads nothing.
    const restMs = headMs + (connection.hadRequest ? idleMs : 0) + lingerMs + lookEveryMs(this.#limits);
    return now - connection.idleSince > restMs;
  }
}

function isAnswered({ response }: Exchange): boolean {
  return response.closed || response.writableFinished;
}

function forgetDone({ exchanges }: Connection): void {
  for (let first = exchanges[0]; first && isAnswered(first) && first.request.complete; first = exchanges[0]) {
    exchanges.shift();
  }
}

/** A body of one-byte chunks costs a thousand times what its bytes do, all of it before anybody sees them. */
function refuseCrumbs(request: IncomingMessage): void {
  let [chunks, bytes] = [0, 0];
  const push = request.push;
  request.push = (chunk: Buffer | null, ...more) => {
    chunks += 1;
    bytes += chunk?.length ?? 0;
    if (chunks <= SMALL_CHUNKS_MAX || bytes >= chunks * CHUNK_BYTES_MIN) {
      return push.call(request, chunk, ...more);
    }
    request.socket.destroy();
    return false;
  };
}

/** Sends a last answer; then the socket is destroyed, when it was read or soon after. */
export function endSocket(socket: Socket, answer: string, lingerMs: number): void {
  const late = setTimeout(() => socket.destroy(), lingerMs);
  socket.once('close', () => clearTimeout(late));
  // The end of what the client sends must be read to be seen.
  socket.resume();
  socket.end(answer);
}
