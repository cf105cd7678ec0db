import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { CallLimits } from '../src/caller/call.ts';
import { createCaller } from '../src/caller/caller.ts';
import type { Progress } from '../src/store/store.ts';
import { answered, unanswered } from './support/fake-callee.ts';
import { INTERFACE, startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';
import { startCallee } from './support/scripted-callee.ts';

const INTERFACES = `${VENUE}/interfaces`;
const LARGEST = '9223372036854775807';

describe('interfaces', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({
      resolve: async (host) => [{ address: host === 'inside.example' ? '10.0.0.1' : '8.8.8.8', family: 4 }],
    });
    await server.createVenue();
    await server.openDestination('partner.example:443');
  });
  after(() => server.close());

  it('are created with what was left out filled in', async () => {
    const { status, json } = await server.post(INTERFACES, INTERFACE);
    assert.equal(status, 201);
    const { id, ...rest } = json;
    assert.match(id, /^\d+$/);
    assert.deepEqual(rest, {
      ...INTERFACE,
      granularity: 'TICKETS',
      concurrency: 8,
      simulation: false,
      active: true,
      attemptsMax: 12,
      destination: 'partner.example:443',
      createdAt: '2026-01-05T09:00:00.000Z',
      updatedAt: '2026-01-05T09:00:00.000Z',
      warnings: [],
    });
    const { warnings: _, ...shown } = json;
    assert.deepEqual((await server.get(`${INTERFACES}/${id}`)).json, shown);
    assert.deepEqual((await server.get(INTERFACES)).json.items.at(-1), shown);
  });

  it('change in what is given only, and lose what is null', async () => {
    const id = await server.createInterface({
      method: 'POST',
      url: 'https://partner.example/orders',
      payload: '{"id": ${orderId}}',
      filter: 'OrderDetailsData.OrderType=SALE',
    });
    server.time.now += 1_000;
    const { status, json } = await server.patch(`${INTERFACES}/${id}`, { active: false, filter: null });
    assert.equal(status, 200);
    const shown = json as unknown as Record<string, unknown>;
    assert.equal(shown.active, false);
    assert.equal(shown.filter, undefined);
    assert.equal(shown.payload, '{"id": ${orderId}}');
    assert.notEqual(shown.updatedAt, shown.createdAt);
    assert.equal((await server.patch(`${INTERFACES}/${id}`, {})).status, 200);
  });

  it('are checked as the whole that a change would make of them', async () => {
    const id = await server.createInterface({
      method: 'POST',
      url: 'https://partner.example/orders',
      payload: '{"id": ${orderId}}',
      filter: 'OrderDetailsData.TicketDatas(*).TicketState=X',
    });
    const toGet = await server.patch(`${INTERFACES}/${id}`, { method: 'GET' });
    assert.deepEqual(
      toGet.json.errors.map(({ path }) => path),
      ['url', 'payload'],
    );
    const coarser = await server.patch(`${INTERFACES}/${id}`, { granularity: 'OPERATIONS' });
    assert.equal(coarser.status, 422);
    assert.equal(coarser.json.errors[0]?.path, 'filter');
    const url = 'https://partner.example/${orderId}';
    assert.equal(
      (await server.patch(`${INTERFACES}/${id}`, { method: 'GET', url, payload: null })).status,
      200,
    );
  });

  it('are refused with all that is wrong, the position in the filter included', async () => {
    const reply = await server.post(INTERFACES, {
      ...INTERFACE,
      type: 'OTHER',
      url: 'https://partner.example/',
      filter: 'OrderDetailsData.OrderType=SALE;;',
      granularity: 'ALL',
      concurrency: 65,
    });
    assert.equal(reply.status, 422);
    assert.deepEqual(reply.json.errors.map(({ path }) => path).sort(), [
      'concurrency',
      'filter',
      'granularity',
      'type',
      'url',
    ]);
    assert.equal(reply.json.errors.find(({ path }) => path === 'filter')?.position, 32);
    // A payload is looked at although the URL is missing.
    const payload = await server.post(INTERFACES, { ...INTERFACE, method: 'POST', url: 7, payload: '{' });
    assert.deepEqual(payload.json.errors.map(({ path }) => path).sort(), ['payload', 'url']);
    for (const name of ['', '   ', 'x'.repeat(201)]) {
      assert.deepEqual(wrongFields(await server.post(INTERFACES, { ...INTERFACE, name })), ['name invalid']);
    }
  });

  it('take an empty filter and an empty payload for none', async () => {
    const { json } = await server.post(INTERFACES, {
      ...INTERFACE,
      method: 'POST',
      payload: '',
      filter: ' ',
    });
    assert.equal('payload' in json, false);
    assert.equal('filter' in json, false);
  });

  it('warn of what is probably not meant, and of a destination that may not be called', async () => {
    const paths = async (changes: object) => {
      const { json } = await server.post(INTERFACES, { ...INTERFACE, ...changes });
      return json.warnings.map(({ path, message }) => `${path}: ${message}`);
    };
    const [unknown] = await paths({ filter: 'OrderDetailsData.OrdrType=SALE' });
    assert.match(unknown ?? '', /^filter: .*OrderType/i);
    assert.deepEqual(await paths({ url: 'https://closed.example/${orderId}' }), [
      'url: Nothing is called yet: there is no open proxy opening for closed.example:443; request one, which an administrator opens.',
    ]);
    await server.openDestination('inside.example:80');
    assert.deepEqual(await paths({ url: 'http://inside.example/${orderId}' }), [
      'url: Nothing is called yet: inside.example resolves to 10.0.0.1, which is not public: private; an administrator can open it with allowPrivate.',
    ]);
    assert.equal((await paths({ method: 'POST', url: 'https://partner.example/' })).length, 1);
  });

  it('are gone when deleted, and leave their call log', async () => {
    const id = await server.createInterface();
    const schedule = await server.createSchedule(id);
    await server.putOrder('77');
    await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '77' });
    assert.equal((await server.delete(`${INTERFACES}/${id}`)).status, 204);
    assert.equal((await server.delete(`${INTERFACES}/${id}`)).status, 404);
    assert.equal((await server.get(`${INTERFACES}/${id}`)).status, 404);
    assert.equal((await server.get(`${INTERFACES}/${id}/queue`)).status, 404);
    assert.equal((await server.get(`${VENUE}/schedules/${schedule}`)).status, 404);
    assert.equal((await server.get(`${INTERFACES}/${id}/calls`)).json.items.length, 1);
  });

  it('tell their queue', async () => {
    const id = await server.createInterface();
    assert.deepEqual((await server.get(`${INTERFACES}/${id}/queue`)).json, {
      waiting: 0,
      owed: 0,
      abandoned: 0,
      oldestWaitingAt: null,
      oldestOwedAt: null,
      heldUntil: null,
    });
    await server.putOrder('78');
    const { json } = await server.get(`${INTERFACES}/${id}/queue`);
    assert.deepEqual(json, {
      waiting: 1,
      owed: 0,
      abandoned: 0,
      oldestWaitingAt: new Date(server.time.now).toISOString(),
      oldestOwedAt: null,
      heldUntil: null,
    });
    const order = await server.get(`${VENUE}/orders/78`);
    assert.match(order.text, new RegExp(`"interfaceId":"${id}","closingId":"\\d+","state":"WAITING"`));
  });
});

describe('a preview', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ resolve: async () => [{ address: '8.8.8.8', family: 4 }] });
    await server.createVenue();
    await server.put(
      `${VENUE}/orders/${LARGEST}`,
      `{"orderId":${LARGEST},"orderState":"CLOSED","orderType":"SALE"}`,
    );
  });
  after(() => server.close());

  const preview = (id: string) => server.post(`${INTERFACES}/${id}/preview`, { orderId: LARGEST });

  it('shows the very request, and sends nothing', async () => {
    await server.openDestination('partner.example:443');
    const id = await server.createInterface({ method: 'POST', payload: '{"id": "${orderId}"}' });
    const { status, json } = await preview(id);
    assert.equal(status, 200);
    assert.deepEqual(json, {
      request: {
        method: 'POST',
        url: `https://partner.example/orders/${LARGEST}`,
        headers: {
          Host: 'partner.example',
          'User-Agent': 'Orderhook/1.2.3',
          Accept: '*/*',
          'Content-Type': 'application/json',
          'Content-Length': '29',
        },
        body: `{"id": "${LARGEST}"}`,
      },
      destination: { allowed: true },
      wouldCall: true,
      because: ['The interface has no schedule.'],
    });
    assert.equal(server.callee.calls.length, 0);
  });

  it('takes the id of the order as text or as a JSON integer, every digit of it', async () => {
    const id = await server.createInterface();
    for (const orderId of [`"${LARGEST}"`, LARGEST]) {
      const { json } = await server.post(`${INTERFACES}/${id}/preview`, `{"orderId":${orderId}}`);
      assert.equal((json.request as { url: string }).url, `https://partner.example/orders/${LARGEST}`);
    }
  });

  it('explains the filter, read at the granularity of the interface', async () => {
    const id = await server.createInterface({ filter: 'OrderDetailsData.OrderType=REFUND_CLIENT' });
    const { json } = await preview(id);
    const { filter, wouldCall } = json as unknown as {
      filter: { matches: boolean; conditions: { text: string; found: string }[] };
      wouldCall: boolean;
    };
    assert.equal(filter.matches, false);
    assert.equal(filter.conditions[0]?.text, 'OrderDetailsData.OrderType=REFUND_CLIENT');
    assert.equal(filter.conditions[0]?.found, 'SALE');
    assert.equal(wouldCall, false);
  });

  it('tells why a destination is not allowed', async () => {
    const id = await server.createInterface({ url: 'http://127.0.0.1:81/${orderId}' });
    assert.deepEqual((await preview(id)).json.destination, {
      allowed: false,
      reason: 'destination_not_allowed',
      detail: 'there is no open proxy opening for 127.0.0.1:81; request one, which an administrator opens',
    });
    const opening = await server.openDestination('127.0.0.1:81');
    assert.deepEqual((await preview(id)).json.destination, {
      allowed: false,
      reason: 'destination_not_allowed',
      detail: '127.0.0.1 is not public: loopback; an administrator can open it with allowPrivate',
    });
    await server.post(`${VENUE}/proxy-openings/${opening}/open`, { allowPrivate: true });
    assert.deepEqual((await preview(id)).json.destination, { allowed: true });
  });

  it('says why an order would not be called now: filter, destination, pause, simulation, hold, schedules', async () => {
    await server.openDestination('ready.example:443');
    const url = 'https://ready.example/${orderId}';
    const because = async (id: string) => {
      const { json } = await preview(id);
      return (json as unknown as { because: string[] }).because;
    };
    const id = await server.createInterface({ url });
    assert.deepEqual(await because(id), ['The interface has no schedule.']);
    const schedule = await server.createSchedule(id);
    assert.deepEqual(await because(id), ['No schedule runs by itself: those of the interface are MANUAL.']);
    const patch = (body: object) => server.patch(`${VENUE}/schedules/${schedule}`, body);
    await patch({ launch: 'AUTOMATIC', start: '2026-02-01T00:00:00Z' });
    assert.deepEqual(await because(id), [
      'No schedule runs by itself before 2026-02-01T00:00:00.000Z, when one starts.',
    ]);
    await patch({ start: null, end: '2026-01-01T00:00:00Z' });
    assert.deepEqual(await because(id), [
      'No schedule runs by itself any more: those that are AUTOMATIC have ended.',
    ]);
    await patch({ end: null });
    assert.deepEqual(await because(id), []);

    const institutionId = (await server.store.institutionByCode('MYVENUE'))?.id as number;
    await hold(server, institutionId, Number(id), server.time.now + 60_000);
    const held = (await preview(id)).json as unknown as Record<string, unknown>;
    assert.deepEqual(held.because, [
      'The callee asked by Retry-After for no call until 2026-01-05T09:01:00.000Z; to call sooner, delete the hold.',
    ]);
    assert.equal(held.heldUntil, '2026-01-05T09:01:00.000Z');
    assert.equal(held.wouldCall, true, 'it would, later');
    await server.delete(`${INTERFACES}/${id}/hold`);

    await server.patch(`${INTERFACES}/${id}`, {
      active: false,
      simulation: true,
      filter: 'OrderDetailsData.OrderType=SALE;OrderDetailsData.Origin=WEB',
      url: 'https://closed.example/${orderId}',
    });
    assert.deepEqual(await because(id), [
      'The filter says no: OrderDetailsData.Origin=WEB',
      'The destination may not be called: there is no open proxy opening for closed.example:443; request one, which an administrator opens.',
      'The interface is paused: its orders wait until it is active.',
      'The interface simulates: everything happens but the request.',
    ]);
  });

  it('says that the egress proxy resolves, and saving says it too; neither resolves', async (t) => {
    const resolve = () => Promise.reject(new Error('resolved behind an egress proxy'));
    const behindProxy = await startServer({ hasEgressProxy: true, resolve });
    t.after(() => behindProxy.close());
    await behindProxy.createVenue();
    await behindProxy.putOrder('5');
    await behindProxy.openDestination('partner.example:443');
    const detail =
      'the egress proxy resolves partner.example, and decides by its own rules whether it may be called';
    const saved = await behindProxy.post(INTERFACES, INTERFACE);
    assert.deepEqual(saved.json.warnings, [
      { path: 'url', message: `The destination is not checked here: ${detail}.` },
    ]);
    const { json } = await behindProxy.post(`${INTERFACES}/${saved.json.id}/preview`, { orderId: '5' });
    assert.deepEqual(json.destination, { allowed: true, detail });
    assert.equal((json as unknown as { wouldCall: boolean }).wouldCall, true);

    await behindProxy.openDestination('10.0.0.1:443');
    const literal = await behindProxy.post(INTERFACES, { ...INTERFACE, url: 'https://10.0.0.1/${orderId}' });
    assert.deepEqual(literal.json.warnings, [
      {
        path: 'url',
        message:
          'Nothing is called yet: 10.0.0.1 is not public: private; an administrator can open it with allowPrivate.',
      },
    ]);
  });

  it('says that a paused or simulating interface would not call', async () => {
    for (const changes of [{ active: false }, { simulation: true }]) {
      const { json } = await preview(await server.createInterface(changes));
      assert.equal((json as unknown as { wouldCall: boolean }).wouldCall, false);
    }
  });

  it('needs an order that is there', async () => {
    const id = await server.createInterface();
    for (const call of ['preview', 'test-call']) {
      const missing = await server.post(`${INTERFACES}/${id}/${call}`, { orderId: '5' });
      assert.equal(missing.status, 404);
      assert.equal(missing.json.detail, 'There is no order 5.');
      const number = await server.post(`${INTERFACES}/${id}/${call}`, { orderId: 5 });
      assert.equal(number.json.detail, 'There is no order 5.');
      for (const wrong of [
        '0',
        '-5',
        '5.0',
        '5e0',
        '1.5',
        'true',
        '[5]',
        'null',
        '""',
        '"05"',
        `1${LARGEST}`,
      ]) {
        const refused = await server.post(`${INTERFACES}/${id}/${call}`, `{"orderId":${wrong}}`);
        assert.deepEqual(wrongFields(refused), ['orderId invalid'], wrong);
        assert.match(refused.json.detail, /a string of digits, or a JSON integer/);
      }
    }
  });
});

/** As the engine commits it after a callee's Retry-After. */
async function hold(server: TestServer, institutionId: number, interfaceId: number, heldUntil: number) {
  const progress: Progress = {
    institutionId,
    interfaceId,
    fence: 0,
    settled: [],
    owed: [],
    resent: [],
    abandoned: [],
    attempts: [],
    executions: [],
    heldUntil,
  };
  await server.store.commitProgress([progress], 'a-node');
}

describe('a test call', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
    await server.createVenue();
    await server.openDestination('partner.example:443');
    await server.putOrder('5');
    await server.putOrder('6', 'OPEN');
  });
  beforeEach(() => {
    server.callee.calls.length = 0;
    server.callee.outcome = () => answered(200, { server: 'x' });
  });
  after(() => server.close());

  it('calls now, whatever the filter says, outside the queue, and answers the entry of the log', async () => {
    const id = await server.createInterface({ filter: 'OrderDetailsData.OrderType=NEVER' });
    const { status, json } = await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '5' });
    assert.equal(status, 200);
    assert.deepEqual(server.callee.calls, [{ method: 'GET', url: 'https://partner.example/orders/5' }]);
    const { id: _, closingId, ...entry } = json as unknown as Record<string, unknown>;
    assert.match(String(closingId), /^\d+$/);
    assert.deepEqual(entry, {
      orderId: '5',
      attempt: 1,
      trigger: 'TEST',
      startedAt: new Date(server.time.now).toISOString(),
      durationMs: 1,
      outcome: 'DELIVERED',
      status: 200,
      request: {
        method: 'GET',
        url: 'https://partner.example/orders/5',
        headers: { Host: 'partner.example', 'User-Agent': 'Orderhook/1.2.3', Accept: '*/*' },
      },
      response: { headers: { server: 'x' }, bodyStart: '' },
    });
    assert.deepEqual((await server.get(`${INTERFACES}/${id}/calls`)).json.items, [json]);
    const { json: queue } = await server.get(`${INTERFACES}/${id}/queue`);
    assert.equal((queue as unknown as { waiting: number }).waiting, 0);
  });

  it('works for an order that never closed, too', async () => {
    const id = await server.createInterface();
    const { json } = await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '6' });
    assert.equal(json.outcome, 'DELIVERED');
    assert.equal('closingId' in json, false);
  });

  it('tells a failure and its reason', async () => {
    const id = await server.createInterface();
    server.callee.outcome = () => answered(500);
    const refused = await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '5' });
    assert.deepEqual(
      [refused.json.outcome, refused.json.reason, refused.json.status],
      ['FAILED', 'status', 500],
    );
    server.callee.outcome = () => unanswered('timeout_connect');
    const late = await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '5' });
    assert.deepEqual([late.json.outcome, late.json.reason], ['FAILED', 'timeout_connect']);
    assert.equal('response' in late.json || 'status' in late.json, false);
  });

  it('calls nobody without an open proxy opening, and nobody when the interface simulates', async () => {
    const closed = await server.createInterface({ url: 'https://closed.example/${orderId}' });
    const { json } = await server.post(`${INTERFACES}/${closed}/test-call`, { orderId: '5' });
    assert.deepEqual([json.outcome, json.reason], ['FAILED', 'destination_not_allowed']);
    const simulating = await server.createInterface({ simulation: true });
    const simulated = await server.post(`${INTERFACES}/${simulating}/test-call`, { orderId: '5' });
    assert.equal(simulated.json.outcome, 'SIMULATED');
    assert.equal(server.callee.calls.length, 0);
  });

  it('lifts a hold when it is delivered, and not when it fails', async () => {
    const id = await server.createInterface();
    const institution = await server.store.institutionByCode('MYVENUE');
    const institutionId = institution?.id as number;
    const holdIt = () => hold(server, institutionId, Number(id), server.time.now + 60_000);
    const isHeld = async () => {
      const { json } = await server.get(`${INTERFACES}/${id}/queue`);
      return (json as unknown as { heldUntil: string | null }).heldUntil !== null;
    };
    await holdIt();
    server.callee.outcome = () => answered(500);
    await server.post(`${INTERFACES}/${id}/test-call`, { orderId: 5 });
    assert.ok(await isHeld());
    server.callee.outcome = () => answered();
    await server.post(`${INTERFACES}/${id}/test-call`, `{"orderId":5}`);
    assert.ok(!(await isHeld()));

    await holdIt();
    assert.ok(await isHeld());
    for (let times = 0; times < 2; times += 1) {
      assert.equal((await server.delete(`${INTERFACES}/${id}/hold`)).status, 204);
      assert.ok(!(await isHeld()));
    }
    assert.equal((await server.delete(`${INTERFACES}/999999/hold`)).status, 404);
  });

  it('is found in the log by outcome and by order', async () => {
    const id = await server.createInterface();
    await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '5' });
    server.callee.outcome = () => unanswered();
    await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '6' });
    const orders = async (query: string) => {
      const { json } = await server.get(`${INTERFACES}/${id}/calls?${query}`);
      return json.items.map(({ orderId }) => orderId);
    };
    assert.deepEqual(await orders(''), ['6', '5']);
    assert.deepEqual(await orders('outcome=DELIVERED'), ['5']);
    assert.deepEqual(await orders('outcome=FAILED&orderId=5'), []);
    assert.deepEqual(await orders('orderId=6'), ['6']);
    assert.deepEqual(await orders('orderId=none'), []);
    assert.deepEqual(wrongFields(await server.get(`${INTERFACES}/${id}/calls?outcome=LOST`)), [
      'outcome invalid',
    ]);
  });

  it('stays in the log of a deleted interface, and is in none of an interface that never was', async () => {
    const id = await server.createInterface();
    const { json } = await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '5' });
    assert.equal((await server.delete(`${INTERFACES}/${id}`)).status, 204);
    assert.equal((await server.get(`${INTERFACES}/${id}`)).status, 404);
    const log = await server.get(`${INTERFACES}/${id}/calls`);
    assert.equal(log.status, 200);
    assert.deepEqual(log.json.items, [json]);
    for (const query of ['', '?orderId=5', '?orderId=none']) {
      const unknown = await server.get(`${INTERFACES}/999999/calls${query}`);
      assert.equal(unknown.status, 404, query);
      assert.equal(unknown.json.detail, 'There is no interface 999999.');
    }
    await server.createVenue('OTHER');
    const elsewhere = `/api/v1/institutions/OTHER/interfaces/${id}/calls`;
    assert.equal((await server.get(elsewhere)).status, 404);
  });
});

describe('a test call with a real caller', () => {
  const text = 'y'.repeat(3_000);
  const MUCH = 1_000_000;

  /** How many connections three test calls needed, one after the other, to a callee that says how long its answer is. */
  async function connectionsFor(
    answer: { body: string | Buffer; encoding?: string; length?: number },
    limits: Partial<CallLimits>,
  ): Promise<number> {
    const { body, encoding = 'identity', length = body.length } = answer;
    const callee = await startCallee((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Encoding: ${encoding}\r\nContent-Length: ${length}\r\n\r\n`);
      socket.write(body);
    });
    const caller = createCaller({ userAgent: 'Orderhook/1.2.3', limits });
    const server = await startServer({ caller });
    try {
      await server.createVenue();
      await server.openDestination(`127.0.0.1:${callee.port}`, true);
      await server.putOrder('5');
      const id = await server.createInterface({ url: `${callee.origin}/\${orderId}` });
      for (let calls = 0; calls < 3; calls++) {
        const { json } = await server.post(`${INTERFACES}/${id}/test-call`, { orderId: '5' });
        assert.equal(json.outcome, 'DELIVERED', json.detail);
        assert.equal((json.response as { bodyStart: string }).bodyStart, text.slice(0, 1_024));
      }
      return callee.accepted;
    } finally {
      await server.close();
      await caller.destroy();
      await callee.close();
    }
  }

  it('reads as much of an answer as it may, 64 KiB unless told, and keeps the connection', async () => {
    assert.equal(await connectionsFor({ body: text }, {}), 1);
    assert.equal(await connectionsFor({ body: text }, { answerBytesMax: 3_000 }), 1);
    const gzip = { body: gzipSync(text), encoding: 'gzip' };
    assert.equal(await connectionsFor(gzip, { answerBytesMax: 3_000 }), 1);
  });

  it('does not wait for the rest of a longer answer, counted decoded: the connection is dropped', async () => {
    assert.equal(await connectionsFor({ body: text, length: MUCH }, { answerBytesMax: 2_999 }), 3);
    const gzip = { body: gzipSync(text), encoding: 'gzip', length: MUCH };
    assert.equal(await connectionsFor(gzip, { answerBytesMax: 2_999 }), 3);
  });
});

describe('a filter', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.close());
  const check = async (body: object | string) => (await server.post('/api/v1/filters/check', body)).json;

  it('is checked, and a wrong one is an answer', async () => {
    assert.deepEqual(await check({ filter: 'OrderDetailsData.OrderType=SALE' }), {
      valid: true,
      errors: [],
      warnings: [],
    });
    const wrong = (await check({ filter: 'OrderDetailsData.OrderType' })) as unknown as {
      valid: boolean;
      errors: { position: number; message: string }[];
    };
    assert.equal(wrong.valid, false);
    assert.deepEqual(Object.keys(wrong.errors[0] as object), ['position', 'message']);
    const coarse = await check({
      filter: 'OrderDetailsData.TicketDatas(*).TicketState=X',
      granularity: 'OPERATIONS',
      order: {},
    });
    assert.equal((coarse as unknown as { valid: boolean }).valid, false);
    assert.equal('matches' in coarse, false);
  });

  it('is explained for an order, whose numbers keep their digits', async () => {
    const body = `{"filter":"OrderDetailsData.OrderId=${LARGEST}","order":{"orderId":${LARGEST}}}`;
    const { matches, conditions } = (await check(body)) as unknown as {
      matches: boolean;
      conditions: { found: string }[];
    };
    assert.equal(matches, true);
    assert.equal(conditions[0]?.found, LARGEST);
  });

  it('must be there, and the order must be an object', async () => {
    assert.deepEqual(
      wrongFields(await server.post('/api/v1/filters/check', { order: [], granularity: 'X' })),
      ['filter missing', 'granularity invalid', 'order invalid'],
    );
  });
});
