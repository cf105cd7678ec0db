/** A callee that answers byte for byte what a test says: misbehaviour that no HTTP server would let through. */
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { Worker } from 'node:worker_threads';
import type { Certificate } from './tls-authority.ts';

export type Script = (socket: Socket, request: ReceivedRequest) => void;

export type ReceivedRequest = {
  /** Head and body, as they came. */
  readonly text: string;
  /** 0 for the first connection that was accepted. */
  readonly connection: number;
  /** 0 for the first request on this connection. */
  readonly onConnection: number;
};

export type ScriptedCallee = {
  readonly port: number;
  /** `http://127.0.0.1:port`, or what its options make of it. */
  readonly origin: string;
  /** Every request so far. */
  readonly requests: readonly ReceivedRequest[];
  /** Connections that are open. */
  readonly connections: ReadonlySet<Socket>;
  /** How many connections were ever accepted. */
  readonly accepted: number;
  close(): Promise<void>;
};

export type CalleeOptions = {
  /** The address to listen on. */
  readonly host?: string;
  readonly tls?: Certificate;
  readonly port?: number;
  /** Runs as a connection is accepted, before any request. */
  readonly onAccept?: (socket: Socket) => void;
};

export async function startCallee(script: Script, options: CalleeOptions = {}): Promise<ScriptedCallee> {
  const { host = '127.0.0.1', tls, onAccept } = options;
  const requests: ReceivedRequest[] = [];
  const connections = new Set<Socket>();
  let accepted = 0;

  const accept = (socket: Socket) => {
    const connection = accepted++;
    let onConnection = 0;
    let received = '';
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    // What the caller does to the connection is what the test is about.
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      for (let end = requestEnd(received); end !== -1; end = requestEnd(received)) {
        const request = { text: received.slice(0, end), connection, onConnection: onConnection++ };
        received = received.slice(end);
        requests.push(request);
        script(socket, request);
      }
    });
    onAccept?.(socket);
  };
  const server: Server =
    tls === undefined
      ? createServer({ noDelay: true }, accept)
      : createTlsServer({ cert: tls.certificate, key: tls.key }, accept);
  server.on('tlsClientError', () => {});
  // Connections that never get as far as TLS are connections too.
  const raw = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    raw.add(socket);
    socket.on('close', () => raw.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(options.port ?? 0, host, resolve);
  });
  const { port } = server.address() as { port: number };
  return {
    port,
    origin: `${tls === undefined ? 'http' : 'https'}://${host.includes(':') ? `[${host}]` : host}:${port}`,
    requests,
    connections: raw,
    get accepted() {
      return accepted;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of raw) socket.destroy();
      }),
  };
}

/** Where the first whole request ends; -1 when none is whole. */
function requestEnd(received: string): number {
  const headEnd = received.indexOf('\r\n\r\n');
  if (headEnd === -1) return -1;
  const length = Number(/^content-length: *(\d+)/im.exec(received.slice(0, headEnd))?.[1] ?? 0);
  const end = headEnd + 4 + length;
  return received.length >= end ? end : -1;
}

/** A whole answer with its length. */
export function answer(status: string, body: string | Buffer = '', ...headers: string[]): Buffer {
  const bytes = Buffer.from(body);
  const head = [`HTTP/1.1 ${status}`, ...headers, `Content-Length: ${bytes.length}`, '', ''].join('\r\n');
  return Buffer.concat([Buffer.from(head), bytes]);
}

/**
 * A callee that listens and never accepts: the system answers for it until its queue is full, then lets newcomers wait.
 * Its event loop stands still, which is why it needs a thread of its own.
 */
export async function startUnacceptingCallee(): Promise<{ origin: string; close(): Promise<void> }> {
  const halt = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     const server = require('node:net').createServer();
     server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
       parentPort.postMessage(server.address().port);
       setImmediate(() => Atomics.wait(workerData, 0, 0));
     });`,
    { eval: true, workerData: halt },
  );
  const port = await new Promise<number>((resolve) => worker.once('message', resolve));
  const { connect } = await import('node:net');
  const plugs: Socket[] = [];
  // As many as the queue takes: the one that is not connected soon found it full.
  for (let isFull = false; !isFull; ) {
    const plug = connect(port, '127.0.0.1').on('error', () => {});
    plugs.push(plug);
    isFull = await new Promise<boolean>((resolve) => {
      const limit = setTimeout(() => resolve(true), 150);
      plug.once('connect', () => {
        clearTimeout(limit);
        resolve(false);
      });
    });
  }
  return {
    origin: `http://127.0.0.1:${port}`,
    async close() {
      for (const plug of plugs) plug.destroy();
      Atomics.store(halt, 0, 1);
      Atomics.notify(halt, 0);
      await worker.terminate();
    },
  };
}
