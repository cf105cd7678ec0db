/**
 * How long after the 200 of a closing does its call arrive, at 500 closings a second?
 *
 *     node bench/latency.ts [--quick]
 *
 * This process is both the source and the callee, so that one clock tells both moments. Closings are sent when they are
 * due, whatever became of those before (an open loop), so a slow answer is not hidden by a source that waits for it.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Pool } from 'undici';
import { hookPath } from './support/callee.ts';
import { quantile, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { FIRST_ORDER_ID, ORDER_BYTES, orderLine } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { AUTHORIZATION, CONCURRENCY, INSTITUTION, Service } from './support/service.ts';

const PER_SECOND = 500;
const SECONDS = size(20, 6);
const WARM_UP_SECONDS = size(5, 3);
const CONNECTIONS = 64;
const LAST_CALL_MS = 10_000;
const P50_TARGET = { max: 5 };
const P99_TARGET = { max: 25 };

endAfter(5);
const closings = (WARM_UP_SECONDS + SECONDS) * PER_SECOND;
/** Milliseconds of this process's clock, by order number; NaN: not yet. */
const answeredAt = new Float64Array(closings).fill(Number.NaN);
const arrivedAt = new Float64Array(closings).fill(Number.NaN);
let [answers, arrivals] = [0, 0];
let failure: Error | undefined;

const callee = createServer((request, response) => {
  const now = performance.now();
  const number = Number(request.url?.slice(hookPath().length)) - FIRST_ORDER_ID;
  if (!Number.isNaN(arrivedAt[number])) failure ??= new Error(`Called twice, or by mistake: ${request.url}`);
  arrivedAt[number] = now;
  arrivals += 1;
  response.writeHead(200, { 'Content-Length': 0 }).end();
}).listen(0, '127.0.0.1');
await once(callee, 'listening');
const calleeUrl = `http://127.0.0.1:${(callee.address() as AddressInfo).port}`;

await using service = await Service.start();
const report = new Report('latency', {
  closings: `${PER_SECOND} a second for ${SECONDS} s, after ${WARM_UP_SECONDS} s of warming up, ${ORDER_BYTES} bytes each`,
  interface: `continuous, batch 500, concurrency ${CONCURRENCY}, with a filter`,
  store: 'SQLite (synchronous=FULL)',
});
await service.setUp(new URL(calleeUrl).host);
await service.addInterface({ calleeUrl, batchSize: 500, active: true });

const pool = new Pool(service.address, { connections: CONNECTIONS, pipelining: 1 });
await closeOrders();
const deadline = performance.now() + LAST_CALL_MS;
while (answers < closings || arrivals < closings) {
  if (failure) throw failure;
  if (performance.now() > deadline)
    throw new Error(`${answers} answers and ${arrivals} calls of ${closings} came`);
  await new Promise((resolve) => setTimeout(resolve, 20));
}
if (failure) throw failure;
await pool.close();
callee.close();
callee.closeAllConnections();

const measured = Array.from(answeredAt, (at, number) => (arrivedAt[number] as number) - at).slice(
  WARM_UP_SECONDS * PER_SECOND,
);
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

async function closeOrders(): Promise<void> {
  const startedAt = performance.now();
  for (let number = 0; number < closings && !failure; ) {
    const due = Math.min(closings, Math.ceil(((performance.now() - startedAt) * PER_SECOND) / 1000));
    while (number < due) closeOrder(number++);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

function closeOrder(number: number): void {
  const headers = ['Authorization', AUTHORIZATION, 'Content-Type', 'application/json'];
  pool.dispatch(
    {
      method: 'PUT',
      path: `${INSTITUTION}/orders/${FIRST_ORDER_ID + number}`,
      headers,
      body: orderLine(number),
    },
    {
      onRequestStart() {},
      onResponseStart(_controller, status) {
        answeredAt[number] = performance.now();
        if (status !== 200) failure ??= new Error(`A PUT was answered by ${status}`);
      },
      onResponseData() {},
      onResponseEnd() {
        answers += 1;
      },
      onResponseError(_controller, error) {
        failure ??= error;
      },
    },
  );
}
