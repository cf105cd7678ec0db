/**
 * Runs a test program in a network and a mount namespace of its own: it has a loopback interface that is its alone, with
 * port 53 free, and its own `/etc/hosts` and `/etc/resolv.conf`, which it may change. Linux, as root.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { temporaryFolder } from './temporary-folder.ts';

/** `$0`: the folder with both files; then the command. */
const ENTER = `ip link set lo up && mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"`;
/** Its own processes too, so that none of them outlives it. */
const UNSHARE = '--mount --net --propagation private --pid --fork --kill-child --mount-proc sh -c'.split(' ');

/** Why there can be none here; undefined: there can. */
export function ownNetworkMissing(): string | undefined {
  if (process.platform !== 'linux') return 'network and mount namespaces are of Linux';
  if (process.getuid?.() !== 0) return 'network and mount namespaces need root';
  const { error, status, stderr } = spawnSync('unshare', [...UNSHARE, 'ip link set lo up'], {
    encoding: 'utf8',
  });
  if (error) return 'the program `unshare` is not installed (apt-get install util-linux)';
  return status === 0
    ? undefined
    : `there was no namespace, or no \`ip\` in it (apt-get install iproute2): ${stderr}`;
}

/** Runs a file of tests to its end; `report` is what it printed. */
export async function runInOwnNetwork(
  file: string,
  given: { readonly hosts: string; readonly resolver: string; readonly signal: AbortSignal },
): Promise<{ readonly code: number | null; readonly report: string }> {
  const folder = temporaryFolder();
  try {
    writeFileSync(join(folder.path, 'hosts'), given.hosts);
    writeFileSync(join(folder.path, 'resolv.conf'), given.resolver);
    // It reports to whoever reads its output, not to the runner of the test that started it.
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const command = [process.execPath, '--test-reporter=spec', file];
    const child = spawn('unshare', [...UNSHARE, ENTER, folder.path, ...command], {
      env,
      signal: given.signal,
      // While it waits for the command it minds no other.
      killSignal: 'SIGKILL',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [report, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    return { code: code as number | null, report };
  } finally {
    folder.remove();
  }
}
