/**
 * Kills a real `serve` under load again and again, and judges what its callee saw (docs/promises.md).
 *
 *     node test/crash/crash-test.ts [--kills 25] [--seed N]
 *
 * Some kills come before the process is ready again, and for every five kills there is a stop by SIGTERM, after which
 * nothing at all may be called again. The seed chooses the moments, the answers and the orders; how the threads of the
 * machine interleave is not in its hands. Ends with code 0 only when no promise was broken.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { CrashCallee } from '../support/crash-callee.ts';
import { OrderLoad } from '../support/crash-load.ts';
import { SeededRandom } from '../support/crash-random.ts';
import { api, CrashService, type Death } from '../support/crash-service.ts';
import { type JudgedInterface, judge, type Life, type Verdict } from '../support/crash-verdict.ts';

const INSTITUTION = '/institutions/VENUE';
const KILLS_DEFAULT = 25;
const KILLS_PER_STOP = 5;
const SOURCES = 12;
const SOURCE_PAUSE_MS_MAX = 40;
const FAILING_SHARE = 0.1;
const ANSWER_MS_MAX = 25;
/** A life ends this long after it was ready or, with this share, while it starts. */
const LIFE_MS = { min: 20, max: 1_200 };
const EARLY_SHARE = 0.2;
/** What the dead process had sent reaches the callee in this time, long before the next process calls anybody. */
const SETTLE_MS = 25;
const DRAIN_MS = 120_000;
const VIOLATIONS_SHOWN_MAX = 20;

const INTERFACES = [
  { name: 'get', concurrency: 8, settings: { method: 'GET', url: '/get/${orderId}' } },
  {
    name: 'post',
    concurrency: 4,
    settings: { method: 'POST', url: '/post', payload: '{"id": ${orderId}}' },
  },
  {
    name: 'sales',
    concurrency: 16,
    settings: { method: 'GET', url: '/sales/${orderId}', filter: 'OrderDetailsData.OrderType=SALE' },
  },
] as const;

type Created = { readonly id: string };
type Manual = { readonly name: string; readonly interfaceId: string; readonly scheduleId: string };

async function main(): Promise<boolean> {
  const { values } = parseArgs({ options: { kills: { type: 'string' }, seed: { type: 'string' } } });
  const kills = wholeNumber('--kills', values.kills ?? String(KILLS_DEFAULT));
  const seed = wholeNumber('--seed', values.seed ?? String(Math.floor(Math.random() * 1_000_000_000)));
  say(`Seed ${seed}; the same again: node test/crash/crash-test.ts --kills ${kills} --seed ${seed}`);
  const folder = mkdtempSync(join(tmpdir(), 'orderhook-crash-'));
  const random = new SeededRandom(seed);
  const callee = await CrashCallee.start({
    failingShare: FAILING_SHARE,
    delayMsMax: ANSWER_MS_MAX,
    random: random.fork(),
  });
  try {
    return await run({ kills, folder, random, callee });
  } finally {
    await callee.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function run(given: { kills: number; folder: string; random: SeededRandom; callee: CrashCallee }) {
  const { kills, folder, random, callee } = given;
  const startedAt = performance.now();
  const stops = Math.ceil(kills / KILLS_PER_STOP);
  const signals = random.shuffle<Death['signal']>([
    ...Array<'SIGKILL'>(kills).fill('SIGKILL'),
    ...Array<'SIGTERM'>(stops).fill('SIGTERM'),
  ]);
  let service = new CrashService(folder);
  const load = new OrderLoad({
    path: `/api/v1${INSTITUTION}/orders`,
    sources: SOURCES,
    pauseMsMax: SOURCE_PAUSE_MS_MAX,
    random: random.fork(),
  });
  const lives: Life[] = [];
  const readyMs: number[] = [];
  let errors = '';
  async function end(signal: Death['signal']): Promise<Death> {
    const death = await service.end(signal);
    load.moveTo(undefined);
    lives.push({ spawnedAt: service.spawnedAt, death });
    if (service.readyAt !== undefined) readyMs.push(service.readyAt - service.spawnedAt);
    errors += service.errors;
    return death;
  }
  try {
    const manual = await setUp(await service.ready, callee.host);
    for (const signal of signals) {
      const early = signal === 'SIGKILL' && random.isTrue(EARLY_SHARE) && readyMs.length > 0;
      const moment = early ? random.next() * (readyMs.at(-1) ?? 0) : random.integer(LIFE_MS.min, LIFE_MS.max);
      const using = service.ready.then((address) => load.moveTo(address));
      if (early) using.catch(() => {});
      else await using;
      await wait(moment);
      await end(signal);
      await wait(SETTLE_MS);
      service = new CrashService(folder);
    }
    const address = await service.ready;
    load.moveTo(address);
    await load.end();
    callee.failingShare = 0;
    const drainedFrom = performance.now();
    const queues = await drain(address, manual);
    const last = await end('SIGTERM');
    const verdict = judge({
      calls: callee.calls,
      lives,
      interfaces: INTERFACES.map(({ name, concurrency }) => judged(name, concurrency, load)),
      drainedFrom,
    });
    const violations = [
      ...verdict.violations,
      ...queues,
      ...lives.filter(isBadStop).map(({ death }) => `a stop by SIGTERM ended with code ${death.exitCode}`),
      ...checkDatabase(join(folder, 'orderhook.db')),
    ];
    tell({ verdict, violations, lives, readyMs, load, callee, errors, tookMs: last.endedAt - startedAt });
    return violations.length === 0;
  } finally {
    load.giveUp();
    if (!service.hasEnded) await service.end('SIGKILL');
  }
}

/** The institution, its interfaces each with a continuous schedule, and one to be run by hand at the end. */
async function setUp(address: string, host: string): Promise<Manual[]> {
  await api(address, 'POST', '/institutions', { code: 'VENUE', name: 'Venue' });
  const opening = await api<Created>(address, 'POST', `${INSTITUTION}/proxy-openings`, { destination: host });
  await api(address, 'POST', `${INSTITUTION}/proxy-openings/${opening.id}/open`, { allowPrivate: true });
  const manual: Manual[] = [];
  for (const { name, concurrency, settings } of INTERFACES) {
    const { id } = await api<Created>(address, 'POST', `${INSTITUTION}/interfaces`, {
      name,
      type: 'ORDER_WEBHOOK_V1',
      ...settings,
      url: `http://${host}${settings.url}`,
      concurrency,
    });
    const schedules = `${INSTITUTION}/interfaces/${id}/schedules`;
    await api(address, 'POST', schedules, {
      name: 'As they close',
      launch: 'AUTOMATIC',
      frequencyMinutes: 0,
    });
    const byHand = { name: 'By hand', launch: 'MANUAL', batchSize: 10_000 };
    const schedule = await api<Created>(address, 'POST', schedules, byHand);
    manual.push({ name, interfaceId: id, scheduleId: schedule.id });
  }
  return manual;
}

/** Runs by hand until nothing waits and nothing is owed; a run by hand takes what is owed without regard to when it is due. */
async function drain(address: string, manual: readonly Manual[]): Promise<string[]> {
  const deadline = performance.now() + DRAIN_MS;
  const violations: string[] = [];
  for (const { name, interfaceId, scheduleId } of manual) {
    const path = `${INSTITUTION}/interfaces/${interfaceId}/queue`;
    for (;;) {
      const queue = await api<{ waiting: number; owed: number; abandoned: number }>(address, 'GET', path);
      if (queue.abandoned > 0) violations.push(`${name}: ${queue.abandoned} deliveries were abandoned`);
      if (queue.waiting + queue.owed === 0) break;
      if (performance.now() > deadline) {
        violations.push(`${name}: the queue did not get empty: ${JSON.stringify(queue)}`);
        break;
      }
      await api(address, 'POST', `${INSTITUTION}/schedules/${scheduleId}/run?wait=true`);
    }
  }
  return violations;
}

function judged(name: string, concurrency: number, load: OrderLoad): JudgedInterface {
  const isWanted = (orderType: string) => name !== 'sales' || orderType === 'SALE';
  const ids = (wanted: boolean) =>
    new Set(
      load.acknowledged
        .filter(({ orderType }) => isWanted(orderType) === wanted)
        .map(({ orderId }) => orderId),
    );
  return { name, concurrency, wanted: ids(true), unwanted: ids(false) };
}

function isBadStop({ death }: Life): boolean {
  return death.signal === 'SIGTERM' && death.exitCode !== 0;
}

function checkDatabase(file: string): string[] {
  const db = new DatabaseSync(file);
  try {
    const found = db.prepare('PRAGMA integrity_check').all();
    const isOk = found.length === 1 && found[0]?.integrity_check === 'ok';
    say(`Integrity check of the database: ${isOk ? 'ok' : JSON.stringify(found)}`);
    return isOk ? [] : [`PRAGMA integrity_check: ${JSON.stringify(found)}`];
  } finally {
    db.close();
  }
}

function tell(given: {
  verdict: Verdict;
  violations: readonly string[];
  lives: readonly Life[];
  readyMs: readonly number[];
  load: OrderLoad;
  callee: CrashCallee;
  errors: string;
  tookMs: number;
}): void {
  const { verdict, violations, lives, readyMs, load, callee, errors, tookMs } = given;
  const kills = lives.filter(({ death }) => death.signal === 'SIGKILL');
  const sum = (of: 'repeatedAfterAnswer' | 'repeatedWhileRunning') =>
    verdict.repeats.reduce((total, count) => total + count[of], 0);
  const hits = verdict.repeats.filter((one) => one.repeatedAfterAnswer + one.repeatedWhileRunning > 0);
  const [closest] = hits.toSorted(
    (one, other) => one.bound - one.repeatedAfterAnswer - (other.bound - other.repeatedAfterAnswer),
  );
  const late = verdict.repeats.filter((one) => one.repeatedAfterAnswer > one.killBound);
  say(
    `Kills ${kills.length}, of them ${kills.length - (readyMs.length - (lives.length - kills.length))} before ready; ` +
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
  say(
    `Repeated calls: ${sum('repeatedAfterAnswer')} that had been answered before a kill, ${sum('repeatedWhileRunning')} ` +
      `that were running; after ${hits.length} of ${verdict.repeats.length} kills of an interface's work`,
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
  for (const [refusal, count] of load.refusals) say(`Orders refused ${count} times: ${refusal}`);
  if (errors !== '') say(`Logged errors:\n${errors.slice(0, 4_000)}`);
  say(`Took ${(tookMs / 1_000).toFixed(1)} s`);
  for (const violation of violations.slice(0, VIOLATIONS_SHOWN_MAX)) say(`VIOLATION ${violation}`);
  say(violations.length === 0 ? 'All promises were kept.' : `${violations.length} violations.`);
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
