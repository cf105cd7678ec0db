import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Writable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { pino } from 'pino';
import { STATUS_OF } from '../src/http/problem.ts';
import { AppError, ERROR_CODES } from '../src/model/app-error.ts';
import type { Store } from '../src/store/store.ts';
import { ADMIN_KEY, startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';

describe('problems', () => {
  let server: TestServer;
  const trouble: { error?: Error } = {};
  const logged: Record<string, unknown>[] = [];

  before(async () => {
    const log = pino(
      { level: 'info' },
      new Writable({
        write(line, _encoding, done) {
          logged.push(JSON.parse(String(line)));
          done();
        },
      }),
    );
    server = await startServer({ log, wrapStore: (store) => failing(store, trouble) });
    await server.createVenue();
  });
  after(() => server.close());

  it('have the members of RFC 9457 and those of the contract, and their own media type', async () => {
    const { status, json, headers } = await server.get(`${VENUE}/interfaces/7`, {
      headers: { 'x-request-id': 'mine-1' },
    });
    assert.equal(status, 404);
    assert.equal(headers['content-type'], 'application/problem+json');
    assert.equal(headers['x-request-id'], 'mine-1');
    assert.deepEqual(json, {
      type: 'urn:orderhook:problem:not_found',
      title: ERROR_CODES.not_found,
      status: 404,
      code: 'not_found',
      detail: 'There is no interface 7.',
      requestId: 'mine-1',
    });
  });

  it('carry an id of our own when the client sent none, or one that does not belong into a log', async () => {
    const ids = new Set<unknown>();
    for (const headers of [{}, { 'x-request-id': 'a b' }, { 'x-request-id': 'x'.repeat(65) }] as Record<
      string,
      string
    >[]) {
      const { json, headers: answered } = await server.get('/nowhere', { headers });
      assert.match(String(json.requestId), /^[\w-]+$/);
      assert.equal(answered['x-request-id'], json.requestId);
      ids.add(json.requestId);
    }
    assert.equal(ids.size, 3);
  });

  it('are the answer of unknown paths and methods too', async () => {
    for (const [method, path] of [
      ['GET', '/nowhere'],
      ['GET', '/api/v1/nothing'],
      ['DELETE', '/healthz'],
      ['PATCH', VENUE],
    ] as const) {
      const { status, json } = await server.send(method, path);
      assert.equal(status, 404);
      assert.equal(json.detail, `There is no ${method} ${path}.`);
    }
    const { status, json } = await server.get('/api/v1/institutions/%zz/orders');
    assert.equal(status, 400);
    assert.equal(json.code, 'invalid_value');
  });

  it('tell where a body stops being JSON', async () => {
    const { status, json } = await server.post('/api/v1/institutions', '{"code": MYVENUE}');
    assert.equal(status, 400);
    assert.equal(json.code, 'invalid_json');
    assert.match(json.detail, /line 1, column 10/);
    assert.equal(json.errors[0]?.position, 9);
    for (const body of ['', '{"a":"\ufffd', '['.repeat(60_000)]) {
      assert.equal(
        (await server.post('/api/v1/institutions', body)).json.code,
        'invalid_json',
        body.slice(0, 9),
      );
    }
    const latin1 = Buffer.from('{"name":"caf\xe9"}', 'latin1');
    const broken = await server.send('POST', '/api/v1/institutions', { body: latin1 });
    assert.equal(broken.status, 400);
    assert.equal(broken.json.detail, 'The text is not UTF-8.');
  });

  it('ask for an object where a list or a scalar came', async () => {
    for (const body of ['[]', '1', 'null', '"x"']) {
      const { status, json } = await server.post('/api/v1/institutions', body);
      assert.equal(status, 422);
      assert.equal(json.errors[0]?.message, 'Send a JSON object.');
    }
  });

  it('tell the limit of a body that is over it', async () => {
    const { status, json } = await server.put(`${VENUE}/orders/1`, 'x'.repeat(1024 * 1024 + 1));
    assert.equal(status, 413);
    assert.equal(json.code, 'body_too_large');
    assert.equal(json.detail, 'The body may have 1048576 bytes at most.');
  });

  it('tell which media type a call takes', async () => {
    const { status, json } = await server.post('/api/v1/institutions', 'code=A', {
      type: 'application/x-www-form-urlencoded',
    });
    assert.equal(status, 415);
    assert.equal(json.code, 'unsupported_media_type');
    assert.equal(json.detail, 'Send the body with Content-Type: application/json.');
    const lines = await server.post(`${VENUE}/orders/import`, '{}');
    assert.equal(lines.status, 415);
    assert.match(lines.json.detail, /application\/x-ndjson/);
    const packed = await server.post(`${VENUE}/orders/import`, '{}', {
      type: 'application/x-ndjson',
      headers: { 'content-encoding': 'gzip' },
    });
    assert.equal(packed.status, 415);
    assert.match(packed.json.detail, /Content-Encoding/);
  });

  it('list every wrong field at once: missing, of another type, unknown, and against a rule', async () => {
    const reply = await server.post(`${VENUE}/interfaces`, {
      type: 'ORDER_WEBHOOK_V1',
      method: 'GET',
      url: 'ftp://partner.example/${orderId}',
      filter: 'OrderDetailsData.OrderType=',
      concurrency: '8',
      colour: 'red',
      toString: 1,
    });
    assert.equal(reply.status, 422);
    assert.equal(reply.json.code, 'invalid_value');
    const fields = wrongFields(reply);
    assert.deepEqual(fields.slice(0, 4), [
      'name missing',
      'concurrency invalid',
      'colour unknown',
      'toString unknown',
    ]);
    assert.deepEqual(
      fields.slice(4).map((field) => field.split(' ')[0]),
      ['url', 'filter'],
    );
    assert.equal(reply.json.detail, '6 values are wrong.');
    assert.equal(typeof reply.json.errors[5]?.position, 'number');
  });

  it('never coerce a body, and read the numbers of a query', async () => {
    const body = { name: 'x', launch: 'MANUAL', batchSize: '60' };
    assert.deepEqual(wrongFields(await server.post(`${VENUE}/interfaces/1/schedules`, body)), [
      'batchSize invalid',
    ]);
    assert.equal((await server.get('/api/v1/institutions?limit=1')).json.items.length, 1);
    for (const query of [
      'limit=0',
      'limit=201',
      'limit=1.5',
      'limit=',
      'limit=x',
      'limit=1&limit=2',
      'limit=1e2',
    ]) {
      assert.deepEqual(
        wrongFields(await server.get(`/api/v1/institutions?${query}`)),
        ['limit invalid'],
        query,
      );
    }
    assert.deepEqual(wrongFields(await server.get('/api/v1/institutions?limti=5')), ['limti unknown']);
    assert.deepEqual(wrongFields(await server.get('/api/v1/institutions?cursor=x')), [
      'cursor cursor_invalid',
    ]);
  });

  it('answer 503 with Retry-After while the database is away', async () => {
    trouble.error = new AppError('store_unavailable', 'The database cannot be used right now.', {
      retryAfterSeconds: 2,
    });
    for (const { status, headers, json } of [
      await server.get('/api/v1/institutions'),
      await server.putOrder('1'),
      await server.post(`${VENUE}/orders/1/close`),
      await server.get('/readyz'),
    ]) {
      assert.equal(status, 503);
      assert.equal(headers['retry-after'], '2');
      assert.equal(json.code, 'store_unavailable');
    }
    assert.equal((await server.get('/healthz')).status, 200);
    delete trouble.error;
    assert.equal((await server.get('/readyz')).status, 200);
  });

  it('say nothing of the cause of a bug, which the log has under the id of the request', async () => {
    logged.length = 0;
    trouble.error = new Error('secret of the driver', { cause: new Error('deeper secret') });
    const { status, json, text } = await server.get('/api/v1/institutions');
    delete trouble.error;
    assert.equal(status, 500);
    assert.equal(json.code, 'internal');
    assert.doesNotMatch(text, /secret/);
    const line = logged.find(({ requestId }) => requestId === json.requestId);
    assert.equal(line?.level, 50);
    assert.match(JSON.stringify(line), /secret of the driver.*deeper secret/s);
  });

  it('are one log line each, with nothing that is secret', async () => {
    logged.length = 0;
    await server.get('/api/v1/institutions');
    await server.get(`${VENUE}/interfaces/7?cursor=hidden`, { key: ADMIN_KEY });
    assert.equal(logged.length, 1);
    const [line] = logged;
    assert.equal(line?.level, 30);
    assert.equal(line?.status, 422);
    assert.equal(line?.route, '/api/v1/institutions/:code/interfaces/:interfaceId');
    assert.equal(line?.institution, 'MYVENUE');
    assert.doesNotMatch(JSON.stringify(line), new RegExp(`${ADMIN_KEY}|hidden`));
  });

  it('know a status for every code', () => {
    assert.deepEqual(Object.keys(STATUS_OF).sort(), Object.keys(ERROR_CODES).sort());
  });

  it('answer also what is no HTTP at all', async () => {
    await server.app.listen({ host: '127.0.0.1', port: 0 });
    const address = server.app.server.address() as { port: number };
    const socket = connect(address.port, '127.0.0.1');
    let answer = '';
    socket.setEncoding('utf8').on('data', (text) => {
      answer += text;
    });
    socket.write('NONSENSE\r\n\r\n');
    await once(socket, 'close');
    assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\nContent-Type: application\/problem\+json\r\n/);
    assert.equal(JSON.parse(answer.split('\r\n\r\n')[1] as string).status, 400);
  });

  it('come with headers that keep browsers from guessing', async () => {
    assert.equal((await server.get('/nowhere')).headers['x-content-type-options'], 'nosniff');
    const docs = await server.get('/docs');
    assert.equal(docs.status, 200);
    assert.match(String(docs.headers['content-security-policy']), /default-src 'self'/);
  });
});

/** The store, until there is an error to reject with. */
function failing(store: Store, trouble: { error?: Error }): Store {
  return new Proxy(store, {
    get(target, name, receiver) {
      const method = Reflect.get(target, name, receiver);
      if (typeof method !== 'function' || name === 'close' || name === 'subscribe') return method;
      return (...args: unknown[]) =>
        trouble.error ? Promise.reject(trouble.error) : Reflect.apply(method, target, args);
    },
  });
}
