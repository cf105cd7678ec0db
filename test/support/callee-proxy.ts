/** Egress proxies for tests: a small one that does as it is told, and Debian's squid where it is installed. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request as forward } from 'node:http';
import { connect, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './callee-calls.ts';

export type EgressProxy = {
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  readonly port: number;
  /** Request lines, as they came. */
  readonly requests: readonly string[];
  readonly connections: ReadonlySet<Socket>;
  close(): Promise<void>;
};

/** `refuse` answers instead of the proxy doing its work; it gets the raw connection. */
export async function startProxy(
  refuse?: (socket: Socket, requestLine: string) => boolean,
): Promise<EgressProxy> {
  const requests: string[] = [];
  const connections = new Set<Socket>();
  const server = createServer((request, response) => {
    const line = `${request.method} ${request.url}`;
    requests.push(line);
    if (refuse?.(request.socket, line)) return;
    const onwards = forward(request.url as string, {
      method: request.method as string,
      headers: request.headers,
      agent: false,
    });
    onwards.on('response', (answer) => {
      response.writeHead(answer.statusCode as number, { ...answer.headers, Via: '1.1 test-proxy' });
      answer.pipe(response);
    });
    onwards.on('error', () => response.writeHead(502).end());
    request.pipe(onwards);
  });
  server.on('connect', (request, socket: Socket) => {
    const line = `CONNECT ${request.url}`;
    requests.push(line);
    if (refuse?.(socket, line)) return;
    const { hostname, port } = new URL(`http://${request.url}`);
    const onwards = connect(Number(port || 80), hostname.replace(/[[\]]/g, ''), () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      socket.pipe(onwards).pipe(socket);
    });
    socket.on('error', () => onwards.destroy()).on('close', () => onwards.destroy());
    onwards.on('error', () => socket.destroy()).on('close', () => socket.destroy());
  });
  server.on('connection', (socket) => {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    requests,
    connections,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of connections) socket.destroy();
      }),
  };
}

/** A port that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createTcpServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Where squid is, or undefined. */
export function findSquid(): string | undefined {
  try {
    return execFileSync('sh', ['-c', 'PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v squid'], {
      encoding: 'utf8',
    }).trim();
  } catch {
    return undefined;
  }
}

export type Squid = { readonly url: string; readonly log: () => string; close(): Promise<void> };

/**
 * A private squid, with its own folder and port, that refuses calls to `refusedPort` and lets all others through: of anybody,
 * or of `user` with `password` alone.
 */
export async function startSquid(
  program: string,
  refusedPort: number,
  only?: { readonly user: string; readonly password: string },
): Promise<Squid> {
  const folder = mkdtempSync(join(tmpdir(), 'orderhook-squid-'));
  // As root squid becomes another user, who must be able to write here.
  chmodSync(folder, 0o777);
  const port = await freePort();
  let [login, allowed] = ['', 'all'];
  if (only) {
    // Squid asks it on a line, percent-encoded as it likes, and reads OK or ERR.
    const helper = join(folder, 'login.sh');
    const decode = 'decoded=$(printf %b "${line//%/\\\\x}")';
    const compare = `[ "$decoded" = '${only.user} ${only.password}' ] && echo OK || echo ERR`;
    writeFileSync(helper, `while read -r line; do ${decode}; ${compare}; done\n`);
    login = `auth_param basic program /bin/bash ${helper}\nauth_param basic children 2\nacl known proxy_auth REQUIRED`;
    allowed = 'known';
  }
  const configuration = `
${login}
http_port 127.0.0.1:${port}
visible_hostname squid.test
pid_filename ${folder}/squid.pid
cache_log ${folder}/cache.log
access_log stdio:${folder}/access.log
coredump_dir ${folder}
cache deny all
pinger_enable off
shutdown_lifetime 0 seconds
acl refused port ${refusedPort}
http_access deny refused
http_access allow ${allowed}
`;
  const file = join(folder, 'squid.conf');
  writeFileSync(file, configuration);
  const squid: ChildProcess = spawn(program, ['-N', '-f', file], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => squid.once('exit', () => resolve()));
  let isUp = false;
  const knock = () => {
    const socket = connect(port, '127.0.0.1', () => {
      isUp = true;
      socket.destroy();
    });
    socket.on('error', () => {
      if (squid.exitCode === null) setTimeout(knock, 50);
    });
  };
  knock();
  await until(() => isUp, 'squid listens', 15_000);
  return {
    url: `http://127.0.0.1:${port}`,
    log: () => readFileSync(join(folder, 'access.log'), 'utf8'),
    async close() {
      squid.kill('SIGTERM');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
