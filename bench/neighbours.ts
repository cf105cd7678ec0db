/**
 * What do a bad callee, a bad name, or a bad client cost everybody else?
 *
 *     node bench/neighbours.ts [--quick] [--only ROW …]
 *
 * | row | the neighbour |
 * |---|---|
 * | `silent` | a callee that takes 64 calls and never answers |
 * | `names` | 50 names of one institution that never resolve (needs root and Linux) |
 * | `floods` | a callee that sends interim heads, long chunk extensions, or chunks of one byte without end, eight calls at once |
 * | `compressed` | a callee that answers 64 calls at once with the worst body of each encoding |
 * | `slow` | one order in 200 is answered as late as an answer may come, in the same interface |
 * | `import` | an import of which every line is wrong |
 *
 * In the first four, 49 interfaces with a fast callee drain the same orders in rounds without and beside the neighbour, which
 * take turns; figures are medians. The others are times, with and without it.
 */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import type { BadBehaviour, Encoding } from './support/bad-callee.ts';
import { Closings, durations, TimedCallee } from './support/closings.ts';
import { quantile, Report } from './support/figures.ts';
import { forgetPeak, memory } from './support/memory.ts';
import { Neighbourhood } from './support/neighbourhood.ts';
import { chosenRows, size } from './support/options.ts';
import { ORDER_BYTES } from './support/orders.ts';
import { OTHERS_BATCH_SIZE, OTHERS_CONCURRENCY } from './support/others.ts';
import { runWithOwnNames, whyNoOwnNames } from './support/own-names.ts';
import { endAfter } from './support/owned.ts';
import { AUTHORIZATION, CONCURRENCY, InstitutionClient, Service } from './support/service.ts';
import { DEAD_NAMES, type SilentNames } from './support/silent-names.ts';

const ROWS = ['silent', 'names', 'floods', 'compressed', 'slow', 'import'] as const;
type Row = (typeof ROWS)[number];

const OTHERS = 49;
const ORDERS = size(2_000, 400);
const ROUNDS = size(5, 2);
const ROUND_MS = size(60_000, 10_000);
const SETTINGS = { orders: ORDERS, rounds: ROUNDS, roundMs: ROUND_MS };
const RATE_TARGET = { min: 0.9 };
const NONE_FAILED = { max: 0 };

/** More than a round calls of it. */
const NEIGHBOUR_ORDERS = size(30_000, 10_000);
const FLOODS = new Map<BadBehaviour, string>([
  ['heads', 'interim heads without end'],
  ['mostlyHeads', 'the same for three calls of four'],
  ['extensions', 'chunks of one byte with extensions of 16 KB'],
  ['chunks', 'chunks of one byte'],
]);
const FLOOD_CONCURRENCY = 8;

const ENCODINGS: readonly Encoding[] = ['gzip', 'deflate', 'br', 'zstd'];
const COMPRESSED_RATE_TARGET = { min: 0.8 };
const MEMORY_TARGET = { max: 250 };

const SLOW_PER_SECOND = 50;
const SLOW_EACH = 200;
/** The limit for the first byte of an answer is 15 s; later than this it would be a failed call. */
const SLOW_ANSWER_MS = 14_800;
/** Until as many slow calls run at once as will in the long run. */
const SLOW_WARM_UP_SECONDS = 16;
const SLOW_SECONDS = size(60, 14);
const SLOW_LAST_CALL_MS = 20_000;
const SLOW_TARGET = { max: 100 };

const IMPORT_PER_SECOND = 50;
const IMPORT_SECONDS = size(20, 6);
const IMPORT_LAST_ANSWER_MS = 60_000;
const IMPORT_TARGET = { max: 100 };
const IMPORT_BYTES = 800_000;
/** Each is a whole import again and again; the last one is a single line. */
const BAD_LINES = ['x\n', '\n', '{}\n', '{"orderId":1}\n', '['.repeat(IMPORT_BYTES)];

endAfter(25);
const rows = chosenRows(ROWS);
const report = new Report('neighbours', {
  rows: rows.join(', '),
  'everybody else': `${OTHERS} interfaces with concurrency ${OTHERS_CONCURRENCY}; continuous, batch ${OTHERS_BATCH_SIZE}, with a filter`,
  orders: `${ORDERS} of ${ORDER_BYTES} bytes a round, for each interface`,
  store: 'SQLite (synchronous=FULL)',
  rounds: ROUNDS,
});
const run: Record<Row, () => Promise<void>> = {
  silent: silentCallee,
  names: silentNames,
  floods,
  compressed,
  slow: slowAnswers,
  import: badImport,
};
for (const row of rows) await run[row]();
report.save();

async function silentCallee(): Promise<void> {
  await using neighbourhood = await Neighbourhood.open(OTHERS, SETTINGS);
  const neighbour = await neighbourhood.neighbour('silent', CONCURRENCY);
  const rates = await neighbourhood.measure(neighbour);
  addRates(`${OTHERS} interfaces beside a silent callee`, rates, RATE_TARGET.min);
}

async function silentNames(): Promise<void> {
  const missing = whyNoOwnNames();
  if (missing !== undefined) {
    report.leaveOut('NAMES THAT NEVER RESOLVE (row names)', missing);
    return;
  }
  const program = join(import.meta.dirname, 'support/silent-names.ts');
  const args = size([], ['--quick']);
  const { namesAsked, ...rates } = await runWithOwnNames<SilentNames>(program, args);
  const name = `${OTHERS} interfaces beside ${DEAD_NAMES} names that never resolve`;
  addRates(`${name} (${namesAsked} looked up)`, rates, RATE_TARGET.min);
}

async function floods(): Promise<void> {
  await using neighbourhood = await Neighbourhood.open(OTHERS, SETTINGS);
  for (const [behaviour, what] of FLOODS) {
    const neighbour = await neighbourhood.neighbourOfItsOwn(behaviour, FLOOD_CONCURRENCY, NEIGHBOUR_ORDERS);
    const rates = await neighbourhood.measure(neighbour);
    addRates(`${OTHERS} beside ${what} (${neighbour.calls} calls)`, rates, RATE_TARGET.min);
  }
}

async function compressed(): Promise<void> {
  await using neighbourhood = await Neighbourhood.open(OTHERS, SETTINGS);
  const { pid } = neighbourhood.service;
  /** Of the first round of all: memory that a neighbour took may stay with the process. */
  let alone: number | undefined;
  for (const encoding of ENCODINGS) {
    const neighbour = await neighbourhood.neighbourOfItsOwn(encoding, CONCURRENCY, NEIGHBOUR_ORDERS);
    let peak = 0;
    const rates = await neighbourhood.measure(neighbour, {
      beforeRound: () => forgetPeak(pid),
      afterRound(isBeside) {
        alone ??= memory(pid).peak;
        if (isBeside) peak = Math.max(peak, memory(pid).peak);
      },
    });
    const name = `${OTHERS} beside ${CONCURRENCY} bodies in ${encoding} (${neighbour.calls} calls)`;
    addRates(name, rates, COMPRESSED_RATE_TARGET.min);
    report.add({
      name: `  resident memory meanwhile, peak (${encoding})`,
      value: peak,
      unit: 'MB',
      target: MEMORY_TARGET,
      against: [{ name: 'before any of them', value: alone ?? Number.NaN }],
    });
  }
}

async function slowAnswers(): Promise<void> {
  for (const isSlow of [false, true]) {
    const count = (SLOW_WARM_UP_SECONDS + SLOW_SECONDS) * SLOW_PER_SECOND;
    const isLate = (number: number) => isSlow && number % SLOW_EACH === SLOW_EACH - 1;
    const callee = await TimedCallee.start(count, {
      answerAfterMs: (number) => (isLate(number) ? SLOW_ANSWER_MS : 0),
    });
    await using service = await Service.start();
    await service.setUp(callee.host);
    await service.addInterface({
      calleeUrl: callee.url,
      batchSize: OTHERS_BATCH_SIZE,
      concurrency: OTHERS_CONCURRENCY,
      active: true,
    });
    const closings = new Closings(service, count);
    await closings.send(SLOW_PER_SECOND);
    await closings.untilAnswered(SLOW_LAST_CALL_MS);
    await callee.untilCalled(SLOW_LAST_CALL_MS);
    const took = durations(closings.answeredAt, callee.calledAt, SLOW_WARM_UP_SECONDS * SLOW_PER_SECOND);
    const uncalled = count - callee.calls;
    await closings.end();
    callee.stop();
    const beside = isSlow
      ? `one answer in ${SLOW_EACH} after ${SLOW_ANSWER_MS / 1000} s`
      : 'all answered at once';
    addTimes(`from closing to call, ${beside}`, took, isSlow ? SLOW_TARGET : undefined);
    if (uncalled > 0) console.log(`  ${uncalled} of ${count} were not called yet, and count as until then`);
  }
}

async function badImport(): Promise<void> {
  await using service = await Service.start();
  await service.setUp();
  const neighbour = new InstitutionClient(service.address, 'NEIGHBOUR');
  await neighbour.setUp();
  const count = IMPORT_SECONDS * IMPORT_PER_SECOND;
  let first = 0;
  async function close(): Promise<Float64Array> {
    const closings = new Closings(service, count, first);
    first += count;
    await closings.send(IMPORT_PER_SECOND);
    await closings.untilAnswered(IMPORT_LAST_ANSWER_MS);
    const took = durations(closings.sentAt, closings.answeredAt);
    await closings.end();
    return took;
  }
  addTimes('one closing, without an import', await close(), undefined);
  for (const line of BAD_LINES) {
    const ended = new AbortController();
    const importing = importAgainAndAgain(neighbour, line, ended.signal);
    const took = await close();
    ended.abort();
    const imports = await importing;
    const shown = line.length > 20 ? `${line.slice(0, 3)}…` : JSON.stringify(line);
    addTimes(`one closing beside imports of ${shown} (${imports})`, took, IMPORT_TARGET);
  }
}

/** One import after the other until the signal, and to the end of the last one; how many there were. */
async function importAgainAndAgain(
  client: InstitutionClient,
  line: string,
  signal: AbortSignal,
): Promise<number> {
  const body = line.repeat(Math.ceil(IMPORT_BYTES / line.length));
  const headers = { authorization: AUTHORIZATION, 'content-type': 'application/x-ndjson' };
  let imports = 0;
  while (!signal.aborted) {
    const sending = request(`${client.address}${client.path}/orders/import`, { method: 'POST', headers });
    sending.end(body);
    const [response] = (await once(sending, 'response')) as [IncomingMessage];
    if (response.statusCode !== 200) throw new Error(`An import was answered by ${response.statusCode}`);
    for await (const _ of response);
    imports += 1;
  }
  return imports;
}

function addRates(
  name: string,
  rates: { without: number; beside: number; failedAttempts: number },
  min: number,
): void {
  const { without, beside, failedAttempts } = rates;
  const against = [{ name: 'without', value: without, target: { min } }];
  report.add({ name, value: beside, unit: 'calls/s', against });
  report.add({
    name: '  attempts of others that failed',
    value: failedAttempts,
    unit: 'attempts',
    target: NONE_FAILED,
  });
}

function addTimes(name: string, took: Float64Array, p99Target: { max: number } | undefined): void {
  report.add({ name: `${name}, p50`, value: quantile(took, 0.5), unit: 'ms' });
  report.add({
    name: `${name}, p99`,
    value: quantile(took, 0.99),
    unit: 'ms',
    ...(p99Target && { target: p99Target }),
  });
}
