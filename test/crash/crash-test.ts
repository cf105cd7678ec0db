/**
 * Kills real processes under load again and again, and judges what their callee saw (docs/promises.md).
 *
 *     node test/crash/crash-test.ts [--kills 25] [--seed N]                          one `serve` on SQLite
 *     node test/crash/crash-test.ts --postgres [--nodes 3] [--kills 25] [--seed N]   nodes on one PostgreSQL database
 *
 * Some kills come before the process is ready again, and for every five kills there is a stop by SIGTERM, after which
 * nothing at all may be called again. The seed chooses the moments, the answers and the orders; how the threads of the
 * machine interleave is not in its hands. Ends with code 0 only when no promise was broken.
 */
import { parseArgs } from 'node:util';
import { SeededRandom } from '../support/crash-random.ts';
import type { Life } from '../support/crash-verdict.ts';
import type { CrashRun } from './crash-run.ts';
import { crashNodes } from './many-nodes.ts';
import { crashOneProcess } from './one-process.ts';

const KILLS_DEFAULT = 25;
const NODES_DEFAULT = 3;
const VIOLATIONS_SHOWN_MAX = 20;

async function main(): Promise<boolean> {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string' },
      seed: { type: 'string' },
      postgres: { type: 'boolean', default: false },
      nodes: { type: 'string' },
    },
  });
  const kills = wholeNumber('--kills', values.kills ?? String(KILLS_DEFAULT));
  const seed = wholeNumber('--seed', values.seed ?? String(Math.floor(Math.random() * 1_000_000_000)));
  if (values.nodes !== undefined && !values.postgres) throw new Error('--nodes goes with --postgres.');
  const nodes = wholeNumber('--nodes', values.nodes ?? String(NODES_DEFAULT));
  const kind = values.postgres ? `--postgres --nodes ${nodes} ` : '';
  say(`Seed ${seed}; the same again: node test/crash/crash-test.ts ${kind}--kills ${kills} --seed ${seed}`);
  const random = new SeededRandom(seed);
  const startedAt = performance.now();
  const run = values.postgres ? await crashNodes(kills, nodes, random) : await crashOneProcess(kills, random);
  return tell(run, performance.now() - startedAt);
}

function isBadStop({ death }: Life): boolean {
  return death.signal === 'SIGTERM' && death.exitCode !== 0;
}

/** @returns whether no promise was broken */
function tell(
  { verdict, lives, early, readyMs, load, callee, errors, notes }: CrashRun,
  tookMs: number,
): boolean {
  const violations = [
    ...verdict.violations,
    ...lives.filter(isBadStop).map(({ death }) => `a stop by SIGTERM ended with code ${death.exitCode}`),
  ];
  const kills = lives.filter(({ death }) => death.signal === 'SIGKILL');
  const sum = (of: 'repeatedAfterAnswer' | 'repeatedWhileRunning') =>
    verdict.repeats.reduce((total, count) => total + count[of], 0);
  const hits = verdict.repeats.filter((one) => one.repeatedAfterAnswer + one.repeatedWhileRunning > 0);
  const [closest] = hits.toSorted(
    (one, other) => one.bound - one.repeatedAfterAnswer - (other.bound - other.repeatedAfterAnswer),
  );
  const late = verdict.repeats.filter((one) => one.repeatedAfterAnswer > one.killBound);
  say(
    `Kills ${kills.length}, of them ${early} before ready; ` +
      `stops by SIGTERM ${lives.length - kills.length}; ready again after ${Math.round(median(readyMs))} ms (median), ` +
      `${Math.round(Math.max(...readyMs))} ms at most`,
  );
  say(
    `Closings acknowledged ${load.acknowledged.length}; calls ${callee.calls.length}, of them answered 500 ` +
      `${callee.calls.filter(({ status }) => status === 500).length}`,
  );
  say(
    `Deliveries wanted ${verdict.delivered + verdict.lost}, delivered ${verdict.delivered}, lost ${verdict.lost}`,
  );
  const atWork = verdict.repeats.filter(({ answeredLast }) => answeredLast > 0);
  say(
    `Kills of an interface's work: ${verdict.repeats.length}, of them ${atWork.length} within 50 ms of an answer to it`,
  );
  say(
    `Repeated calls: ${sum('repeatedAfterAnswer')} that had been answered before a kill, ${sum('repeatedWhileRunning')} ` +
      `that were running; after ${hits.length} of these kills`,
  );
  if (closest) {
    say(
      `Closest to the bound: ${closest.repeatedAfterAnswer} of ${closest.bound} (${closest.interfaceName})`,
    );
  }
  say(
    `Beyond 50 ms before the kill, within 50 ms before the process stood still: ${late.length} times` +
      late.map((one) => `, ${one.repeatedAfterAnswer} of ${one.killBound}`).join(''),
  );
  for (const note of notes) say(note);
  for (const [refusal, count] of load.refusals) say(`Orders refused ${count} times: ${refusal}`);
  if (errors !== '') say(`Logged errors:\n${errors.slice(0, 4_000)}`);
  say(`Took ${(tookMs / 1_000).toFixed(1)} s`);
  for (const violation of violations.slice(0, VIOLATIONS_SHOWN_MAX)) say(`VIOLATION ${violation}`);
  say(violations.length === 0 ? 'All promises were kept.' : `${violations.length} violations.`);
  return violations.length === 0;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((one, other) => one - other)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

function wholeNumber(name: string, text: string): number {
  if (/^\d{1,9}$/.test(text) && Number(text) > 0) return Number(text);
  throw new Error(`${name} must be a whole number from 1 to 999999999.`);
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

process.exitCode = (await main()) ? 0 : 1;
