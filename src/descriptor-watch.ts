/**
 * Whether the process has a file descriptor left. Without one the system still completes connections to us, Node.js closes
 * them at once to get rid of them, and nobody is told: clients see connections that end, and we see nothing. So this looks for
 * itself, now and then and when it is asked, and says so in the log and to `/readyz`.
 *
 * ```
 *   room ──none was to be had──> short: told at once, then now and then ──one was to be had──> room: told
 * ```
 */
import { closeSync, openSync } from 'node:fs';
import type { Clock } from './model/clock.ts';
import type { Log } from './observe/log.ts';

const LOOK_EVERY_MS = 1_000;
const TELL_EVERY_MS = 60_000;

export class DescriptorWatch {
  readonly #clock: Clock;
  readonly #log: Pick<Log, 'error' | 'info'>;
  readonly #probe: () => void;
  #cancel = () => {};
  #toldAt: number | undefined;

  /** `probe` takes a descriptor and gives it back; it throws what the system says when there is none. */
  constructor(given: {
    readonly clock: Clock;
    readonly log: Pick<Log, 'error' | 'info'>;
    readonly probe?: () => void;
  }) {
    this.#clock = given.clock;
    this.#log = given.log;
    this.#probe = given.probe ?? takeOne;
    this.#look();
  }

  /** What is wrong; undefined: nothing. */
  trouble(): string | undefined {
    try {
      this.#probe();
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      // Anything else is no matter of descriptors.
      if (code !== 'EMFILE' && code !== 'ENFILE') return undefined;
      this.#tell(code);
      return `No file descriptor is left (${code}): no connection can be accepted. Raise the limit (ulimit -n), or look for who holds so many connections.`;
    }
    if (this.#toldAt !== undefined) {
      this.#toldAt = undefined;
      this.#log.info({ event: 'descriptors.left' }, 'file descriptors are left again');
    }
    return undefined;
  }

  stop(): void {
    this.#cancel();
  }

  #look(): void {
    this.trouble();
    this.#cancel = this.#clock.after(LOOK_EVERY_MS, () => this.#look());
  }

  #tell(code: string): void {
    const now = this.#clock.now();
    if (this.#toldAt !== undefined && now - this.#toldAt < TELL_EVERY_MS) return;
    this.#toldAt = now;
    this.#log.error(
      { event: 'descriptors.none', code },
      'no file descriptor is left: connections to this process are closed as they come',
    );
  }
}

/** Of a file that is there wherever we run. */
function takeOne(): void {
  closeSync(openSync(process.execPath, 'r'));
}
