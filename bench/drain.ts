/**
 * How fast is a queue drained, beside a bare loop of calls that stores nothing, and beside peers that make the same calls?
 *
 *     node bench/drain.ts [--quick]
 *
 * Continuous schedule, a filter read on every order of 2 KB, batches of 500 and of 60, the outcome of every call committed.
 * The orders are imported once, while one paused interface per round looks on; each round then sets one of them to work. So
 * every round drains the same queue, and what is timed goes from the first call to the last commit. Peers are loaded before
 * each round, which is not timed; they find the order in the job and ask the same question of it. All take turns; the first
 * round warms up; figures are medians.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { Callee } from './support/callee.ts';
import { median, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { FILTER, ORDER_BYTES } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { Postgres } from './support/postgres.ts';
import { Redis } from './support/redis.ts';
import { Sender } from './support/sender.ts';
import { CONCURRENCY, Service } from './support/service.ts';

const ORDERS = size(60_000, 15_000);
const ROUNDS = size(6, 2);
const PEER_ORDERS = size(20_000, 10_000);
const PEER_ROUNDS = size(3, 1);
const STEP_MS = 120_000;
const SETTLE_MS = size(1_000, 200);
const BARE = 'bare loop';
const PEERS = ['bullmq', 'pg-boss', 'graphile-worker'] as const;
/** Least ratios; 0: only told. */
const TARGETS: Record<string, Record<string, number>> = {
  'SQLite, batch 500': { [BARE]: 0.7, bullmq: 3, 'pg-boss': 2.5, 'graphile-worker': 2.5 },
  'SQLite, batch 60': { [BARE]: 0.65 },
  'PostgreSQL, batch 500': { [BARE]: 0, 'SQLite, batch 500': 0.7, 'pg-boss': 2, 'graphile-worker': 2 },
  'PostgreSQL, batch 60': { [BARE]: 0, 'SQLite, batch 60': 0.7 },
};

type Contestant = {
  readonly name: string;
  readonly rounds: number;
  /** Calls a second. */
  drain(round: number): Promise<number>;
  readonly rates: number[];
};

endAfter(15);
await using resources = new AsyncDisposableStack();
const callee = resources.use(await Callee.start());
const bare = resources.use(await Sender.start('bare', { calleeUrl: callee.url }));
const postgres = await orReason(Postgres.start());
const redis = await orReason(Redis.start());
if (!(postgres instanceof Error)) resources.use(postgres);
if (!(redis instanceof Error)) resources.use(redis);
const report = new Report('drain', {
  callee: callee.description,
  orders: `${ORDERS} (peers ${PEER_ORDERS}) of ${ORDER_BYTES} bytes, filter ${FILTER}`,
  'connections to the callee': CONCURRENCY,
  rounds: `${ROUNDS} (peers ${PEER_ROUNDS})`,
  SQLite: 'synchronous=FULL',
  PostgreSQL: postgres instanceof Error ? postgres.message : postgres.description,
  Redis: redis instanceof Error ? redis.message : redis.description,
  [BARE]: bare.description,
});

const ceiling: Contestant = {
  name: BARE,
  rounds: ROUNDS,
  drain: () => bare.drain(callee, 0, ORDERS, STEP_MS),
  rates: [],
};
// The ceiling twice: it is short, and everything is compared with it.
const contestants = [ceiling, ...(await serviceContestants('SQLite')), ceiling];
if (postgres instanceof Error) {
  report.leaveOut('the service on PostgreSQL', postgres.message);
} else {
  contestants.push(...(await serviceContestants('PostgreSQL', await postgres.database())));
}
for (const name of PEERS) {
  const peer = await peerContestant(name).catch((error: Error) => error);
  if (peer instanceof Error) report.leaveOut(name, peer.message);
  else contestants.push(peer);
}

for (let round = 0; round <= ROUNDS; round++) {
  // Forwards and backwards, so that none always comes after the same one, whose dirty pages are still written then.
  for (const { rounds, drain, rates } of round % 2 === 0 ? contestants : contestants.toReversed()) {
    if (round > rounds) continue;
    // What the last one left to be done, such as dirty pages and timers, is not the next one's.
    await wait(SETTLE_MS);
    const rate = await drain(round);
    if (round > 0) rates.push(rate);
  }
}

const medians = new Map(contestants.map(({ name, rates }) => [name, median(rates)]));
for (const [name, value] of medians) {
  const against = Object.entries(TARGETS[name] ?? {}).flatMap(([other, min]) => {
    const theirs = medians.get(other);
    return theirs === undefined ? [] : [{ name: other, value: theirs, ...(min > 0 && { target: { min } }) }];
  });
  report.add({ name, value, unit: 'calls/s', against });
}
report.save();

/** The service with batches of 500 and of 60. Each round, the first included, has an interface of its own. */
async function serviceContestants(store: string, databaseUrl = ''): Promise<Contestant[]> {
  const service = resources.use(await Service.start({ databaseUrl }));
  await service.setUp(callee.host);
  const found: Contestant[] = [];
  for (const batchSize of [500, 60]) {
    const ids: string[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      ids.push(await service.addInterface({ calleeUrl: callee.url, batchSize }));
    }
    const drain = (round: number) => drainInterface(service, ids[round] as string);
    found.push({ name: `${store}, batch ${batchSize}`, rounds: ROUNDS, drain, rates: [] });
  }
  await service.import(0, ORDERS);
  return found;
}

async function drainInterface(service: Service, id: string): Promise<number> {
  await callee.forget();
  await service.setActive(id, true);
  await callee.untilAnswered(ORDERS, STEP_MS);
  const endedAt = await service.untilDrained(id, STEP_MS);
  const { firstAt } = callee.checkEachOnce(0, ORDERS);
  return (ORDERS * 1000) / (endedAt - firstAt);
}

/** @throws Error when its package or server is missing */
async function peerContestant(name: string): Promise<Contestant> {
  const server = name === 'bullmq' ? redis : postgres;
  if (server instanceof Error) throw server;
  const serverUrl = server instanceof Redis ? server.url : await server.database();
  const peer = resources.use(await Sender.start(name, { calleeUrl: callee.url, serverUrl }));
  console.log(`  ${name}: ${peer.description}`);
  async function drain(): Promise<number> {
    await peer.load(0, PEER_ORDERS, STEP_MS);
    return peer.drain(callee, 0, PEER_ORDERS, STEP_MS);
  }
  return { name, rounds: PEER_ROUNDS, drain, rates: [] };
}

async function orReason<T>(starting: Promise<T>): Promise<T | Error> {
  return starting.catch((error: Error) => error);
}
