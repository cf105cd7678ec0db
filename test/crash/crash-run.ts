/** What every kind of crash run is given and gives. */
import type { CrashCallee } from '../support/crash-callee.ts';
import type { OrderLoad } from '../support/crash-load.ts';
import type { SeededRandom } from '../support/crash-random.ts';
import type { Life, Verdict } from '../support/crash-verdict.ts';
import type { Death } from '../support/node-process.ts';

export type CrashRun = {
  readonly verdict: Verdict;
  readonly lives: readonly Life[];
  /** Kills before the process was ready. */
  readonly early: number;
  readonly readyMs: readonly number[];
  readonly load: OrderLoad;
  readonly callee: CrashCallee;
  /** What processes wrote to standard error. */
  readonly errors: string;
  readonly notes: readonly string[];
};

const KILLS_PER_STOP = 5;

/** So many kills, and a stop for every five of them, in random order. */
export function crashSignals(kills: number, random: SeededRandom): Death['signal'][] {
  return random.shuffle<Death['signal']>([
    ...Array<'SIGKILL'>(kills).fill('SIGKILL'),
    ...Array<'SIGTERM'>(Math.ceil(kills / KILLS_PER_STOP)).fill('SIGTERM'),
  ]);
}
