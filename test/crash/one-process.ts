/** One `serve` on SQLite, killed again and again. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as wait } from 'node:timers/promises';
import { CrashCallee } from '../support/crash-callee.ts';
import { OrderLoad } from '../support/crash-load.ts';
import type { SeededRandom } from '../support/crash-random.ts';
import { crashInterfaces, drain, judged, ORDERS_PATH, setUpVenue } from '../support/crash-venue.ts';
import { judge, type Life } from '../support/crash-verdict.ts';
import { type Death, NodeProcess } from '../support/node-process.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { type CrashRun, crashSignals } from './crash-run.ts';

const SOURCES = 12;
const SOURCE_PAUSE_MS_MAX = 40;
const FAILING_SHARE = 0.1;
const ANSWER_MS_MAX = 25;
const CUTTING_SHARE = 0.02;
/** A life ends this long after it was ready or, with this share, while it starts. */
const LIFE_MS = { min: 20, max: 1_200 };
const EARLY_SHARE = 0.2;
/** What the dead process had sent reaches the callee in this time, long before the next process calls anybody. */
const SETTLE_MS = 25;

export async function crashOneProcess(kills: number, random: SeededRandom): Promise<CrashRun> {
  const folder = temporaryFolder();
  const callee = await CrashCallee.start({
    failingShare: FAILING_SHARE,
    delayMsMax: ANSWER_MS_MAX,
    cuttingShare: CUTTING_SHARE,
    random: random.fork(),
  });
  try {
    return await run({ kills, folder: folder.path, random, callee });
  } finally {
    await callee.stop();
    folder.remove();
  }
}

async function run(given: {
  kills: number;
  folder: string;
  random: SeededRandom;
  callee: CrashCallee;
}): Promise<CrashRun> {
  const { kills, folder, random, callee } = given;
  const signals = crashSignals(kills, random);
  const interfaces = crashInterfaces();
  let service = new NodeProcess(folder);
  const load = new OrderLoad({
    path: ORDERS_PATH,
    sources: SOURCES,
    pauseMsMax: SOURCE_PAUSE_MS_MAX,
    random: random.fork(),
  });
  const lives: Life[] = [];
  const readyMs: number[] = [];
  let [early, errors] = [0, ''];
  async function end(signal: Death['signal']): Promise<void> {
    const death = await service.end(signal);
    load.moveTo();
    lives.push({ spawnedAt: service.spawnedAt, death });
    if (service.readyAt !== undefined) readyMs.push(service.readyAt - service.spawnedAt);
    else early += 1;
    errors += service.errors;
  }
  try {
    const manual = await setUpVenue(await service.ready, callee.host, interfaces);
    for (const signal of signals) {
      const isEarly = signal === 'SIGKILL' && random.isTrue(EARLY_SHARE) && readyMs.length > 0;
      const moment = isEarly
        ? random.next() * (readyMs.at(-1) ?? 0)
        : random.integer(LIFE_MS.min, LIFE_MS.max);
      const using = service.ready.then((address) => load.moveTo(address));
      if (isEarly) using.catch(() => {});
      else await using;
      await wait(moment);
      await end(signal);
      await wait(SETTLE_MS);
      service = new NodeProcess(folder);
    }
    const address = await service.ready;
    load.moveTo(address);
    await load.end();
    callee.failingShare = 0;
    callee.cuttingShare = 0;
    const drainedFrom = performance.now();
    const queues = await drain(address, manual);
    await end('SIGTERM');
    const verdict = judge({
      calls: callee.calls,
      lives,
      interfaces: interfaces.map((one) => judged(one, load)),
      drainedFrom,
    });
    const found = integrityOf(join(folder, 'orderhook.db'));
    const damage = found === 'ok' ? [] : [`PRAGMA integrity_check: ${found}`];
    const violations = [...verdict.violations, ...queues, ...damage];
    const notes = [`Integrity check of the database: ${found}`];
    return { verdict: { ...verdict, violations }, lives, early, readyMs, load, callee, errors, notes };
  } finally {
    load.giveUp();
    if (!service.hasEnded) await service.end('SIGKILL');
  }
}

function integrityOf(file: string): string {
  const db = new DatabaseSync(file);
  try {
    const found = db.prepare('PRAGMA integrity_check').all();
    return found.length === 1 ? String(found[0]?.integrity_check) : JSON.stringify(found);
  } finally {
    db.close();
  }
}
