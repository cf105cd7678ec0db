import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { after, before, describe, it, type TestContext } from 'node:test';
import { waitForEnd } from '../src/http/execution-wait.ts';
import type { Execution } from '../src/model/entities.ts';
import type { Change, Store } from '../src/store/store.ts';
import { startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';

describe('schedules', () => {
  let server: TestServer;
  let interfaceId: string;
  before(async () => {
    server = await startServer();
    await server.createVenue();
    interfaceId = await server.createInterface();
  });
  after(() => server.close());

  const create = (body: object) => server.post(`${VENUE}/interfaces/${interfaceId}/schedules`, body);

  it('are created with what was left out filled in', async () => {
    const manual = await create({ name: 'By hand', launch: 'MANUAL' });
    assert.equal(manual.status, 201);
    const { id, warnings, ...rest } = manual.json;
    assert.deepEqual(warnings, []);
    assert.deepEqual(rest, {
      interfaceId,
      name: 'By hand',
      launch: 'MANUAL',
      batchSize: 60,
      createdAt: '2026-01-05T09:00:00.000Z',
      updatedAt: '2026-01-05T09:00:00.000Z',
    });
    assert.deepEqual((await server.get(`${VENUE}/schedules/${id}`)).json, { id, ...rest });
    const automatic = await create({
      name: 'Nightly',
      launch: 'AUTOMATIC',
      start: '2026-02-01T00:00:00+01:00',
      end: '2026-03-01T00:00:00.5Z',
    });
    const shown = automatic.json as unknown as Record<string, unknown>;
    assert.equal(shown.frequencyMinutes, 15);
    assert.equal(shown.start, '2026-01-31T23:00:00.000Z');
    assert.equal(shown.end, '2026-03-01T00:00:00.500Z');
    const continuous = await create({ name: 'At once', launch: 'AUTOMATIC', frequencyMinutes: 0 });
    assert.equal((continuous.json as unknown as { frequencyMinutes: number }).frequencyMinutes, 0);
  });

  it('are warned of when the interface has another one that runs by itself', async () => {
    const interfaceId = await server.createInterface();
    const warned = async (method: 'POST' | 'PATCH', path: string, body: object) => {
      const { json, status, text } = await server.send(method, `${VENUE}/${path}`, { body });
      assert.ok(status === 200 || status === 201, text);
      return { id: json.id, warnings: json.warnings };
    };
    const create = (body: object) => warned('POST', `interfaces/${interfaceId}/schedules`, body);
    const first = await create({ name: 'Nightly', launch: 'AUTOMATIC' });
    assert.deepEqual(first.warnings, []);
    assert.deepEqual((await create({ name: 'By hand', launch: 'MANUAL' })).warnings, []);
    const second = await create({ name: 'Hourly', launch: 'AUTOMATIC' });
    assert.equal(second.warnings[0]?.path, 'launch');
    assert.match(second.warnings[0]?.message ?? '', /another AUTOMATIC schedule, "Nightly"\..*MANUAL/);
    const renamed = await warned('PATCH', `schedules/${first.id}`, { name: 'At night' });
    assert.match(renamed.warnings[0]?.message ?? '', /"Hourly"/);
    const manual = await warned('PATCH', `schedules/${second.id}`, { launch: 'MANUAL' });
    assert.deepEqual(manual.warnings, []);
    const elsewhere = `interfaces/${await server.createInterface()}/schedules`;
    assert.deepEqual((await warned('POST', elsewhere, { name: 'x', launch: 'AUTOMATIC' })).warnings, []);
  });

  it('are refused when they break a rule, every field named', async () => {
    const automatic = { name: 'x', launch: 'AUTOMATIC' };
    for (const [body, wrong] of [
      [{ name: 'x', launch: 'DAILY' }, ['launch invalid']],
      [{ launch: 'MANUAL', frequencyMinutes: 15 }, ['name missing', 'frequencyMinutes automatic_only']],
      [
        { name: 'x', launch: 'MANUAL', start: '2026-01-01T00:00:00Z', end: '2026-01-01T00:00:00Z' },
        ['start automatic_only', 'end automatic_only'],
      ],
      [
        { ...automatic, frequencyMinutes: 1441, batchSize: 0 },
        ['frequencyMinutes invalid', 'batchSize invalid'],
      ],
      [
        { ...automatic, frequencyMinutes: -1, batchSize: 10_001 },
        ['frequencyMinutes invalid', 'batchSize invalid'],
      ],
      [{ ...automatic, frequencyMinutes: 1.5 }, ['frequencyMinutes invalid']],
      [{ ...automatic, start: '2026-01-01', end: '2026-02-30T00:00:00Z' }, ['start invalid', 'end invalid']],
      [{ ...automatic, start: '2026-06-30T23:59:60Z' }, ['start moment_unknown']],
      [
        { ...automatic, start: '2026-01-01T01:00:00+01:00', end: '2026-01-01T00:00:00Z' },
        ['end end_not_after_start'],
      ],
    ] as const) {
      const reply = await create(body);
      assert.equal(reply.status, 422, JSON.stringify(body));
      assert.deepEqual(wrongFields(reply), wrong);
    }
  });

  it('change in what is given only', async () => {
    const id = await server.createSchedule(interfaceId, {
      launch: 'AUTOMATIC',
      frequencyMinutes: 5,
      start: '2026-01-01T00:00:00Z',
      end: '2026-02-01T00:00:00Z',
    });
    const path = `${VENUE}/schedules/${id}`;
    const patch = async (body: object) => {
      const reply = await server.patch(path, body);
      assert.equal(reply.status, 200, reply.text);
      const { name, launch, frequencyMinutes, start, end, batchSize } = reply.json as unknown as Record<
        string,
        unknown
      >;
      return JSON.stringify([
        name,
        launch,
        frequencyMinutes,
        start?.toString().slice(0, 7),
        end?.toString().slice(0, 7),
        batchSize,
      ]);
    };
    assert.equal(await patch({ batchSize: 500 }), '["By hand","AUTOMATIC",5,"2026-01","2026-02",500]');
    assert.equal(await patch({ start: null, name: 'n' }), '["n","AUTOMATIC",5,null,"2026-02",500]');
    assert.deepEqual(wrongFields(await server.patch(path, { start: '2026-02-01T00:00:00Z' })), [
      'end end_not_after_start',
    ]);
    assert.equal(await patch({ frequencyMinutes: 0 }), '["n","AUTOMATIC",0,null,"2026-02",500]');
    assert.equal(await patch({ frequencyMinutes: null }), '["n","AUTOMATIC",15,null,"2026-02",500]');
    assert.deepEqual(wrongFields(await server.patch(path, { launch: 'MANUAL', frequencyMinutes: 3 })), [
      'frequencyMinutes automatic_only',
    ]);
    assert.equal(await patch({ launch: 'MANUAL' }), '["n","MANUAL",null,null,null,500]');
    assert.deepEqual(wrongFields(await server.patch(path, { frequencyMinutes: 3 })), [
      'frequencyMinutes automatic_only',
    ]);
    assert.equal(await patch({ launch: 'AUTOMATIC' }), '["n","AUTOMATIC",15,null,null,500]');
  });

  it('are listed for their interface and for the institution, and go', async () => {
    const other = await server.createInterface();
    const id = await server.createSchedule(other);
    const list = async (path: string) =>
      (await server.get(`${VENUE}/${path}`)).json.items.map((one) => one.id);
    assert.deepEqual(await list(`interfaces/${other}/schedules`), [id]);
    assert.ok((await list('schedules?limit=200')).includes(id));
    assert.equal((await server.delete(`${VENUE}/schedules/${id}`)).status, 204);
    assert.equal((await server.get(`${VENUE}/schedules/${id}`)).status, 404);
    assert.deepEqual(await list(`interfaces/${other}/schedules`), []);
  });
});

describe('a run', () => {
  let server: TestServer;
  let interfaceId: string;
  let scheduleId: string;
  let engine: FakeEngine;
  before(async () => {
    engine = new FakeEngine();
    server = await startServer({ wrapStore: (store) => engine.over(store) });
    await server.createVenue();
    interfaceId = await server.createInterface();
    scheduleId = await server.createSchedule(interfaceId);
  });
  after(() => server.close());

  const run = (query = '') => server.post(`${VENUE}/schedules/${scheduleId}/run${query}`);

  async function newestExecution(): Promise<number> {
    const { json } = await server.get(`${VENUE}/schedules/${scheduleId}/executions?limit=1`);
    return Number(json.items[0]?.id);
  }

  it('is asked for and answered at once', async () => {
    const { status, json } = await run();
    assert.equal(status, 202);
    assert.deepEqual(Object.keys(json), ['executionId']);
    const execution = await server.get(`${VENUE}/executions/${json.executionId}`);
    assert.deepEqual(execution.json, {
      id: json.executionId,
      interfaceId,
      scheduleId,
      trigger: 'MANUAL',
      startedAt: '2026-01-05T09:00:00.000Z',
      status: 'RUNNING',
      looked: 0,
      filteredOut: 0,
      called: 0,
      delivered: 0,
      failed: 0,
      abandoned: 0,
    });
  });

  it('is waited for, and answered when it has ended', async () => {
    const before = await newestExecution();
    const waiting = run('?wait=true');
    let id = before;
    while (id === before) {
      id = await newestExecution();
      await new Promise((resolve) => setImmediate(resolve));
    }
    engine.end(id, { endedAt: server.time.now + 5, status: 'OK', looked: 3, called: 2, delivered: 2 });
    const { status, json } = await waiting;
    assert.equal(status, 200);
    const { id: told, status: ended, called, endedAt } = json as unknown as Record<string, unknown>;
    assert.deepEqual([told, ended, called, endedAt], [String(id), 'OK', 2, '2026-01-05T09:00:00.005Z']);
  });

  it('is not waited for without being asked to', async () => {
    assert.equal((await run('?wait=false')).status, 202);
    assert.deepEqual(wrongFields(await run('?wait=yes')), ['wait invalid']);
  });

  it('is no longer waited for when the client has gone away', async () => {
    const address = await server.app.listen({ host: '127.0.0.1', port: 0 });
    const client = request(`${address}${VENUE}/schedules/${scheduleId}/run?wait=true`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.parts.adminKey}` },
    });
    client.on('error', () => {});
    client.end();
    while (engine.listenerCount === 0) await new Promise((resolve) => setImmediate(resolve));
    client.destroy();
    while (engine.listenerCount > 0) await new Promise((resolve) => setImmediate(resolve));
  });
});

describe('a server that stops', () => {
  it('answers who waits for an execution with its id, and does not wait itself', async () => {
    const server = await startServer();
    await server.createVenue();
    const schedule = await server.createSchedule(await server.createInterface());
    const address = await server.app.listen({ host: '127.0.0.1', port: 0 });
    const client = request(`${address}${VENUE}/schedules/${schedule}/run?wait=true`, {
      method: 'POST',
      headers: { authorization: `Bearer ${server.parts.adminKey}` },
    });
    client.end();
    let asked = false;
    while (!asked) {
      const { json } = await server.get(`${VENUE}/schedules/${schedule}/executions`);
      asked = json.items.length > 0;
      // Without this the socket would never have its turn: nothing here waits for anything.
      await new Promise((resolve) => setImmediate(resolve));
    }
    const closed = server.close();
    const [response] = await once(client, 'response');
    assert.equal(response.statusCode, 202);
    response.resume();
    await closed;
  });
});

describe('waiting for the end of an execution', () => {
  const running = { id: 7 } as Execution;
  const ended = { id: 7, endedAt: 5 } as Execution;

  /** A store whose execution ends when the test says so, and timers that stand still. */
  function startWait(context: TestContext) {
    context.mock.timers.enable({ apis: ['setInterval'] });
    const listeners = new Set<(change: Change) => void>();
    const state = { execution: running, listeners };
    const client = new AbortController();
    const end = waitForEnd({
      store: {
        executionById: async () => state.execution,
        subscribe(listener) {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
      },
      institutionId: 1,
      id: 7,
      until: [client.signal],
    });
    const tell = (id: number) => {
      for (const listener of listeners) listener({ kind: 'executions_ended', executionIds: [id] });
    };
    return { state, client, end, tell, settle: () => new Promise((resolve) => setImmediate(resolve)) };
  }

  it('ends as soon as the store tells of it', async (context) => {
    const { state, end, tell, settle } = startWait(context);
    await settle();
    tell(8);
    await settle();
    state.execution = ended;
    tell(7);
    assert.equal(await end, ended);
    assert.equal(state.listeners.size, 0);
  });

  it('ends within a second when what the store told was lost', async (context) => {
    const { state, end, settle } = startWait(context);
    await settle();
    state.execution = ended;
    context.mock.timers.tick(1_000);
    assert.equal(await end, ended);
  });

  it('ends at once, and with nothing, when nobody waits any more', async (context) => {
    const { client, end, settle } = startWait(context);
    await settle();
    client.abort();
    assert.equal(await end, undefined);
  });
});

/** Ends executions as the engine would: in the store first, and then it tells. */
class FakeEngine {
  readonly #ended = new Map<number, Partial<Execution>>();
  readonly #listeners = new Set<(change: Change) => void>();

  over(store: Store): Store {
    return {
      ...store,
      subscribe: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
      executionById: async (institutionId, id) => {
        const execution = await store.executionById(institutionId, id);
        return execution && { ...execution, ...this.#ended.get(id) };
      },
    };
  }

  get listenerCount(): number {
    return this.#listeners.size;
  }

  end(id: number, end: Partial<Execution>): void {
    this.#ended.set(id, end);
    for (const listener of this.#listeners) listener({ kind: 'executions_ended', executionIds: [id] });
  }
}
