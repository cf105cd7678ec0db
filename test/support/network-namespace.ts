/**
 * A network of its own for one node: two cables to this machine, one to the database and one to the callee, of which the
 * first can be cut without a word to either end. Linux, as root.
 *
 *     here  10.203.7.1 ──cable──── 10.203.7.2  there      to the database
 *           10.203.7.5 ──cable──── 10.203.7.6             to the callee
 */
import { execFileSync, spawnSync } from 'node:child_process';

export class NetworkNamespace {
  readonly databaseHost = '10.203.7.1';
  readonly calleeHost = '10.203.7.5';
  readonly #name = `orderhook-test-${process.pid}`;
  readonly #database = `ohd${process.pid}`;
  readonly #callee = `ohc${process.pid}`;

  /** Why there can be none here; undefined: there can. */
  static missing(): string | undefined {
    if (process.platform !== 'linux') return 'network namespaces are of Linux';
    if (process.getuid?.() !== 0) return 'network namespaces need root';
    const { error, status, stderr } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' });
    if (error) return 'the program `ip` is not installed (apt-get install iproute2)';
    return status === 0 ? undefined : `\`ip netns list\` failed: ${stderr}`;
  }

  create(): void {
    process.once('exit', this.remove);
    ip('netns', 'add', this.#name);
    // A worker listens there.
    ip('-n', this.#name, 'link', 'set', 'lo', 'up');
    this.#lay(this.#database, this.databaseHost, '10.203.7.2');
    this.#lay(this.#callee, this.calleeHost, '10.203.7.6');
  }

  /** In front of a command. */
  get through(): string[] {
    return ['ip', 'netns', 'exec', this.#name];
  }

  /** Nothing comes through to the database or back, and nobody is told. */
  cut(): void {
    ip('link', 'set', this.#database, 'down');
  }

  heal(): void {
    ip('link', 'set', this.#database, 'up');
  }

  /** The cables go with it. */
  readonly remove = (): void => {
    process.off('exit', this.remove);
    spawnSync('ip', ['netns', 'delete', this.#name]);
    for (const cable of [this.#database, this.#callee]) spawnSync('ip', ['link', 'delete', cable]);
  };

  #lay(cable: string, here: string, there: string): void {
    const end = `${cable}n`;
    ip('link', 'add', cable, 'type', 'veth', 'peer', 'name', end, 'netns', this.#name);
    ip('address', 'add', `${here}/30`, 'dev', cable);
    ip('link', 'set', cable, 'up');
    ip('-n', this.#name, 'address', 'add', `${there}/30`, 'dev', end);
    ip('-n', this.#name, 'link', 'set', end, 'up');
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
