/**
 * Does an order cost more when more waits, or when the call log is long?
 *
 *     node bench/growth.ts [--quick]
 *
 * Three services: one with 10,000 closings waiting, one with 1,000,000, and one with 10,000 and a call log of 10,000,000
 * rows, which is copied from real rows while the service is stopped. Each round drains 10,000 in each of them, with an
 * interface of its own; time per order is taken from the middle of those calls. Figures are medians.
 *
 * Then the service with the long log removes what is older than its retention, while orders are closed one by one: how long
 * one waits shows how long a lock is held.
 */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as wait } from 'node:timers/promises';
import { Callee } from './support/callee.ts';
import { median, quantile, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { FIRST_ORDER_ID, ORDER_BYTES, orderDetails } from './support/orders.ts';
import { endAfter, Folder } from './support/owned.ts';
import { CONCURRENCY, INSTITUTION, type InterfaceId, Service } from './support/service.ts';

const FEW = 10_000;
const MANY = size(1_000_000, 100_000);
const LOG_ROWS = size(10_000_000, 1_000_000);
const ROUNDS = size(11, 5);
const STEP_MS = 120_000;
/** Of the calls of a round, those from here to there are timed: neither the start nor the end of a queue. */
const [TIMED_FROM, TIMED_TO] = [0.1 * FEW, 0.9 * FEW];
const TARGET = { max: 1.2 };
const BATCH_SIZE = 500;
const DAY_MS = 86_400_000;
/** The rows of the long log are this old: kept while rounds run, removed by the setting's default. */
const OLD_DAYS = 400;
const KEPT_DAYS = 3_650;
const SHOULD_REMOVE = size(true, false);
const REMOVAL_STARTS_MS = 90_000;
const REMOVAL_WATCHED_MS = 20_000;
const CLOSE_EVERY_MS = 10;

type Subject = { readonly service: Service; readonly ids: readonly InterfaceId[]; readonly costs: number[] };

/** Orders closed one by one; far from the numbers of the others. */
let closed = 10 * MANY;

endAfter(18);
await using resources = new AsyncDisposableStack();
const callee = resources.use(await Callee.start());
const report = new Report('growth', {
  callee: callee.description,
  orders: `${FEW} or ${MANY} of ${ORDER_BYTES} bytes, call log of ${LOG_ROWS} rows`,
  interface: `continuous, batch ${BATCH_SIZE}, concurrency ${CONCURRENCY}, with a filter`,
  store: 'SQLite (synchronous=FULL)',
  rounds: ROUNDS,
});

const few = await startSubject(FEW);
const many = await startSubject(MANY);
const logFolder = resources.use(new Folder());
const logged = await startLogged(logFolder.path);
for (let round = 0; round <= ROUNDS; round++) {
  for (const subject of [few, many, logged]) {
    const cost = await costOfRound(subject, round);
    // The first round warms up.
    if (round > 0) subject.costs.push(cost);
  }
}
const ofFew = { name: `with ${FEW} waiting and an empty log`, value: median(few.costs), target: TARGET };
report.add({ name: ofFew.name, value: ofFew.value, unit: 'µs/order' });
report.add({ name: `with ${MANY} waiting`, value: median(many.costs), unit: 'µs/order', against: [ofFew] });
report.add({
  name: `with ${LOG_ROWS} rows in the call log`,
  value: median(logged.costs),
  unit: 'µs/order',
  against: [ofFew],
});

await logged.service.stop();
if (SHOULD_REMOVE) await watchRemoval(logFolder.path);
else report.leaveOut('closings while retention removes rows', 'it starts a minute after the service');
report.save();

async function startSubject(waiting: number): Promise<Subject> {
  const service = resources.use(await Service.start());
  const ids = await addInterfaces(service);
  await service.import(0, waiting);
  return { service, ids, costs: [] };
}

async function addInterfaces(service: Service): Promise<InterfaceId[]> {
  await service.setUp(callee.host);
  const ids: InterfaceId[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    ids.push(await service.addInterface({ calleeUrl: callee.url, batchSize: BATCH_SIZE }));
  }
  return ids;
}

/** Every interface of it has its share of the long log, and again `FEW` closings waiting. */
async function startLogged(folder: string): Promise<Subject> {
  const settings = { ORDERHOOK_RETENTION_DAYS: String(KEPT_DAYS) };
  let ids: InterfaceId[];
  {
    await using service = await Service.start({ folder, settings });
    ids = await addInterfaces(service);
    await service.import(0, FEW);
    for (const id of ids) {
      await callee.forget();
      await service.setActive(id, true);
      await callee.untilAnswered(FEW, STEP_MS);
      await service.untilDrained(id, STEP_MS);
      await service.setActive(id, false);
    }
  }
  lengthenLog(folder);
  const service = resources.use(await Service.start({ folder, settings }));
  await service.import(FEW, FEW);
  return { service, ids, costs: [] };
}

/**
 * Copies the rows of the call log until it is as long as asked for, each copy of the orders of other customers, and makes
 * all of them old. Names only the columns that differ, so that the others may be what they like.
 */
function lengthenLog(folder: string): void {
  const db = new DatabaseSync(join(folder, 'orderhook.db'));
  // The file is ours alone, and made again if this fails.
  db.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -500000;');
  const indexes = db
    .prepare(
      "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'attempts' AND sql <> ''",
    )
    .all() as { name: string; sql: string }[];
  for (const { name } of indexes) db.exec(`DROP INDEX ${name}`);
  const columns = (db.prepare('PRAGMA table_info(attempts)').all() as { name: string }[]).map(
    ({ name }) => name,
  );
  const rows = FEW * (ROUNDS + 1);
  const copies = Math.ceil(LOG_ROWS / rows) - 1;
  const shifted: Record<string, string> = {
    attempt_id: `a.attempt_id + copy.number * ${FEW}`,
    order_id: `a.order_id - copy.number * ${FEW}`,
  };
  db.exec(`
    UPDATE attempts SET started_at = started_at - ${OLD_DAYS * DAY_MS};
    WITH RECURSIVE copy (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM copy WHERE number < ${copies})
    INSERT INTO attempts (${columns.join(', ')})
      SELECT ${columns.map((name) => shifted[name] ?? `a.${name}`).join(', ')}
      FROM (SELECT DISTINCT interface_id FROM attempts) i CROSS JOIN copy CROSS JOIN attempts a
      WHERE a.interface_id = i.interface_id AND a.attempt_id <= ${FEW};
    UPDATE queues SET last_attempt_id =
      (SELECT coalesce(max(attempt_id), 0) FROM attempts a WHERE a.interface_id = queues.interface_id);`);
  for (const { sql } of indexes) db.exec(sql);
  db.exec('PRAGMA journal_mode = WAL');
  db.close();
}

/** Microseconds per order. */
async function costOfRound({ service, ids }: Subject, round: number): Promise<number> {
  const id = ids[round] as InterfaceId;
  const first = service === logged.service ? FEW : 0;
  await callee.forget();
  await service.setActive(id, true);
  await callee.untilAnswered(FEW, STEP_MS);
  await service.setActive(id, false);
  // Paused, it finishes what it had begun; calls start in order, so what was called is one span of the orders.
  await callee.untilQuiet();
  callee.checkEachOnce(first, callee.answered);
  const times = callee.times().sort();
  const span = (times[TIMED_TO - 1] as number) - (times[TIMED_FROM - 1] as number);
  return (span * 1000) / (TIMED_TO - TIMED_FROM);
}

async function watchRemoval(folder: string): Promise<void> {
  await using service = await Service.start({ folder });
  using db = new DatabaseSync(join(folder, 'orderhook.db'), { readOnly: true });
  const oldest = db.prepare('SELECT min(attempt_id) AS id FROM attempts WHERE interface_id = ?');
  /** Of the first interface, whose rows go first; its log has no gaps. */
  const removed = () => Number(oldest.get(Number(logged.ids[0]))?.id ?? 0) - 1;

  const before = await closeFor(service, REMOVAL_WATCHED_MS / 2);
  const deadline = performance.now() + REMOVAL_STARTS_MS;
  while (removed() === 0) {
    if (performance.now() > deadline) {
      report.leaveOut('closings while retention removes rows', 'it did not begin in time');
      return;
    }
    await wait(100);
  }
  const from = removed();
  const during = await closeFor(service, REMOVAL_WATCHED_MS);
  const rows = removed() - from;
  const figures = [
    { name: 'p50', share: 0.5 },
    { name: 'p99', share: 0.99 },
    { name: 'the longest', share: 1 },
  ];
  for (const { name, share } of figures) {
    report.add({
      name: `one closing while ${rows} rows are removed, ${name}`,
      value: quantile(during, share),
      unit: 'ms',
      against: [{ name: 'before', value: quantile(before, share) }],
    });
  }
}

/** Closes an order every now and then; how long each took, in milliseconds. */
async function closeFor(service: Service, ms: number): Promise<number[]> {
  const took: number[] = [];
  const end = performance.now() + ms;
  while (performance.now() < end) {
    closed += 1;
    const order = orderDetails(closed);
    const startedAt = performance.now();
    await service.call('PUT', `${INSTITUTION}/orders/${FIRST_ORDER_ID + closed}`, order);
    took.push(performance.now() - startedAt);
    await wait(CLOSE_EVERY_MS);
  }
  return took;
}
