/** Debian's nginx in front of a service, run by a test with a configuration, a folder and a port of its own. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './postgres-server.ts';
import { until } from './until.ts';

/** Where nginx is, or undefined. */
export function findNginx(): string | undefined {
  try {
    return execFileSync('sh', ['-c', 'PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nginx'], {
      encoding: 'utf8',
    }).trim();
  } catch {
    return undefined;
  }
}

export type Nginx = { readonly address: string; readonly errors: () => string; close(): Promise<void> };

/**
 * `site`: what stands in docs/scaling.md, with `listen PORT` and servers as they are there; ports are put in here. Everything
 * else is as nginx has it by default.
 */
export async function startNginx(program: string, site: (port: number) => string): Promise<Nginx> {
  const folder = mkdtempSync(join(tmpdir(), 'orderhook-nginx-'));
  // As root nginx gives its workers to another user, who must be able to write here.
  chmodSync(folder, 0o777);
  mkdirSync(join(folder, 'tmp'));
  chmodSync(join(folder, 'tmp'), 0o777);
  const port = await freePort();
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${folder}/tmp/${kind};`)
    .join('\n');
  const file = join(folder, 'nginx.conf');
  writeFileSync(
    file,
    `daemon off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log info;
worker_processes 1;
events { worker_connections 512; }
http {
access_log off;
${temporary}
${site(port)}
}
`,
  );
  const nginx: ChildProcess = spawn(program, ['-p', folder, '-c', file, '-e', join(folder, 'error.log')], {
    stdio: 'ignore',
  });
  const kill = () => nginx.kill('SIGKILL');
  process.once('exit', kill);
  const ended = new Promise<void>((resolve) => nginx.once('exit', () => resolve()));
  const errors = () => readFileSync(join(folder, 'error.log'), 'utf8');
  await until('nginx listens', () => {
    if (nginx.exitCode !== null) throw new Error(`nginx ended: ${errors()}`);
    return new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.destroy();
        resolve(true);
      }).on('error', () => resolve(false));
    });
  });
  return {
    address: `http://127.0.0.1:${port}`,
    errors,
    async close() {
      nginx.kill('SIGQUIT');
      nginx.kill('SIGTERM');
      await ended;
      process.off('exit', kill);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
