/** Texts that a database cannot keep, on both: PostgreSQL takes no NUL, and half of a character comes back as another one. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { SignJWT } from 'jose';
import { createSetupLink } from '../src/http/setup.ts';
import type { Store } from '../src/store/store.ts';
import { INTERFACE, startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';
import { openTestStore, PostgresServer } from './support/postgres-server.ts';

/** What no text may hold. */
const WRONG_TEXTS = ['\0', 'a\0b', '\ud800', 'a\udc00b'];
const READ = '/tnseb/backend-apis/externalOrderService/v1_33/getOrderDetails';
const AUTH = '/tnai/backend-apis/v1/auth';

function suite(name: string, openStore: () => Promise<Store | undefined>): void {
  describe(`text that cannot be kept, on ${name}`, () => {
    let server: TestServer;
    let interfaceId: string;
    let scheduleId: string;
    const setup = createSetupLink();

    before(async () => {
      const store = await openStore();
      server = await startServer({ setup, ...(store && { store }) });
      await server.createVenue();
      interfaceId = await server.createInterface();
      scheduleId = await server.createSchedule(interfaceId);
      await server.post(`${VENUE}/partners`, { partner: 'ACME', operator: 'OPS' });
      await server.putOrder('1');
    });
    after(() => server.close());

    it('names nothing in a path', async () => {
      for (const path of [
        '/api/v1/institutions/%00/orders',
        '/api/v1/institutions/MYVENUE%00/orders',
        `${VENUE}/orders/%00`,
        `${VENUE}/orders/1%00`,
        `${VENUE}/interfaces/%00`,
        `${VENUE}/interfaces/1%00/calls`,
        `${VENUE}/schedules/%00`,
        `${VENUE}/executions/%00`,
      ]) {
        assert.equal((await server.get(path)).status, 404, path);
      }
      for (const path of ['/api/v1/api-keys/%00', `${VENUE}/partners/%00`]) {
        assert.equal((await server.delete(path)).status, 404, path);
      }
      assert.equal((await server.put('/api/v1/institutions/%00/orders/1', '{}')).status, 404);
      // Such a half cannot be written in a path at all.
      assert.equal((await server.get('/api/v1/institutions/%ed%a0%80/orders')).status, 400);
    });

    it('is wrong in a query, by its field', async () => {
      for (const [path, field] of [
        [`${VENUE}/orders?state=`, 'state'],
        [`${VENUE}/orders?cursor=`, 'cursor'],
        ['/api/v1/institutions?cursor=', 'cursor'],
        [`${VENUE}/interfaces/${interfaceId}/calls?cursor=`, 'cursor'],
        [`${VENUE}/interfaces/${interfaceId}/calls?outcome=`, 'outcome'],
      ] as const) {
        for (const text of ['%00', 'a%00b']) {
          const reply = await server.get(path + text);
          assert.equal(reply.status, 422, path);
          assert.equal(reply.json.errors[0]?.path, field);
        }
      }
      // What is no order id finds none.
      for (const query of ['query', 'orderId']) {
        const list = query === 'query' ? `${VENUE}/orders` : `${VENUE}/interfaces/${interfaceId}/calls`;
        assert.ok([200, 422].includes((await server.get(`${list}?${query}=%00`)).status), query);
      }
    });

    it('is wrong in a body, by its field', async () => {
      for (const text of WRONG_TEXTS) {
        const wrong = async (method: string, path: string, body: object, field: string) => {
          const reply = await server.send(method, path, { body });
          assert.equal(reply.status, 422, `${path} ${field} ${JSON.stringify(text)}: ${reply.text}`);
          assert.ok(
            wrongFields(reply).some((one) => one.startsWith(`${field} `)),
            reply.text,
          );
        };
        const interfaces = `${VENUE}/interfaces`;
        await wrong('POST', '/api/v1/institutions', { code: text, name: 'x' }, 'code');
        await wrong('POST', '/api/v1/institutions', { code: 'X', name: `x${text}` }, 'name');
        await wrong('POST', '/api/v1/institutions', { code: 'X', name: 'x', timeZone: text }, 'timeZone');
        await wrong('POST', '/api/v1/api-keys', { name: `x${text}`, role: 'ADMINISTRATOR' }, 'name');
        await wrong(
          'POST',
          '/api/v1/api-keys',
          { name: 'x', role: 'SOURCE', institution: text },
          'institution',
        );
        await wrong('POST', `${VENUE}/partners`, { partner: `x${text}`, operator: 'O' }, 'partner');
        await wrong('POST', `${VENUE}/partners`, { partner: 'P', operator: `x${text}` }, 'operator');
        await wrong('POST', `${VENUE}/proxy-openings`, { destination: `x${text}:80` }, 'destination');
        await wrong('POST', `${VENUE}/proxy-openings`, { destination: 'x:80', reason: text }, 'reason');
        await wrong('POST', interfaces, { ...INTERFACE, name: `x${text}` }, 'name');
        await wrong('POST', interfaces, { ...INTERFACE, url: `${INTERFACE.url}${text}` }, 'url');
        await wrong(
          'POST',
          interfaces,
          { ...INTERFACE, method: 'POST', payload: `"\${orderId}${text}"` },
          'payload',
        );
        await wrong(
          'POST',
          interfaces,
          { ...INTERFACE, filter: `OrderDetailsData.OrderType=${text}` },
          'filter',
        );
        await wrong('PATCH', `${interfaces}/${interfaceId}`, { name: `x${text}` }, 'name');
        await wrong(
          'PATCH',
          `${interfaces}/${interfaceId}`,
          { filter: `OrderDetailsData.OrderType=${text}` },
          'filter',
        );
        await wrong(
          'POST',
          `${interfaces}/${interfaceId}/schedules`,
          { name: `x${text}`, launch: 'MANUAL' },
          'name',
        );
        await wrong('PATCH', `${VENUE}/schedules/${scheduleId}`, { name: `x${text}` }, 'name');
        await wrong('POST', `${interfaces}/${interfaceId}/preview`, { orderId: text }, 'orderId');
        await wrong('POST', `${interfaces}/${interfaceId}/test-call`, { orderId: text }, 'orderId');
        await wrong('POST', '/api/v1/filters/check', { filter: text }, 'filter');
        const resend = await server.post(`${interfaces}/${interfaceId}/resend`, { orderIds: [text] });
        assert.equal(resend.status, 422);
        const form = new URLSearchParams({ token: setup.token, name: 'x\0' }).toString();
        const page = await server.post('/setup', form, {
          key: null,
          type: 'application/x-www-form-urlencoded',
        });
        assert.equal(page.status, 422);
      }
    });

    it('is wrong as the state of an order, and kept in all other fields of it', async () => {
      for (const text of WRONG_TEXTS) {
        const order = JSON.stringify({ orderId: 2, orderState: text });
        assert.deepEqual(wrongFields(await server.put(`${VENUE}/orders/2`, order)), [
          'orderState order_state_invalid',
        ]);
        const other = JSON.stringify({ orderId: 2, orderState: 'OPEN', [text]: text });
        assert.equal((await server.put(`${VENUE}/orders/2`, other)).status, 200);
        assert.ok((await server.get(`${VENUE}/orders/2`)).text.endsWith(`"details":${other}}`));
        const { json } = await server.send('POST', `${VENUE}/orders/import`, {
          body: `${order}\n${other}\n`,
          type: 'application/x-ndjson',
        });
        assert.equal(json.stored, 1);
        assert.equal(json.rejected[0]?.line, 1);
      }
    });

    it('is no key, no secret and no partner', async () => {
      for (const [index, text] of WRONG_TEXTS.entries()) {
        const from = `198.51.100.${index}`;
        for (const body of [
          { operator: text, partner: 'ACME', secret: 'x' },
          { operator: 'OPS', partner: text, secret: 'x' },
          { operator: 'OPS', partner: 'ACME', secret: text },
        ]) {
          assert.equal(
            (await server.post(AUTH, body, { key: null, from })).status,
            401,
            JSON.stringify(body),
          );
        }
        const now = Math.floor(server.time.now / 1000);
        for (const [sub, aud, iss] of [
          [text, 'OPS', 'ACME'],
          ['MYVENUE', text, 'ACME'],
          ['MYVENUE', 'OPS', text],
        ] as const) {
          const token = await new SignJWT({ sub, aud, iss })
            .setProtectedHeader({ alg: 'HS256' })
            .setIssuedAt(now)
            .setExpirationTime(now + 60)
            .sign(Buffer.from('x'));
          const read = await server.post(READ, { orderId: 1 }, { key: token, from });
          assert.equal(read.status, 401, JSON.stringify([sub, aud, iss]));
        }
      }
    });
  });
}

suite('SQLite', async () => undefined);

let postgres: PostgresServer;
before(async () => {
  postgres = await PostgresServer.start();
});
after(() => postgres.remove());
suite('PostgreSQL', async () => openTestStore(await postgres.database()));
