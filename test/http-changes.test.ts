/** Changes of interfaces and schedules: several at once, and only of what the client has seen. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Store } from '../src/store/store.ts';
import { startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';

/** Every method answers some turns of the event loop late, as a database on another machine does. */
function late(store: Store): Store {
  return new Proxy(store, {
    get(target, name) {
      const member = target[name as keyof Store] as unknown;
      if (typeof member !== 'function' || name === 'subscribe') return member;
      return async (...given: unknown[]) => {
        await new Promise((resolve) => setTimeout(resolve, 1));
        const answer = await Reflect.apply(member, target, given);
        await new Promise((resolve) => setTimeout(resolve, 1));
        return answer;
      };
    },
  });
}

describe('changes', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ wrapStore: late });
    await server.createVenue();
  });
  after(() => server.close());

  const shown = async (path: string) =>
    (await server.get(path)).json as unknown as Readonly<Record<string, unknown>>;

  it('of different fields of an interface at once all last', async () => {
    const path = `${VENUE}/interfaces/${await server.createInterface()}`;
    const changes = [
      { name: 'Renamed' },
      { concurrency: 3 },
      { active: false },
      { simulation: true },
      { granularity: 'OPERATIONS' },
      { filter: 'OrderDetailsData.OrderType=SALE' },
    ];
    const replies = await Promise.all(changes.map((change) => server.patch(path, change)));
    for (const reply of replies) assert.equal(reply.status, 200, reply.text);
    const now = await shown(path);
    for (const [name, value] of Object.entries(Object.assign({}, ...changes))) {
      assert.equal(now[name], value, name);
    }
    assert.equal(new Set(replies.map(({ headers }) => headers.etag)).size, changes.length);
  });

  it('of different fields of a schedule at once all last', async () => {
    const path = `${VENUE}/schedules/${await server.createSchedule(await server.createInterface(), {
      launch: 'AUTOMATIC',
    })}`;
    const changes = [
      { name: 'Renamed' },
      { frequencyMinutes: 7 },
      { batchSize: 9 },
      { start: '2026-02-01T00:00:00.000Z' },
      { end: '2026-03-01T00:00:00.000Z' },
    ];
    const replies = await Promise.all(changes.map((change) => server.patch(path, change)));
    for (const reply of replies) assert.equal(reply.status, 200, reply.text);
    const now = await shown(path);
    for (const [name, value] of Object.entries(Object.assign({}, ...changes))) {
      assert.equal(now[name], value, name);
    }
  });

  it('that are wrong only together are not both made', async () => {
    const path = `${VENUE}/interfaces/${await server.createInterface({
      method: 'POST',
      payload: '{"id": ${orderId}}',
    })}`;
    const replies = await Promise.all([
      server.patch(path, { payload: null }),
      server.patch(path, { url: 'https://partner.example/orders' }),
      server.patch(path, { method: 'GET', payload: null }),
    ]);
    const now = await shown(path);
    const isSound =
      now.method === 'POST' ? true : now.payload === undefined && String(now.url).includes('${orderId}');
    assert.ok(isSound, JSON.stringify(now));
    const refused = replies.filter(({ status }) => status !== 200);
    assert.equal(refused.length, 1, replies.map(({ text }) => text).join('\n'));
    for (const reply of refused) assert.equal(reply.status, 422);

    const schedule = `${VENUE}/schedules/${await server.createSchedule(await server.createInterface(), {
      launch: 'AUTOMATIC',
    })}`;
    const both = await Promise.all([
      server.patch(schedule, { start: '2026-03-01T00:00:00Z' }),
      server.patch(schedule, { end: '2026-02-01T00:00:00Z' }),
    ]);
    assert.deepEqual(both.map(({ status }) => status).sort(), [200, 422]);
    const loser = both.find(({ status }) => status === 422);
    assert.deepEqual(loser && wrongFields(loser), ['end end_not_after_start']);
  });

  for (const kind of ['interfaces', 'schedules'] as const) {
    const create = async () => {
      const id = await server.createInterface();
      return `${VENUE}/${kind}/${kind === 'interfaces' ? id : await server.createSchedule(id)}`;
    };

    it(`of ${kind} are made only to what the client has seen, when it says so`, async () => {
      const path = await create();
      const { etag } = (await server.get(path)).headers;
      assert.match(String(etag), /^"[!#-~]+"$/, 'a strong tag');
      assert.equal((await server.get(path)).headers.etag, etag);
      const patch = (match: string) => server.patch(path, { name: 'x' }, { headers: { 'if-match': match } });

      const first = await patch(String(etag));
      assert.equal(first.status, 200);
      const newer = String(first.headers.etag);
      assert.notEqual(newer, etag);
      assert.equal((await server.get(path)).headers.etag, newer);

      for (const match of [
        String(etag),
        `W/${newer}`,
        '"nothing"',
        newer.replaceAll('"', ''),
        '',
        ',',
        '"a" "b"',
      ]) {
        const refused = await patch(match);
        assert.equal(refused.status, 412, match);
        assert.equal(refused.json.code, 'precondition_failed');
        assert.match(refused.json.detail, /read it again/);
        assert.equal((await server.delete(path, { headers: { 'if-match': match } })).status, 412, match);
      }
      assert.equal((await server.get(path)).headers.etag, newer, 'nothing was changed');

      const listed = await patch(`"other", W/"weak" ,${newer}`);
      assert.equal(listed.status, 200);
      assert.equal((await patch('*')).status, 200);
      const { etag: last } = (await server.get(path)).headers;
      assert.equal((await server.delete(path, { headers: { 'if-match': String(last) } })).status, 204);
      assert.equal((await patch('*')).status, 404);
      assert.equal((await server.delete(path, { headers: { 'if-match': '*' } })).status, 404);
    });

    it(`of ${kind} from the same picture are made once`, async () => {
      const path = await create();
      const { etag } = (await server.get(path)).headers;
      const replies = await Promise.all(
        ['a', 'b', 'c', 'd'].map((name) =>
          server.patch(path, { name }, { headers: { 'if-match': String(etag) } }),
        ),
      );
      assert.deepEqual(replies.map(({ status }) => status).sort(), [200, 412, 412, 412]);
    });
  }

  it('are told of with the tag when something is created', async () => {
    const made = await server.post(`${VENUE}/interfaces`, {
      name: 'x',
      type: 'ORDER_WEBHOOK_V1',
      url: 'https://partner.example/${orderId}',
      method: 'GET',
    });
    assert.ok(made.headers.etag);
    assert.equal(made.headers.etag, (await server.get(`${VENUE}/interfaces/${made.json.id}`)).headers.etag);
    const schedule = await server.post(`${VENUE}/interfaces/${made.json.id}/schedules`, {
      name: 'x',
      launch: 'MANUAL',
    });
    assert.equal(
      schedule.headers.etag,
      (await server.get(`${VENUE}/schedules/${schedule.json.id}`)).headers.etag,
    );
  });
});
