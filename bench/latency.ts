/**
 * How long after the 200 of a closing does its call arrive, at 500 closings a second?
 *
 *     node bench/latency.ts [--quick]
 *
 * This process is both the source and the callee, so that one clock tells both moments.
 */
import { Closings, durations, TimedCallee } from './support/closings.ts';
import { quantile, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { ORDER_BYTES } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { CONCURRENCY, Service } from './support/service.ts';

const PER_SECOND = 500;
const SECONDS = size(20, 6);
const WARM_UP_SECONDS = size(5, 3);
const LAST_CALL_MS = 10_000;
const P50_TARGET = { max: 5 };
const P99_TARGET = { max: 25 };

endAfter(5);
const count = (WARM_UP_SECONDS + SECONDS) * PER_SECOND;
const callee = await TimedCallee.start(count);
await using service = await Service.start();
const report = new Report('latency', {
  closings: `${PER_SECOND} a second for ${SECONDS} s, after ${WARM_UP_SECONDS} s of warming up, ${ORDER_BYTES} bytes each`,
  interface: `continuous, batch 500, concurrency ${CONCURRENCY}, with a filter`,
  store: 'SQLite (synchronous=FULL)',
});
await service.setUp(callee.host);
await service.addInterface({ calleeUrl: callee.url, batchSize: 500, active: true });

const closings = new Closings(service, count);
await closings.send(PER_SECOND);
if (!(await closings.untilAnswered(LAST_CALL_MS)) || !(await callee.untilCalled(LAST_CALL_MS))) {
  throw new Error(`${callee.calls} calls of ${count} came`);
}
await closings.end();
callee.stop();

const measured = durations(closings.answeredAt, callee.calledAt, WARM_UP_SECONDS * PER_SECOND);
report.add({
  name: 'from the 200 to the call, p50',
  value: quantile(measured, 0.5),
  unit: 'ms',
  target: P50_TARGET,
});
report.add({
  name: 'from the 200 to the call, p99',
  value: quantile(measured, 0.99),
  unit: 'ms',
  target: P99_TARGET,
});
report.add({ name: 'from the 200 to the call, the longest', value: quantile(measured, 1), unit: 'ms' });
report.save();
