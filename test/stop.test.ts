/** A real `serve` that is asked to end: what still happens, what does not, and how long it takes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { RecordingCallee } from './support/recording-callee.ts';
import { ServiceProcess } from './support/service-process.ts';
import { type TemporaryFolder, temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

const CONTINUOUS = { launch: 'AUTOMATIC', frequencyMinutes: 0 };
/** Much longer than a stop of these tests may take on a busy machine, and much shorter than the grace of `LONG`. */
const SOON_MS = 15_000;
const LONG = { ORDERHOOK_STOP_GRACE_MS: '60000' };
const QUIET = { ORDERHOOK_LOG_LEVEL: 'fatal' };

let folder: TemporaryFolder;
let callee: RecordingCallee;
let open: (() => unknown)[];
beforeEach(async () => {
  folder = temporaryFolder();
  callee = await RecordingCallee.start();
  open = [() => callee.stop(), () => folder.remove()];
});
afterEach(async () => {
  for (const close of open) await close();
});

async function start(settings: Record<string, string>): Promise<ServiceProcess> {
  const service = await ServiceProcess.start(folder.path, { ...QUIET, ...settings });
  open.unshift(() => service.stop('SIGKILL'));
  return service;
}

async function raw(service: ServiceProcess, text: string): Promise<Socket> {
  const socket = connect(Number(new URL(service.address).port), '127.0.0.1');
  open.unshift(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(text);
  return socket;
}

/** All that comes until the connection ends. */
async function said(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await once(socket, 'close');
  return text;
}

async function importOrders(service: ServiceProcess, code: string, count: number): Promise<void> {
  const lines = Array.from({ length: count }, (_, index) =>
    JSON.stringify({ orderId: index + 1, orderState: 'CLOSED' }),
  );
  const { status } = await fetch(`${service.address}/api/v1/institutions/${code}/orders/import`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.key}`, 'content-type': 'application/x-ndjson' },
    body: lines.join('\n'),
  });
  assert.equal(status, 200);
}

function head(service: ServiceProcess, line: string, more = ''): string {
  return `${line} HTTP/1.1\r\nHost: ${new URL(service.address).host}\r\nAuthorization: Bearer ${service.key}\r\n${more}`;
}

function untilEmpty(service: ServiceProcess, code: string, interfaceId: string): Promise<void> {
  return until('the queue is empty', async () => {
    const queue = await service.call('GET', `/institutions/${code}/interfaces/${interfaceId}/queue`);
    return queue.waiting === 0 && queue.owed === 0;
  });
}

function untilClosed(service: ServiceProcess): Promise<void> {
  return until('it takes no connection any more', () =>
    ask(new URL(service.address).port, '/healthz').then(
      () => false,
      () => true,
    ),
  );
}

/** Nobody has called for as long as an outcome may wait for its commit, and longer. */
async function settled(callee: RecordingCallee): Promise<void> {
  for (let calls = -1; calls !== callee.calls.length; ) {
    calls = callee.calls.length;
    await wait(500);
  }
}

/** Asked on one connection that is kept, as a proxy in front does. */
function ask(port: string, path: string): Promise<{ status: number; connection: string | undefined }> {
  return new Promise((resolve, reject) => {
    request({ port, path }, (response) => {
      response.resume();
      response.once('end', () =>
        resolve({ status: response.statusCode as number, connection: response.headers.connection }),
      );
    })
      .on('error', reject)
      .end();
  });
}

describe('a serve that is asked to end', () => {
  test('starts no call, whatever connections are open, and waits for none of them', async () => {
    const service = await start(LONG);
    const { code, interfaceId } = await service.setUp(callee.address, {
      schedule: CONTINUOUS,
      interface: { concurrency: 4 },
    });
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    callee.hold = () => released;
    await importOrders(service, code, 500);
    await until('four calls run', () => callee.calls.length === 4);
    await raw(service, '');
    await raw(service, 'GET /healthz HTTP/1.1\r\nHost: x');
    const idle = await raw(service, `GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n`);
    await once(idle, 'data');

    const began = performance.now();
    const ended = service.stop();
    await untilClosed(service);
    release();
    assert.equal(await ended, 0);
    assert.ok(performance.now() - began < SOON_MS);
    assert.equal(callee.calls.length, 4, 'only those that ran');

    const next = await start(LONG);
    await untilEmpty(next, code, interfaceId);
    assert.equal(callee.calls.length, 500);
    assert.equal(new Set(callee.orderIds).size, 500, 'what had ended was committed');
  });

  test('killed while its last calls run, it has repeated no other', async () => {
    const service = await start(LONG);
    const { code, interfaceId } = await service.setUp(callee.address, {
      schedule: CONTINUOUS,
      interface: { concurrency: 4 },
    });
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    // One of the four goes on for a while, so that the stop has something to commit.
    callee.hold = (_call, number) => (number >= 100 && number % 10 === 0 ? released : undefined);
    await importOrders(service, code, 500);
    await until('some are stuck', () => callee.calls.length >= 110);
    void service.stop();
    await untilClosed(service);
    await settled(callee);
    const running = new Set(callee.orderIds.filter((_id, number) => number >= 100 && number % 10 === 0));
    await service.stop('SIGKILL');
    callee.hold = () => undefined;
    release();
    const called = callee.calls.length;
    const next = await start(LONG);
    await untilEmpty(next, code, interfaceId);
    const again = callee.orderIds.slice(called).filter((id) => callee.orderIds.indexOf(id) < called);
    assert.deepEqual(new Set(again), running);
    assert.equal(again.length, running.size);
  });

  test('a callee that does not answer holds it for the grace and no longer, and what had ended is committed', async () => {
    const service = await start({ ORDERHOOK_STOP_GRACE_MS: '3000' });
    const { code, interfaceId } = await service.setUp(callee.address, {
      schedule: CONTINUOUS,
      interface: { concurrency: 2 },
    });
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    open.unshift(release);
    callee.hold = (_call, number) => (number >= 50 ? released : undefined);
    await importOrders(service, code, 100);
    await until('two calls are stuck', () => callee.calls.length === 52);
    const stuck = await raw(
      service,
      head(
        service,
        `PUT /api/v1/institutions/${code}/orders/777`,
        'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{',
      ),
    );
    const began = performance.now();
    assert.equal(await service.stop(), 0);
    assert.ok(performance.now() - began >= 1_900, 'they had time to end');
    assert.ok(performance.now() - began < SOON_MS);
    assert.ok(stuck.destroyed || (await once(stuck, 'close')));
    assert.equal(callee.calls.length, 52);

    callee.hold = () => undefined;
    const next = await start(LONG);
    await untilEmpty(next, code, interfaceId);
    assert.equal(callee.calls.length, 102, 'the two that were cut are called again, and no other');
  });

  test('an order that is on its way in is stored and answered', async () => {
    const service = await start(LONG);
    const { code } = await service.setUp(callee.address);
    const body = JSON.stringify({ orderId: 5, orderState: 'CLOSED' });
    const headers = `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    const source = await raw(service, head(service, `PUT /api/v1/institutions/${code}/orders/5`, headers));
    source.write(body.slice(0, 10));
    await until(
      'it was taken in',
      async () => (await service.request('GET', '/institutions')).status === 200,
    );
    const ended = service.stop();
    await untilClosed(service);
    const answer = said(source);
    source.write(body.slice(10));
    assert.match(await answer, /^HTTP\/1\.1 200 OK\r\n(?:.*\r\n)*connection: close\r\n/i);
    assert.equal(await ended, 0);
    const next = await start(LONG);
    assert.equal((await next.request('GET', `/institutions/${code}/orders/5`)).status, 200);
  });

  for (const isSilent of [true, false]) {
    test(`an import ${isSilent ? 'that stalls' : 'under way'} is told how much of it is stored`, async () => {
      const service = await start(LONG);
      const { code } = await service.setUp(callee.address);
      const headers = 'Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n';
      const source = await raw(
        service,
        head(service, `POST /api/v1/institutions/${code}/orders/import`, headers),
      );
      let sent = 0;
      const send = (count: number) => {
        const lines = Array.from({ length: count }, () => {
          sent += 1;
          return `{"orderId":${sent},"orderState":"CLOSED"}\n`;
        }).join('');
        if (!source.destroyed) source.write(`${lines.length.toString(16)}\r\n${lines}\r\n`);
      };
      send(1_200);
      await until('some of it is stored', async () => {
        const { items } = await service.call('GET', `/institutions/${code}/orders?limit=1`);
        return items.length === 1;
      });
      const flow = setInterval(() => isSilent || send(50), 5);
      open.unshift(() => clearInterval(flow));
      const answer = said(source);
      const ended = service.stop();
      const text = await answer;
      clearInterval(flow);
      assert.match(text, /^HTTP\/1\.1 503 /);
      const [, stored] =
        /Of the lines up to \d+, (\d+) orders are stored; of those after it, none\./.exec(text) ?? [];
      assert.equal(await ended, 0);
      const next = await start(LONG);
      const isThere = async (id: number) =>
        (await next.request('GET', `/institutions/${code}/orders/${id}`)).status === 200;
      assert.ok(Number(stored) >= 500, text);
      assert.deepEqual([await isThere(Number(stored)), await isThere(Number(stored) + 1)], [true, false]);
    });
  }

  test('a run that somebody waits for is answered as it stands', async () => {
    const service = await start(LONG);
    const { code, scheduleId } = await service.setUp(callee.address);
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    callee.hold = () => released;
    await importOrders(service, code, 3);
    const run = service.request('POST', `/institutions/${code}/schedules/${scheduleId}/run?wait=true`);
    await until('it calls', () => callee.calls.length > 0);
    const ended = service.stop();
    assert.equal((await run).status, 202);
    release();
    assert.equal(await ended, 0);
  });

  test('a second signal ends it at once, with another code', async () => {
    const service = await start(LONG);
    const { code } = await service.setUp(callee.address, { schedule: CONTINUOUS });
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    open.unshift(release);
    callee.hold = () => released;
    await importOrders(service, code, 3);
    await until('it calls', () => callee.calls.length > 0);
    const ended = service.stop();
    await untilClosed(service);
    await service.stop('SIGINT');
    assert.equal(await ended, 1);
  });
});

describe('a serve with a drain', () => {
  test('serves on, is not ready, closes connections with its answers, and starts no call', async () => {
    const service = await start({ ...LONG, ORDERHOOK_DRAIN_S: '4' });
    const { port } = new URL(service.address);
    const { code, interfaceId } = await service.setUp(callee.address, { schedule: CONTINUOUS });
    await service.call('PUT', `/institutions/${code}/orders/1`, { orderId: 1, orderState: 'CLOSED' });
    await until('it calls', () => callee.calls.length === 1);
    assert.deepEqual(await ask(port, '/readyz'), { status: 200, connection: 'keep-alive' });

    const began = performance.now();
    const ended = service.stop();
    await until('it is not ready', async () => (await ask(port, '/readyz')).status === 503);
    assert.deepEqual(await ask(port, '/healthz'), { status: 200, connection: 'close' });
    const put = { orderId: 2, orderState: 'CLOSED' };
    assert.equal((await service.request('PUT', `/institutions/${code}/orders/2`, put)).status, 200);
    const test = await service.request('POST', `/institutions/${code}/interfaces/${interfaceId}/test-call`, {
      orderId: '1',
    });
    assert.equal(test.status, 503);
    assert.match(test.body.detail, /no call starts any more/);
    const metrics = await fetch(`${service.address}/metrics`);
    assert.match(await metrics.text(), /^orderhook_calls_total\{outcome="delivered"\} 1$/m);
    assert.equal(await ended, 0);
    assert.ok(performance.now() - began >= 3_900, 'the listener was open so long');
    assert.equal(callee.calls.length, 1);

    await start(LONG);
    await until('the order that came meanwhile is called', () => callee.calls.length === 2);
  });
});
