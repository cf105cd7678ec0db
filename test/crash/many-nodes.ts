/**
 * Several nodes on one PostgreSQL database, killed one at a time or two at once, again and again; the others go on, and
 * take over what the dead ones held.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { SeededRandom } from '../support/crash-random.ts';
import { NodesUnderLoad, SETTLE_MS } from '../support/nodes-under-load.ts';
import { PostgresServer } from '../support/postgres-server.ts';
import { type CrashRun, crashSignals } from './crash-run.ts';

/** Of the three kinds of interfaces two each, so that there is something to spread. */
const COPIES = 2;
const SOURCES = 12;
/** Fewer orders than for one process, or an interface of little concurrency whose nodes die all the time falls behind. */
const SOURCE_PAUSE_MS_MAX = 160;
/** Between one death and the next. A dead node's interfaces lie still until its lease is over, so a while longer than for one process. */
const PAUSE_MS = { min: 100, max: 4_000 };
const TWO_AT_ONCE_SHARE = 0.15;

export async function crashNodes(kills: number, count: number, random: SeededRandom): Promise<CrashRun> {
  const server = await PostgresServer.start();
  try {
    const url = await server.database();
    const nodes = await NodesUnderLoad.start({
      url,
      // The last one is a worker.
      commands: Array.from({ length: count }, (_, node) =>
        node > 0 && node === count - 1 ? 'worker' : 'serve',
      ),
      seed: random.integer(0, 0xffff_ffff),
      copies: COPIES,
      sources: SOURCES,
      sourcePauseMsMax: SOURCE_PAUSE_MS_MAX,
    });
    try {
      return await run(nodes, kills, random);
    } finally {
      await nodes.remove();
    }
  } finally {
    await server.remove();
  }
}

async function run(nodes: NodesUnderLoad, kills: number, random: SeededRandom): Promise<CrashRun> {
  let early = 0;
  async function end(node: number, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    // A process that has just begun knows no good end.
    if (signal === 'SIGTERM') await nodes.process(node).ready;
    if (nodes.process(node).readyAt === undefined) early += 1;
    await nodes.end(node, signal);
    await wait(SETTLE_MS);
    nodes.spawn(node);
  }
  for (const signals = crashSignals(kills, random); signals.length > 0; ) {
    await wait(random.integer(PAUSE_MS.min, PAUSE_MS.max));
    const victims = random.shuffle(Array.from({ length: nodes.count }, (_, node) => node));
    const atOnce = nodes.count > 1 && random.isTrue(TWO_AT_ONCE_SHARE) ? 2 : 1;
    await Promise.all(
      signals.splice(0, atOnce).map((signal, index) => end(victims[index] as number, signal)),
    );
  }
  for (let node = 0; node < nodes.count; node += 1) await nodes.process(node).ready;
  const verdict = await nodes.finish();
  const { lives, readyMs, load, callee, errors } = nodes;
  return { verdict, lives, early, readyMs, load, callee, errors, notes: [] };
}
