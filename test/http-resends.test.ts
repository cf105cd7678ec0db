import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { Institution } from '../src/model/entities.ts';
import type { Position, Progress, WaitingClosing } from '../src/store/store.ts';
import { startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';

const NODE = 'the-node';
const OTHER_VENUE = '/api/v1/institutions/OTHER';

/** What the engine would commit of one interface. */
async function commit(server: TestServer, interfaceId: string, done: Partial<Progress>): Promise<void> {
  const { id: institutionId } = await venueOf(server);
  const { held } = await server.store.holdLeases(NODE, 60_000);
  const lease = held.find((one) => one.interfaceId === Number(interfaceId));
  assert.ok(lease);
  const { fence } = lease;
  const nothing = { settled: [], owed: [], resent: [], abandoned: [], attempts: [], executions: [] };
  const progress = { institutionId, interfaceId: Number(interfaceId), fence, ...nothing, ...done };
  assert.deepEqual(await server.store.commitProgress([progress], NODE), []);
}

async function venueOf(server: TestServer): Promise<Institution> {
  return (await server.store.institutionByCode('MYVENUE')) as Institution;
}

async function waiting(server: TestServer, interfaceId: string): Promise<WaitingClosing[]> {
  const { id } = await venueOf(server);
  const view = await server.store.engineInterface(id, Number(interfaceId));
  assert.ok(view);
  return server.store.waiting(id, view.cursor, { limit: 100, withDetails: false });
}

/** The queue looks at all that waits, and calls nothing. */
async function passAll(server: TestServer, interfaceId: string): Promise<void> {
  const cursor = (await waiting(server, interfaceId)).at(-1)?.position;
  assert.ok(cursor);
  await commit(server, interfaceId, { cursor });
}

type Answered = { readonly count: number; readonly executionId?: string };

describe('a resend', () => {
  let server: TestServer;
  let interfaceId: string;
  before(async () => {
    server = await startServer();
    await server.createVenue();
  });
  beforeEach(async () => {
    interfaceId = await server.createInterface();
  });
  after(() => server.close());

  const resend = (body: object) => server.post(`${VENUE}/interfaces/${interfaceId}/resend`, body);
  const countOf = async (body: object) => {
    const { status, json, text } = await resend({ ...body, dryRun: true });
    assert.equal(status, 200, text);
    assert.deepEqual(Object.keys(json), ['count']);
    return (json as unknown as Answered).count;
  };
  const openResends = async () => {
    const { id } = await venueOf(server);
    return (await server.store.engineInterface(id, Number(interfaceId)))?.resends ?? [];
  };

  it('of chosen orders counts each that closed, once, and starts', async () => {
    await server.putOrder('11');
    await server.putOrder('12');
    await server.putOrder('13', 'OPEN');
    assert.equal(await countOf({ orderIds: ['11'] }), 0, 'the queue will call it anyway');
    await passAll(server, interfaceId);
    const { status, json } = await resend({ orderIds: ['11', '12', '11', '13', '9223372036854775807'] });
    assert.equal(status, 202);
    const { count, executionId } = json as unknown as Answered;
    assert.equal(count, 2);
    const [asked] = await openResends();
    assert.equal(String(asked?.executionId), executionId);
    const execution = await server.get(`${VENUE}/executions/${executionId}`);
    assert.deepEqual(execution.json, {
      id: executionId,
      interfaceId,
      trigger: 'RESEND',
      startedAt: '2026-01-05T09:00:00.000Z',
      status: 'RUNNING',
      looked: 0,
      filteredOut: 0,
      called: 0,
      delivered: 0,
      failed: 0,
      abandoned: 0,
      count: 2,
    });
  });

  it('that is a dry run tells the count and starts nothing', async () => {
    await server.putOrder('21');
    await passAll(server, interfaceId);
    assert.equal(await countOf({ orderIds: ['21', '22'] }), 1);
    assert.equal(await countOf({ orderIds: ['22'] }), 0);
    assert.deepEqual(await openResends(), []);
  });

  it('of all abandoned deliveries counts those of this interface', async () => {
    await server.putOrder('31');
    await server.putOrder('32');
    const seen = await waiting(server, interfaceId);
    const abandoned = seen.map(({ closingId, orderId }) => ({ closingId, orderId, attempts: 12 }));
    const cursor = seen.at(-1)?.position;
    assert.ok(cursor);
    assert.equal(await countOf({ abandoned: true }), 0);
    await commit(server, interfaceId, { cursor, abandoned });
    assert.equal(await countOf({ abandoned: true }), 2);
    const { status, json } = await resend({ abandoned: true, dryRun: false });
    assert.equal(status, 202);
    assert.equal((json as unknown as Answered).count, 2);
  });

  it('of what is owed counts all of it, however long it has to wait', async () => {
    await server.putOrder('33');
    await server.putOrder('34');
    const seen = await waiting(server, interfaceId);
    const dueAt = server.time.now + 3_600_000;
    const owed = seen.map(({ closingId, orderId }) => ({ closingId, orderId, attempts: 3, dueAt }));
    assert.equal(await countOf({ owed: true }), 0);
    await commit(server, interfaceId, { cursor: seen.at(-1)?.position as Position, owed });
    assert.equal(await countOf({ owed: true }), 2);
    const { status, json } = await resend({ owed: true });
    assert.equal(status, 202);
    assert.equal((json as unknown as Answered).count, 2);
    const queue = await server.get(`${VENUE}/interfaces/${interfaceId}/queue`);
    assert.equal(
      (queue.json as unknown as { oldestOwedAt: string }).oldestOwedAt,
      '2026-01-05T09:00:00.000Z',
    );
  });

  it('takes ids as texts or as JSON integers, every digit of them', async () => {
    const largest = '9223372036854700001';
    await server.putOrder(largest);
    await server.putOrder('9007199254740993');
    await passAll(server, interfaceId);
    const body = `{"orderIds":[${largest},"9007199254740993",9007199254740993],"dryRun":true}`;
    const { status, json } = await server.post(`${VENUE}/interfaces/${interfaceId}/resend`, body);
    assert.equal(status, 200);
    assert.equal((json as unknown as Answered).count, 2);
  });

  it('of a time span counts from its start up to and without its end, as far as the queue is', async () => {
    const start = server.time.now;
    for (const orderId of ['41', '42', '43', '44']) {
      server.time.now += 1_000;
      await server.putOrder(orderId);
    }
    const seconds = (after: number) => new Date(start + after * 1_000).toISOString();
    const cursor = (await waiting(server, interfaceId))[2]?.position;
    assert.ok(cursor);
    assert.equal(await countOf({ closedFrom: seconds(1), closedTo: seconds(9) }), 0);
    await commit(server, interfaceId, { cursor });
    assert.equal(await countOf({ closedFrom: seconds(1), closedTo: seconds(9) }), 3);
    assert.equal(await countOf({ closedFrom: seconds(1), closedTo: seconds(3) }), 2);
    const withOffset = seconds(2).replace('T09', 'T10').replace('Z', '+01:00');
    assert.equal(await countOf({ closedFrom: withOffset, closedTo: seconds(2.001) }), 1);
    const { status, json } = await resend({ closedFrom: seconds(2), closedTo: seconds(9) });
    assert.equal(status, 202);
    assert.equal((json as unknown as Answered).count, 2);
    const [asked] = await openResends();
    assert.equal(asked?.isFiltered, true);
  });

  it('is refused when it is wrong, every field named', async () => {
    const from = '2026-01-01T00:00:00Z';
    const to = '2026-01-02T00:00:00Z';
    for (const [body, wrong] of [
      [{}, [' selection_missing']],
      [{ dryRun: true }, [' selection_missing']],
      [{ orderIds: [] }, ['orderIds invalid']],
      [{ orderIds: null }, ['orderIds invalid']],
      [{ orderIds: '1' }, ['orderIds invalid']],
      [{ orderIds: [true] }, ['orderIds invalid']],
      [{ orderIds: [1.5, 0, -1] }, [0, 1, 2].map((index) => `orderIds.${index} order_id_invalid`)],
      [{ owed: 'yes' }, ['owed invalid']],
      [{ owed: true, abandoned: true }, ['abandoned selection_ambiguous', 'owed selection_ambiguous']],
      [{ orderIds: Array(10_001).fill('1') }, ['orderIds invalid']],
      [
        { orderIds: ['1', '0', '2', '01', '9223372036854775808', ''] },
        [1, 3, 4, 5].map((index) => `orderIds.${index} order_id_invalid`),
      ],
      [{ abandoned: false }, ['abandoned invalid']],
      [{ closedFrom: from }, ['closedTo missing']],
      [{ closedTo: to }, ['closedFrom missing']],
      [{ closedFrom: 'yesterday' }, ['closedFrom invalid', 'closedTo missing']],
      [{ closedFrom: 'yesterday', closedTo: to }, ['closedFrom invalid']],
      [{ closedFrom: '2026-06-30T23:59:60Z', closedTo: to }, ['closedFrom moment_unknown']],
      [{ closedFrom: to, closedTo: from }, ['closedTo closed_to_not_after_from']],
      [{ closedFrom: from, closedTo: '2026-01-01T01:00:00+01:00' }, ['closedTo closed_to_not_after_from']],
      [
        { orderIds: ['1'], abandoned: true },
        ['orderIds selection_ambiguous', 'abandoned selection_ambiguous'],
      ],
      [
        { orderIds: ['x'], abandoned: 1, closedTo: to, dryRun: 'no', since: 1 },
        [
          'abandoned invalid',
          'dryRun invalid',
          'since unknown',
          'orderIds selection_ambiguous',
          'abandoned selection_ambiguous',
          'closedTo selection_ambiguous',
          'orderIds.0 order_id_invalid',
        ],
      ],
    ] as const) {
      const reply = await resend(body);
      const told = JSON.stringify(body).slice(0, 200);
      assert.equal(reply.status, 422, told);
      assert.deepEqual(wrongFields(reply), wrong, told);
    }
    assert.deepEqual(await openResends(), []);
  });

  it('of the most orders that can be named is taken; of many wrong ids the first are told, and how many more', async () => {
    const orderIds = Array.from({ length: 10_000 }, (_, index) =>
      String(9_223_372_036_854_775_807n - BigInt(index)),
    );
    assert.equal(await countOf({ orderIds }), 0);
    const { json } = await resend({ orderIds: orderIds.map((id) => `x${id}`) });
    assert.equal(json.errors.length, 21);
    assert.deepEqual(json.errors.at(-1), {
      path: 'orderIds',
      code: 'order_id_invalid',
      message: '9980 more of the orderIds are no order ids.',
    });
  });

  it('needs an interface that is there, also to be counted', async () => {
    await server.delete(`${VENUE}/interfaces/${interfaceId}`);
    for (const dryRun of [false, true]) {
      const { status, json } = await resend({ abandoned: true, dryRun });
      assert.equal(status, 404);
      assert.equal(json.detail, `There is no interface ${interfaceId}.`);
    }
  });

  it('is nothing of another institution', async () => {
    await server.createVenue('OTHER');
    const path = `${OTHER_VENUE}/interfaces/${interfaceId}/resend`;
    assert.equal((await server.post(path, { abandoned: true })).status, 404);
    const { executionId } = (await resend({ abandoned: true })).json;
    assert.equal((await server.get(`${OTHER_VENUE}/executions/${executionId}`)).status, 404);
    assert.equal((await server.post(`${OTHER_VENUE}/executions/${executionId}/cancel`)).status, 404);
    assert.equal((await openResends())[0]?.isCancelled, false);
  });

  it('is cancelled while it runs, as often as one likes, and not when it has ended', async () => {
    await server.putOrder('51');
    await passAll(server, interfaceId);
    const { executionId } = (await resend({ orderIds: ['51'] })).json;
    const path = `${VENUE}/executions/${executionId}/cancel`;
    for (let times = 0; times < 2; times++) {
      const { status, json } = await server.post(path);
      assert.equal(status, 202);
      assert.deepEqual(json, { executionId });
      assert.equal((await openResends())[0]?.isCancelled, true);
    }
    const running = (await openResends())[0]?.execution;
    assert.ok(running);
    const ended = { ...running, status: 'OK', endedAt: server.time.now, looked: 1 } as const;
    await commit(server, interfaceId, { executions: [ended] });
    const late = await server.post(path);
    assert.equal(late.status, 409);
    assert.equal(late.json.code, 'conflict');
    assert.equal(late.json.detail, `Resend ${executionId} has ended.`);
    const { json } = await server.get(`${VENUE}/executions/${executionId}`);
    const { status, count, looked } = json as unknown as Record<string, unknown>;
    assert.deepEqual([status, count, looked], ['OK', 1, 1]);
  });

  it('alone can be cancelled, and has a count: a run of a schedule has neither', async () => {
    const scheduleId = await server.createSchedule(interfaceId);
    const { executionId } = (await server.post(`${VENUE}/schedules/${scheduleId}/run`)).json;
    const { status, json } = await server.post(`${VENUE}/executions/${executionId}/cancel`);
    assert.equal(status, 409);
    assert.match(json.detail, /is no resend/);
    const run = await server.get(`${VENUE}/executions/${executionId}`);
    assert.equal('count' in run.json, false);
    assert.equal((run.json as unknown as { scheduleId: string }).scheduleId, scheduleId);
    assert.equal((await server.post(`${VENUE}/executions/999999/cancel`)).status, 404);
  });
});

describe('a queue', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
    await server.createVenue();
  });
  after(() => server.close());

  it('tells until when it is held back, and no time that has passed', async () => {
    const id = await server.createInterface();
    const heldUntil = async () => {
      const { json } = await server.get(`${VENUE}/interfaces/${id}/queue`);
      return (json as unknown as { heldUntil: string | null }).heldUntil;
    };
    assert.equal(await heldUntil(), null);
    await commit(server, id, { heldUntil: server.time.now + 5_000 });
    assert.equal(await heldUntil(), '2026-01-05T09:00:05.000Z');
    server.time.now += 4_999;
    assert.equal(await heldUntil(), '2026-01-05T09:00:05.000Z');
    server.time.now += 1;
    assert.equal(await heldUntil(), null);
  });
});
