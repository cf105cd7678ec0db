/** A server that speaks as much of PostgreSQL's protocol as it takes to refuse a client. */
import { createServer, type Socket } from 'node:net';

export type RefusingPostgres = {
  readonly url: string;
  readonly connections: number;
  close(): Promise<void>;
};

/** `code`: an SQLSTATE. Without one it closes the connection without a word. */
export async function startRefusingPostgres(
  code: string | undefined,
  message = '',
): Promise<RefusingPostgres> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    socket.once('data', () => {
      if (code === undefined) return socket.destroy();
      socket.end(errorResponse(code, message));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `postgres://ann:hunter2@127.0.0.1:${port}/shop`,
    get connections() {
      return connections;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function errorResponse(code: string, message: string): Buffer {
  const fields = `SFATAL\0VFATAL\0C${code}\0M${message}\0\0`;
  const head = Buffer.alloc(5);
  head.write('E');
  head.writeInt32BE(4 + Buffer.byteLength(fields), 1);
  return Buffer.concat([head, Buffer.from(fields)]);
}
