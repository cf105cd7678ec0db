/**
 * How much memory does the whole process hold with 1,000,000 closings waiting, and while it drains them?
 *
 *     node bench/memory.ts [--quick]
 */
import { setTimeout as wait } from 'node:timers/promises';
import { Callee } from './support/callee.ts';
import { Report } from './support/figures.ts';
import { forgetPeak, memory } from './support/memory.ts';
import { size } from './support/options.ts';
import { ORDER_BYTES } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { CONCURRENCY, Service } from './support/service.ts';

const ORDERS = size(1_000_000, 100_000);
const TARGET = { max: 250 };
const DRAIN_MS = 300_000;
const LOOKS = 20;
const LOOK_EVERY_MS = 100;

endAfter(12);
await using callee = await Callee.start();
const report = new Report('memory', {
  callee: callee.description,
  orders: `${ORDERS} of ${ORDER_BYTES} bytes`,
  interface: `continuous, batch 500, concurrency ${CONCURRENCY}, with a filter`,
  store: 'SQLite (synchronous=FULL)',
});

await using service = await Service.start();
await service.setUp(callee.host);
report.add({ name: 'started, nothing in it', value: memory(service.pid).resident, unit: 'MB' });
const id = await service.addInterface({ calleeUrl: callee.url, batchSize: 500 });
await service.import(0, ORDERS);
report.add({ name: 'while importing them, peak', value: memory(service.pid).peak, unit: 'MB' });
report.add({ name: 'all waiting', value: await settled(service), unit: 'MB', target: TARGET });
await drain(service);
report.save();

async function drain(service: Service): Promise<void> {
  forgetPeak(service.pid);
  await service.setActive(id, true);
  await callee.untilAnswered(ORDERS, DRAIN_MS);
  await service.untilDrained(id, DRAIN_MS);
  const { peak } = memory(service.pid);
  callee.checkEachOnce(0, ORDERS);
  report.add({ name: 'while draining them, peak', value: peak, unit: 'MB', target: TARGET });
}

/** The most that a few looks in a row see. */
async function settled(service: Service): Promise<number> {
  let most = 0;
  for (let look = 0; look < LOOKS; look++) {
    most = Math.max(most, memory(service.pid).resident);
    await wait(LOOK_EVERY_MS);
  }
  return most;
}
