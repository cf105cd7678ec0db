/**
 * How many orders of 2 KB a second does an import take, each on disk before the answer?
 *
 *     node bench/import.ts [--quick]
 *
 * One HTTP request a round, streamed by this process from texts made beforehand. The ceiling is the same bytes to a server
 * that reads them and stores nothing. Rounds alternate; figures are medians.
 */
import { median, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { ORDER_BYTES } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { ReadingServer } from './support/reading-server.ts';
import { Service, sendStream } from './support/service.ts';

const ORDERS = size(150_000, 40_000);
const ROUNDS = size(5, 3);
const TARGET = { min: 40_000 };

endAfter(10);
await using ceiling = await ReadingServer.start();
await using service = await Service.start();
const report = new Report('import', {
  orders: `${ORDERS} of ${ORDER_BYTES} bytes a round, all new, all closed`,
  store: 'SQLite (synchronous=FULL)',
  rounds: ROUNDS,
  ceiling: 'node:http server that reads the body',
});

await service.setUp();
const rates: number[] = [];
const ceilings: number[] = [];
// The first round warms up.
for (let round = 0; round <= ROUNDS; round++) {
  const first = round * ORDERS;
  const own = await rateOf(() => service.import(first, ORDERS));
  const bare = await rateOf(() => sendStream(ceiling.address, first, ORDERS));
  if (round === 0) continue;
  rates.push(own);
  ceilings.push(bare);
}
report.add({
  name: 'NDJSON import',
  value: median(rates),
  unit: 'orders/s',
  target: TARGET,
  against: [{ name: 'a server that only reads', value: median(ceilings) }],
});
report.save();

async function rateOf(send: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await send();
  return (ORDERS * 1000) / (performance.now() - startedAt);
}
