/**
 * How many orders a second are closed, one a request, over 64 connections, each answered after its commit is on disk?
 *
 *     node bench/put.ts [--quick]
 *
 * This process is the source: each connection sends its next order when the last one is answered. The ceiling is the same
 * source at a server that reads the bodies and stores nothing. Rounds alternate; figures are medians.
 */
import { Pool } from 'undici';
import { median, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { FIRST_ORDER_ID, ORDER_BYTES, orderLine } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { ReadingServer } from './support/reading-server.ts';
import { AUTHORIZATION, INSTITUTION, Service } from './support/service.ts';

const ORDERS = size(50_000, 15_000);
const ROUNDS = size(5, 3);
const CONNECTIONS = 64;
const TARGET = { min: 8_000 };
/** Nobody listens there, so the interface, which is paused anyway, calls nobody. */
const NOBODY = 'http://127.0.0.1:9';

endAfter(10);
await using ceiling = await ReadingServer.start();
await using service = await Service.start();
const report = new Report('put', {
  orders: `${ORDERS} of ${ORDER_BYTES} bytes a round`,
  connections: CONNECTIONS,
  store: 'SQLite (synchronous=FULL)',
  rounds: ROUNDS,
  ceiling: 'node:http server that reads each body and answers 200',
});

await service.setUp(new URL(NOBODY).host);
const watcher = await service.addInterface({ calleeUrl: NOBODY, batchSize: 500 });
const rates: number[] = [];
const ceilings: number[] = [];
// The first round warms up.
for (let round = 0; round <= ROUNDS; round++) {
  const [own, bare] = [
    await putOrders(service.address, round * ORDERS),
    await putOrders(ceiling.address, round * ORDERS),
  ];
  if (round === 0) continue;
  rates.push(own);
  ceilings.push(bare);
}
const { waiting } = await service.queue(watcher);
if (waiting !== (ROUNDS + 1) * ORDERS)
  throw new Error(`${waiting} closings wait, which is not what was answered`);

report.add({
  name: `one order a request, ${CONNECTIONS} connections`,
  value: median(rates),
  unit: 'closings/s',
  target: TARGET,
  against: [{ name: 'a server that only reads', value: median(ceilings) }],
});
report.save();

/** Requests a second. */
async function putOrders(address: string, first: number): Promise<number> {
  const pool = new Pool(address, { connections: CONNECTIONS, pipelining: 1 });
  const headers = ['Authorization', AUTHORIZATION, 'Content-Type', 'application/json'];
  const startedAt = performance.now();
  let [sent, answered] = [0, 0];
  await new Promise<void>((resolve, reject) => {
    function next(): void {
      if (sent === ORDERS) return;
      const number = first + sent++;
      const path = `${INSTITUTION}/orders/${FIRST_ORDER_ID + number}`;
      pool.dispatch(
        { method: 'PUT', path, headers, body: orderLine(number) },
        {
          onRequestStart() {},
          onResponseStart(_controller, status) {
            if (status !== 200) throw new Error(`A PUT was answered by ${status}`);
          },
          onResponseData() {},
          onResponseEnd() {
            answered += 1;
            if (answered === ORDERS) resolve();
            else next();
          },
          onResponseError(_controller, error) {
            reject(error);
          },
        },
      );
    }
    for (let connection = 0; connection < CONNECTIONS; connection++) next();
  });
  const rate = (ORDERS * 1000) / (performance.now() - startedAt);
  await pool.close();
  return rate;
}
