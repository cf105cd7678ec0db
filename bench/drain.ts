/**
 * How fast is a queue drained, beside a bare loop of calls that stores nothing?
 *
 *     node bench/drain.ts [--quick]
 *
 * Continuous schedule, a filter read on every order of 2 KB, batches of 500 and of 60, the outcome of every call committed.
 * The orders are imported once, while one paused interface per round looks on; each round then sets one of them to work. So
 * every round drains the same queue, and what is timed goes from the first call to the last commit. Rounds of the service
 * and of the bare loop alternate; figures are medians.
 */
import { Callee } from './support/callee.ts';
import { median, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { FILTER, ORDER_BYTES } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { Sender } from './support/sender.ts';
import { CONCURRENCY, Service } from './support/service.ts';

const ORDERS = size(100_000, 20_000);
const ROUNDS = size(5, 3);
const ROUND_MS = 120_000;
/** Of the contract: what each batch size must reach beside the bare loop. */
const BATCHES = [
  { batchSize: 500, target: { min: 0.6 } },
  { batchSize: 60, target: { min: 0.45 } },
] as const;

endAfter(15);
await using callee = await Callee.start();
await using bare = await Sender.start('bare', { calleeUrl: callee.url });
const report = new Report('drain', {
  callee: callee.description,
  orders: `${ORDERS} of ${ORDER_BYTES} bytes, filter ${FILTER}`,
  concurrency: CONCURRENCY,
  rounds: ROUNDS,
  'bare loop': bare.description,
});

await drainService('SQLite', { description: 'synchronous=FULL' });
report.save();

async function drainService(
  store: string,
  given: { description: string; databaseUrl?: string },
): Promise<void> {
  await using service = await Service.start(given);
  await service.setUp(callee.host);
  const warmUp = await service.addInterface({ calleeUrl: callee.url, batchSize: 500 });
  const rounds = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (const { batchSize } of BATCHES) {
      rounds.push({ batchSize, id: await service.addInterface({ calleeUrl: callee.url, batchSize }) });
    }
  }
  await service.import(0, ORDERS);

  async function drain(id: string): Promise<number> {
    await callee.forget();
    await service.setActive(id, true);
    await callee.untilAnswered(ORDERS, ROUND_MS);
    const endedAt = await service.untilDrained(id, ROUND_MS);
    const { firstAt } = callee.checkEachOnce(0, ORDERS);
    return (ORDERS * 1000) / (endedAt - firstAt);
  }

  await drain(warmUp);
  await bare.drain(callee, 0, ORDERS, ROUND_MS);
  const ceilings: number[] = [];
  const rates = new Map(BATCHES.map(({ batchSize }) => [batchSize, [] as number[]]));
  for (const { batchSize, id } of rounds) {
    rates.get(batchSize)?.push(await drain(id));
    ceilings.push(await bare.drain(callee, 0, ORDERS, ROUND_MS));
  }
  for (const { batchSize, target } of BATCHES) {
    report.add({
      name: `${store} (${given.description}), batch ${batchSize}`,
      value: median(rates.get(batchSize) ?? []),
      unit: 'calls/s',
      against: [{ name: 'bare loop', value: median(ceilings), target }],
    });
  }
}
