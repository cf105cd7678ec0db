/**
 * The connections of a server, so that a stop can tell those that are owed an answer from those that only keep it waiting:
 * a connection on which no request, or half a head, has come would hold up `close` until its own limit.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** For the rest of a head that is on its way when the server closes. */
const HEAD_MS = 1_000;

export class ClosingConnections {
  /** Requests under way on each. */
  readonly #running = new Map<Socket, number>();
  #isClosing = false;

  constructor(server: Server) {
    server.on('connection', (socket: Socket) => {
      this.#running.set(socket, 0);
      socket.once('close', () => this.#running.delete(socket));
    });
    server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
      this.#running.set(socket, (this.#running.get(socket) ?? 0) + 1);
      response.once('close', () => this.#ended(socket));
    });
  }

  /**
   * From now on a connection ends with the answer that it is owed. What is owed none ends soon; what is owed one `withinMs`
   * later at the latest.
   * @returns what takes the limits back, when the server has closed by itself
   */
  closing(withinMs: number): () => void {
    this.#isClosing = true;
    const timers = [
      setTimeout(() => this.#destroy((running) => running === 0), Math.min(HEAD_MS, withinMs)),
      setTimeout(() => this.#destroy(() => true), withinMs),
    ];
    return () => timers.forEach(clearTimeout);
  }

  #ended(socket: Socket): void {
    const running = this.#running.get(socket);
    // It is gone when the socket has closed before.
    if (running === undefined) return;
    this.#running.set(socket, running - 1);
    if (this.#isClosing && running === 1) socket.end();
  }

  #destroy(isMeant: (running: number) => boolean): void {
    for (const [socket, running] of this.#running) if (isMeant(running)) socket.destroy();
  }
}
