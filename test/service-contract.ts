/**
 * The whole product, as its users have it: a real `serve`, a real callee, and the API between them. `serviceContract` is
 * called by one test file per database.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { OrderReader } from '../src/commands/callee.ts';
import { sampleOrder } from '../src/commands/sample-orders.ts';
import { VERSION } from '../src/version.ts';
import { RecordingCallee } from './support/recording-callee.ts';
import { runCommand, ServiceProcess } from './support/service-process.ts';
import { until } from './support/until.ts';

const LARGE_ID = '9223372036854775807';
const RETAIL_ORDERS = fileURLToPath(new URL('../../shared/samples/retail-orders.ndjson', import.meta.url));

/** Where a service keeps what it has. */
export type Place = {
  /** `ORDERHOOK_DATA` */
  readonly folder: string;
  readonly settings: Record<string, string>;
  remove(): void;
};

/** @param makePlace each call makes another, empty one */
export function serviceContract(name: string, makePlace: () => Promise<Place>): void {
  describe(`one service on ${name}, from nothing`, () => {
    let place: Place;
    let service: ServiceProcess;
    let callee: RecordingCallee;
    before(async () => {
      place = await makePlace();
      service = await ServiceProcess.start(place.folder, place.settings);
      callee = await RecordingCallee.start();
    });
    after(async () => {
      assert.equal(await service.stop(), 0);
      await callee.stop();
      place.remove();
    });
    beforeEach(() => {
      callee.calls.length = 0;
      callee.status = () => 200;
    });

    test('an order closes, the partner is called by GET, reads the order back, and the call log and queue say so', async () => {
      const { code, interfaceId, scheduleId } = await service.setUp(callee.address, { code: 'FIRST' });
      const institution = `/institutions/${code}`;
      const identity = { partner: 'ACME', operator: 'OP' };
      const { secret } = await service.call('POST', `${institution}/partners`, identity);
      await service.call('PUT', `${institution}/orders/5`, {
        orderId: 5,
        orderState: 'RESERVED',
        orderType: 'SALE',
      });
      const closed = await service.call('POST', `${institution}/orders/5/close`);
      assert.equal(closed.alreadyClosed, false);
      await service.call(
        'PUT',
        `${institution}/orders/${LARGE_ID}`,
        `{"orderId":${LARGE_ID},"orderState":"CLOSED","n":1.50}`,
      );

      const execution = await service.call('POST', `${institution}/schedules/${scheduleId}/run?wait=true`);
      assert.deepEqual([execution.status, execution.called, execution.delivered], ['OK', 2, 2]);
      const host = new URL(callee.address).host;
      assert.deepEqual(callee.calls, [
        {
          method: 'GET',
          target: '/hook?id=5',
          headers: { host, 'user-agent': `Orderhook/${VERSION}`, accept: '*/*' },
          body: '',
        },
        {
          method: 'GET',
          target: `/hook?id=${LARGE_ID}`,
          headers: { host, 'user-agent': `Orderhook/${VERSION}`, accept: '*/*' },
          body: '',
        },
      ]);

      const reader = new OrderReader(service.address, { ...identity, secret });
      const read = await reader.read(LARGE_ID);
      assert.ok(
        read.includes(`"orderDetailsData":{"orderId":${LARGE_ID},"orderState":"CLOSED","n":1.50}`),
        read,
      );
      assert.equal(JSON.parse(await reader.read('77')).statusCode, 'notfound');

      const { items } = await service.call('GET', `${institution}/interfaces/${interfaceId}/calls`);
      assert.deepEqual(
        items.map((call: Record<string, unknown>) => [
          call.orderId,
          call.outcome,
          call.trigger,
          call.attempt,
        ]),
        [
          [LARGE_ID, 'DELIVERED', 'MANUAL', 1],
          ['5', 'DELIVERED', 'MANUAL', 1],
        ],
      );
      assert.equal(items[0].request.url, `${callee.address}/hook?id=${LARGE_ID}`);
      assert.equal(items[0].response.status ?? items[0].status, 200);
      const queue = await service.call('GET', `${institution}/interfaces/${interfaceId}/queue`);
      assert.deepEqual(queue, {
        waiting: 0,
        owed: 0,
        abandoned: 0,
        oldestWaitingAt: null,
        oldestOwedAt: null,
        heldUntil: null,
      });
      const order = await service.call('GET', `${institution}/orders/5`);
      assert.deepEqual(
        order.deliveries.map(({ state }: { state: string }) => state),
        ['DELIVERED'],
      );
    });

    test('POST sends the payload with its type and length, and nothing else; without a payload the body is empty', async () => {
      const { code, interfaceId, scheduleId } = await service.setUp(callee.address, {
        code: 'POSTED',
        interface: { method: 'POST', url: `${callee.address}/hook`, payload: '{"id": "${orderId}"}' },
      });
      await service.call('PUT', `/institutions/${code}/orders/7`, { orderId: 7, orderState: 'CLOSED' });
      await service.call('POST', `/institutions/${code}/schedules/${scheduleId}/run?wait=true`);
      await service.call('PATCH', `/institutions/${code}/interfaces/${interfaceId}`, { payload: null });
      await service.call('PUT', `/institutions/${code}/orders/8`, { orderId: 8, orderState: 'CLOSED' });
      await service.call('POST', `/institutions/${code}/schedules/${scheduleId}/run?wait=true`);
      const host = new URL(callee.address).host;
      const headers = { host, 'user-agent': `Orderhook/${VERSION}`, accept: '*/*' };
      const sent = { 'content-type': 'application/json', 'content-length': '11' };
      assert.deepEqual(callee.calls, [
        { method: 'POST', target: '/hook', headers: { ...headers, ...sent }, body: '{"id": "7"}' },
        { method: 'POST', target: '/hook', headers: { ...headers, 'content-length': '0' }, body: '' },
      ]);
    });

    test('10,000 closings drain through a continuous schedule, each order called once, started in the order of closing', async () => {
      const { code, interfaceId } = await service.setUp(callee.address, {
        code: 'DRAIN',
        // One at a time, so that the order of arrival is the order of start.
        interface: { concurrency: 1 },
        schedule: { launch: 'AUTOMATIC', frequencyMinutes: 0, batchSize: 500 },
      });
      const ids = Array.from({ length: 10_000 }, (_, index) => 1_000_000 - index * 7);
      const lines = ids.map((orderId) => JSON.stringify({ orderId, orderState: 'CLOSED' })).join('\n');
      const response = await fetch(`${service.address}/api/v1/institutions/${code}/orders/import`, {
        method: 'POST',
        headers: { authorization: `Bearer ${service.key}`, 'content-type': 'application/x-ndjson' },
        body: lines,
      });
      assert.deepEqual(await response.json(), {
        received: 10_000,
        stored: 10_000,
        closed: 10_000,
        rejected: [],
        rejectedCount: 0,
      });
      await until('the queue is empty', async () => {
        const queue = await service.call('GET', `/institutions/${code}/interfaces/${interfaceId}/queue`);
        return queue.waiting === 0 && callee.calls.length >= 10_000;
      });
      assert.deepEqual(callee.orderIds, ids.map(String));
    });

    test('failed calls are owed, tried again first at the next execution, and abandoned after the twelfth', async () => {
      const { code, interfaceId, scheduleId } = await service.setUp(callee.address, { code: 'FAILING' });
      await service.call('PUT', `/institutions/${code}/orders/1`, { orderId: 1, orderState: 'CLOSED' });
      callee.status = () => 503;
      for (let attempt = 1; attempt <= 12; attempt += 1) {
        const execution = await service.call(
          'POST',
          `/institutions/${code}/schedules/${scheduleId}/run?wait=true`,
        );
        assert.deepEqual([execution.status, execution.failed], ['ERROR', 1]);
      }
      const queue = await service.call('GET', `/institutions/${code}/interfaces/${interfaceId}/queue`);
      assert.deepEqual([queue.waiting, queue.owed, queue.abandoned], [0, 0, 1]);
      const { items } = await service.call(
        'GET',
        `/institutions/${code}/interfaces/${interfaceId}/calls?outcome=ABANDONED`,
      );
      assert.deepEqual(
        [items.length, items[0].attempt, items[0].reason, items[0].status],
        [1, 12, 'status', 503],
      );
    });

    test('test calls and deliveries together stay within the concurrency; a test call that finds no room is 429', async () => {
      const { code, interfaceId } = await service.setUp(callee.address, {
        code: 'SLOTS',
        interface: { concurrency: 1 },
        schedule: { launch: 'AUTOMATIC', frequencyMinutes: 0 },
      });
      const release = Promise.withResolvers<void>();
      callee.hold = () => release.promise;
      await service.call('PUT', `/institutions/${code}/orders/1`, { orderId: 1, orderState: 'CLOSED' });
      await until('the delivery runs', () => callee.calls.length === 1);
      const testCall = () =>
        service.request('POST', `/institutions/${code}/interfaces/${interfaceId}/test-call`, {
          orderId: '1',
        });
      const refused = await testCall();
      assert.deepEqual([refused.status, refused.body.code], [429, 'too_many_requests']);
      assert.equal(callee.calls.length, 1);
      callee.hold = () => undefined;
      release.resolve();
      await until('there is room', async () => (await testCall()).status === 200);
      assert.equal(callee.calls.length, 2);
    });

    test('a removed order is called where it waits or is owed, whatever the filter, and cannot be read back', async () => {
      const { code, interfaceId, scheduleId } = await service.setUp(callee.address, {
        code: 'REMOVED',
        interface: { filter: 'OrderDetailsData.OrderType=SALE' },
      });
      const institution = `/institutions/${code}`;
      const identity = { partner: 'ACME-REMOVED', operator: 'OP' };
      const { secret } = await service.call('POST', `${institution}/partners`, identity);
      const put = (orderId: number) =>
        service.call('PUT', `${institution}/orders/${orderId}`, {
          orderId,
          orderState: 'CLOSED',
          orderType: 'SALE',
        });
      const run = () => service.call('POST', `${institution}/schedules/${scheduleId}/run?wait=true`);
      await put(1);
      callee.status = () => 500;
      assert.equal((await run()).failed, 1);
      await put(2);
      for (const id of [1, 2]) {
        assert.equal((await service.request('DELETE', `${institution}/orders/${id}`)).status, 204);
      }
      const { deliveries } = await service.call('GET', `${institution}/orders/1`);
      assert.deepEqual([deliveries[0].state, deliveries[0].because], ['OWED', 'status']);
      const preview = await service.call('POST', `${institution}/interfaces/${interfaceId}/preview`, {
        orderId: '2',
      });
      assert.deepEqual([preview.filter, preview.wouldCall], [undefined, true]);
      callee.status = () => 200;
      callee.calls.length = 0;
      const { called, delivered, filteredOut } = await run();
      assert.deepEqual([called, delivered, filteredOut], [2, 2, 0]);
      assert.deepEqual(callee.calls.map(({ target }) => target).sort(), ['/hook?id=1', '/hook?id=2']);
      const reader = new OrderReader(service.address, { ...identity, secret });
      assert.equal(JSON.parse(await reader.read('1')).statusCode, 'notfound');
      const again = await put(1);
      assert.equal(again.closing, undefined);
      assert.equal(JSON.parse(await reader.read('1')).statusCode, 'success');
    });

    test('237 real orders come in through the import command and are called 60, 60, 60, 57', async (t) => {
      if (!existsSync(RETAIL_ORDERS)) return t.skip(`NOT RUN: there is no ${RETAIL_ORDERS}`);
      const { code, scheduleId } = await service.setUp(callee.address, { code: 'RETAIL' });
      const imported = await runCommand(['import', RETAIL_ORDERS, '--institution', code], {
        ORDERHOOK_URL: service.address,
        ORDERHOOK_KEY: service.key,
      });
      assert.deepEqual(imported, {
        code: 0,
        stdout: '237 orders received, 237 stored, 237 closings recorded, 0 rejected\n',
        stderr: '',
      });
      const called: number[] = [];
      for (let run = 0; run < 4; run += 1) {
        const execution = await service.call(
          'POST',
          `/institutions/${code}/schedules/${scheduleId}/run?wait=true`,
        );
        called.push(execution.called);
      }
      assert.deepEqual(called, [60, 60, 60, 57]);
      assert.equal(new Set(callee.orderIds).size, 237);
    });

    for (const host of ['127.0.0.1', 'localhost', '2130706433', '[::ffff:127.0.0.1]', '169.254.169.254']) {
      test(`saving, previewing, a test call and a delivery refuse ${host} by one rule`, async () => {
        const code = `DOOR${Math.abs([...host].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0), 7)) % 100_000}`;
        const institution = `/institutions/${code}`;
        await service.call('POST', '/institutions', { code, name: 'x' });
        const { port } = new URL(callee.address);
        const opening = await service.call('POST', `${institution}/proxy-openings`, {
          destination: `${host}:${port}`,
        });
        await service.call('POST', `${institution}/proxy-openings/${opening.id}/open`);
        const created = await service.call('POST', `${institution}/interfaces`, {
          name: 'Door',
          type: 'ORDER_WEBHOOK_V1',
          url: `http://${host}:${port}/\${orderId}`,
          method: 'GET',
        });
        assert.match(JSON.stringify(created.warnings), /not (public|allowed)|may not be called/i);
        const own = `${institution}/interfaces/${created.id}`;
        await service.call('PUT', `${institution}/orders/1`, { orderId: 1, orderState: 'CLOSED' });
        const preview = await service.call('POST', `${own}/preview`, { orderId: '1' });
        assert.equal(preview.destination.allowed, false);
        assert.equal(preview.wouldCall, false);
        const tested = await service.call('POST', `${own}/test-call`, { orderId: '1' });
        assert.deepEqual([tested.outcome, tested.reason], ['FAILED', 'destination_not_allowed']);
        const schedule = await service.call('POST', `${own}/schedules`, { name: 'x', launch: 'MANUAL' });
        const run = await service.call('POST', `${institution}/schedules/${schedule.id}/run?wait=true`);
        assert.equal(run.status, 'ERROR');
        const { items } = await service.call('GET', `${own}/calls?outcome=FAILED`);
        assert.ok(items.length >= 2);
        for (const { reason } of items) assert.equal(reason, 'destination_not_allowed');
        assert.equal(callee.calls.length, 0);
      });
    }

    test('metrics of the process and of the engine are given together, and the service says that it is ready', async () => {
      const metrics = await (await fetch(`${service.address}/metrics`)).text();
      assert.match(metrics, /^orderhook_calls_total\{outcome="delivered"\} [1-9]/m);
      assert.match(metrics, /^process_resident_memory_bytes [1-9]/m);
      assert.equal((await fetch(`${service.address}/readyz`)).status, 200);
      assert.equal((await fetch(`${service.address}/healthz`)).status, 200);
    });
  });

  describe(`ends and beginnings on ${name}`, () => {
    let place: Place;
    let callee: RecordingCallee;
    beforeEach(async () => {
      place = await makePlace();
      callee = await RecordingCallee.start();
    });
    afterEach(async () => {
      await callee.stop();
      place.remove();
    });

    test('what was acknowledged survives SIGKILL, and the queue goes on where it was', async () => {
      const first = await ServiceProcess.start(place.folder, place.settings);
      const { code, scheduleId } = await first.setUp(callee.address);
      const puts = Array.from({ length: 40 }, (_, number) => sampleOrder(number, new Date()));
      await Promise.all(
        puts.map((order) => first.call('PUT', `/institutions/${code}/orders/${order.orderId}`, order)),
      );
      await first.stop('SIGKILL');
      const second = await ServiceProcess.start(place.folder, place.settings);
      const execution = await second.call(
        'POST',
        `/institutions/${code}/schedules/${scheduleId}/run?wait=true`,
      );
      assert.equal(execution.delivered, 40);
      assert.deepEqual(new Set(callee.orderIds), new Set(puts.map(({ orderId }) => String(orderId))));
      assert.equal(await second.stop(), 0);
    });

    test('SIGTERM while calls run: they end, are committed, and are not repeated', async () => {
      const first = await ServiceProcess.start(place.folder, place.settings);
      const { code, interfaceId } = await first.setUp(callee.address, {
        schedule: { launch: 'AUTOMATIC', frequencyMinutes: 0 },
      });
      const lines = Array.from({ length: 5_000 }, (_, index) =>
        JSON.stringify({ orderId: index + 1, orderState: 'CLOSED' }),
      );
      await fetch(`${first.address}/api/v1/institutions/${code}/orders/import`, {
        method: 'POST',
        headers: { authorization: `Bearer ${first.key}`, 'content-type': 'application/x-ndjson' },
        body: lines.join('\n'),
      });
      await until('some orders were called', () => callee.calls.length > 100);
      assert.equal(await first.stop(), 0);
      const second = await ServiceProcess.start(place.folder, place.settings);
      await until('the queue is empty', async () => {
        const queue = await second.call('GET', `/institutions/${code}/interfaces/${interfaceId}/queue`);
        return queue.waiting === 0 && queue.owed === 0;
      });
      assert.equal(callee.calls.length, 5_000);
      assert.equal(new Set(callee.orderIds).size, 5_000);
      assert.equal(await second.stop(), 0);
    });

    test('without an administrator the first start prints a link, good once, that creates one', async () => {
      const first = await ServiceProcess.start(place.folder, { ...place.settings, ORDERHOOK_ADMIN_KEY: '' });
      await until('the link is printed', () => first.lines.length >= 2);
      const link = /https?:\/\/\S+\/setup\?token=\S+/.exec(first.lines.join('\n'))?.[0];
      assert.ok(link, first.lines.join('\n'));
      assert.equal((await fetch(link)).status, 200);
      const token = new URL(link).searchParams.get('token');
      const create = () =>
        fetch(`${first.address}/setup`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ token, name: 'Ann' }),
        });
      const { key } = (await (await create()).json()) as { key: string };
      assert.equal((await first.request('GET', '/institutions', undefined, key)).status, 200);
      assert.notEqual((await create()).status, 200);
      await first.stop();
      const second = await ServiceProcess.start(place.folder, { ...place.settings, ORDERHOOK_ADMIN_KEY: '' });
      assert.equal((await second.request('GET', '/institutions', undefined, key)).status, 200);
      assert.ok(!second.lines.some((line) => line.includes('/setup')));
      await second.stop();
    });
  });
}
