/** The same flow with PostgreSQL below it: one `serve`, one `worker`, and what becomes of the queue when a node dies. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { OrderReader } from '../src/commands/callee.ts';
import { PostgresServer } from './support/postgres-server.ts';
import { RecordingCallee } from './support/recording-callee.ts';
import { runCommand, ServiceProcess } from './support/service-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

const MAIN = join(import.meta.dirname, '../src/main.ts');
const LARGE_ID = '9223372036854775807';

describe('on PostgreSQL', () => {
  const folder = temporaryFolder();
  let server: PostgresServer;
  let url: string;
  let callee: RecordingCallee;
  before(async () => {
    server = await PostgresServer.start();
    url = await server.database();
    callee = await RecordingCallee.start();
  });
  after(async () => {
    await callee.stop();
    await server.remove();
    folder.remove();
  });
  beforeEach(() => {
    callee.calls.length = 0;
  });

  async function importOrders(service: ServiceProcess, code: string, ids: readonly number[]): Promise<void> {
    const response = await fetch(`${service.address}/api/v1/institutions/${code}/orders/import`, {
      method: 'POST',
      headers: { authorization: `Bearer ${service.key}`, 'content-type': 'application/x-ndjson' },
      body: ids
        .map((orderId) => JSON.stringify({ orderId, orderState: 'CLOSED', orderType: 'SALE' }))
        .join('\n'),
    });
    assert.equal(response.status, 200, await response.text());
  }

  test('migrate, then orders close, are called, and are read back', async () => {
    const migrated = await runCommand(['migrate'], { ORDERHOOK_DATABASE_URL: url });
    assert.equal(migrated.code, 0, migrated.stderr);
    const service = await ServiceProcess.start(folder.path, { ORDERHOOK_DATABASE_URL: url });
    const { code, interfaceId, scheduleId } = await service.setUp(callee.address, {
      interface: { filter: 'OrderDetailsData.OrderType=SALE' },
    });
    const institution = `/institutions/${code}`;
    const identity = { partner: 'ACME', operator: 'OP' };
    const { secret } = await service.call('POST', `${institution}/partners`, identity);
    const order = `{"orderId":${LARGE_ID},"orderState":"CLOSED","orderType":"SALE","n":1.50}`;
    await service.call('PUT', `${institution}/orders/${LARGE_ID}`, order);
    await importOrders(
      service,
      code,
      Array.from({ length: 100 }, (_, index) => index + 1),
    );
    const called: number[] = [];
    for (let run = 0; run < 3; run += 1) {
      const execution = await service.call('POST', `${institution}/schedules/${scheduleId}/run?wait=true`);
      called.push(execution.called);
    }
    assert.deepEqual(called, [60, 41, 0]);
    assert.equal(callee.orderIds[0], LARGE_ID);
    assert.equal(new Set(callee.orderIds).size, 101);
    const read = await new OrderReader(service.address, { ...identity, secret }).read(LARGE_ID);
    assert.ok(read.includes(order), read);
    const { items } = await service.call(
      'GET',
      `${institution}/interfaces/${interfaceId}/calls?orderId=${LARGE_ID}`,
    );
    assert.deepEqual([items.length, items[0].outcome], [1, 'DELIVERED']);
    assert.equal(await service.stop(), 0);
  });

  test('a worker takes over what a killed node held, and every order is called', async () => {
    const first = await ServiceProcess.start(folder.path, { ORDERHOOK_DATABASE_URL: url });
    const { code, interfaceId } = await first.setUp(callee.address, {
      code: 'NODES',
      interface: { concurrency: 4 },
      schedule: { launch: 'AUTOMATIC', frequencyMinutes: 0 },
    });
    const ids = Array.from({ length: 3_000 }, (_, index) => index + 1);
    await importOrders(first, code, ids);
    await until('some orders were called', () => callee.calls.length > 50);
    const worker = spawn(process.execPath, [MAIN, 'worker'], {
      env: { ...process.env, ORDERHOOK_DATABASE_URL: url, ORDERHOOK_LOG_LEVEL: 'warn' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(worker.stdout, 'data');
    await first.stop('SIGKILL');
    await until('every order was called', () => new Set(callee.orderIds).size === ids.length);
    const second = await ServiceProcess.start(folder.path, { ORDERHOOK_DATABASE_URL: url });
    await until('the queue is empty', async () => {
      const queue = await second.call('GET', `/institutions/${code}/interfaces/${interfaceId}/queue`);
      return queue.waiting === 0 && queue.owed === 0;
    });
    worker.kill('SIGTERM');
    assert.equal((await once(worker, 'exit'))[0], 0);
    assert.equal(await second.stop(), 0);
  });
});
