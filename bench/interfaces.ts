/**
 * How much does a callee that accepts calls and never answers slow down the calls of others?
 *
 *     node bench/interfaces.ts [--quick]
 *
 * 50 interfaces look at the same orders; 49 have the fast callee, one the silent one, where all its calls hang. Rounds
 * with the silent one at work and with it paused alternate; what is compared is the rate of the 49 together, taken from the
 * middle of their calls. Figures are medians.
 */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { Callee, hookPath } from './support/callee.ts';
import { median, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { ORDER_BYTES } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { CONCURRENCY, type InterfaceId, Service } from './support/service.ts';

const OTHERS = 49;
const ORDERS = size(2_000, 400);
const ROUNDS = size(5, 2);
/** What the contract has unless a user says otherwise. */
const [BATCH_SIZE, OTHERS_CONCURRENCY] = [60, 8];
const [TIMED_FROM, TIMED_TO] = [0.1, 0.9];
const STEP_MS = 120_000;
const TARGET = { min: 0.9 };

endAfter(10);
await using callee = await Callee.start();
/** Calls of the silent callee that have no answer yet. */
const held = new Set<Socket>();
let isSilent = true;
const silent = createServer((socket) => {
  socket.on('data', () => {
    held.add(socket);
    if (!isSilent) answerHeld();
  });
  socket.once('close', () => held.delete(socket)).on('error', () => {});
}).listen(0, '127.0.0.1');
await once(silent, 'listening');
const silentHost = `127.0.0.1:${(silent.address() as { port: number }).port}`;

await using service = await Service.start();
const report = new Report('interfaces', {
  callee: callee.description,
  interfaces: `${OTHERS} with concurrency ${OTHERS_CONCURRENCY}, the silent one with ${CONCURRENCY}; continuous, batch ${BATCH_SIZE}, with a filter`,
  orders: `${ORDERS} of ${ORDER_BYTES} bytes a round, for each interface`,
  store: 'SQLite (synchronous=FULL)',
  rounds: ROUNDS,
});
await service.setUp(callee.host, silentHost);
const others: InterfaceId[] = [];
for (let number = 1; number <= OTHERS; number++) {
  const settings = { calleeUrl: callee.url, batchSize: BATCH_SIZE, concurrency: OTHERS_CONCURRENCY };
  others.push(await service.addInterface({ ...settings, number }));
}
// Its batch leaves it room to fill all its connections.
const silentOne = await service.addInterface({
  calleeUrl: `http://${silentHost}`,
  batchSize: 2 * CONCURRENCY,
});

const withIt: number[] = [];
const withoutIt: number[] = [];
let imported = 0;
// The first round warms up.
for (let round = 0; round <= ROUNDS; round++) {
  const without = await rateOfOthers(async () => {});
  const together = await rateOfOthers(holdCalls);
  if (held.size < CONCURRENCY)
    throw new Error('The silent callee had no calls any more: the round took too long');
  await releaseCalls();
  if (round === 0) continue;
  withoutIt.push(without);
  withIt.push(together);
}
report.add({ name: `${OTHERS} interfaces alone`, value: median(withoutIt), unit: 'calls/s' });
report.add({
  name: `${OTHERS} interfaces beside a silent callee`,
  value: median(withIt),
  unit: 'calls/s',
  against: [{ name: 'alone', value: median(withoutIt), target: TARGET }],
});
report.save();
await service.stop();
silent.close();

/** Calls a second of the 49 together, on a fresh queue; `prepare` runs when all of it waits. */
async function rateOfOthers(prepare: () => Promise<void>): Promise<number> {
  await service.import(imported, ORDERS);
  await callee.forget();
  await prepare();
  await Promise.all(others.map((id) => service.setActive(id, true)));
  await callee.untilAnswered(ORDERS * OTHERS, STEP_MS);
  for (const id of others) await service.untilDrained(id, STEP_MS);
  await Promise.all(others.map((id) => service.setActive(id, false)));
  for (let number = 1; number <= OTHERS; number++) callee.checkEachOnce(imported, ORDERS, hookPath(number));
  imported += ORDERS;
  const times = callee.times().sort();
  const [from, to] = [Math.floor(times.length * TIMED_FROM), Math.floor(times.length * TIMED_TO) - 1];
  return ((to - from) * 1000) / ((times[to] as number) - (times[from] as number));
}

async function holdCalls(): Promise<void> {
  isSilent = true;
  await service.setActive(silentOne, true);
  const deadline = performance.now() + STEP_MS;
  while (held.size < CONCURRENCY) {
    if (performance.now() > deadline) throw new Error(`The silent callee has ${held.size} calls only`);
    await wait(10);
  }
}

/** An answer after all: otherwise the service would wait longer and longer before it calls again (contract, section 5). */
async function releaseCalls(): Promise<void> {
  await service.setActive(silentOne, false);
  isSilent = false;
  while (held.size > 0) {
    answerHeld();
    await wait(10);
  }
}

function answerHeld(): void {
  for (const socket of held) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
  held.clear();
}
