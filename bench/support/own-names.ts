/**
 * Runs a program of ours where the names are ours: in a network of its own, which has loopback and nothing else, with an
 * `/etc/resolv.conf` of its own that names the program's own DNS server. Linux, as root.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { atExit, Folder } from './owned.ts';

/** Names are looked up in the hosts file and by DNS, not by asking a daemon of the machine through a socket. */
const FILES = { 'resolv.conf': 'nameserver 127.0.0.1\n', 'nsswitch.conf': 'hosts: files dns\n' };
const NAME_DAEMON = '/var/run/nscd/socket';

/** Why there can be none here; undefined: there can. */
export function whyNoOwnNames(): string | undefined {
  if (process.platform !== 'linux') return 'namespaces are of Linux';
  if (process.getuid?.() !== 0) return 'namespaces need root';
  const { error, status, stderr } = unshared('ip link set lo up');
  if (error) return 'the program `unshare` is not installed (apt-get install util-linux)';
  return status === 0 ? undefined : `a network namespace was refused: ${stderr.trim()}`;
}

/** What the program sends, once, by `process.send`. @throws Error when it ends without */
export async function runWithOwnNames<Sent>(program: string, args: readonly string[]): Promise<Sent> {
  using folder = new Folder();
  const mounts = Object.entries(FILES).map(([name, content]) => {
    const path = join(folder.path, name);
    writeFileSync(path, content);
    return `mount --bind ${path} /etc/${name}`;
  });
  const script = [
    'set -e',
    'ip link set lo up',
    ...mounts,
    `if [ -e ${NAME_DAEMON} ]; then mount --bind /dev/null ${NAME_DAEMON}; fi`,
    'exec "$@"',
  ].join('\n');
  const child = spawn('unshare', [...UNSHARE, script, 'sh', process.execPath, program, ...args], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  // By a signal that it can clean up after.
  const forget = atExit(() => child.kill('SIGTERM'));
  let sent: Sent | undefined;
  child.once('message', (message) => {
    sent = message as Sent;
  });
  const [code] = await once(child, 'exit');
  forget();
  if (sent === undefined) throw new Error(`${program} ended with code ${code} and sent nothing`);
  return sent;
}

const UNSHARE = ['--net', '--mount', 'sh', '-c'];

function unshared(script: string) {
  return spawnSync('unshare', [...UNSHARE, script], { encoding: 'utf8' });
}
