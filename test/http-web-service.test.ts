import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { gunzipSync, inflateSync } from 'node:zlib';
import { SignJWT } from 'jose';
import { encodingFor } from '../src/http/compression.ts';
import { RateLimit } from '../src/http/rate-limit.ts';
import { type Reply, startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';

const READ = '/tnseb/backend-apis/externalOrderService/v1_33/getOrderDetails';
const AUTH = '/tnai/backend-apis/v1/auth';
const LARGEST = '9223372036854775807';

type Claims = Record<string, unknown>;

describe('the web service', () => {
  let server: TestServer;
  let secret: string;

  before(async () => {
    server = await startServer();
    await server.createVenue();
    await server.createVenue('OTHER');
    secret = (await server.post(`${VENUE}/partners`, { partner: 'ACME', operator: 'OPS' })).json.secret;
    await server.put(`${VENUE}/orders/${LARGEST}`, ORDER);
  });
  after(() => server.close());
  // Refused tokens are counted for each minute.
  beforeEach(() => {
    server.time.now += 60_000;
  });

  const ORDER =
    `{"orderId":${LARGEST}, "orderState":"CLOSED","saleAmount":4.10,"operationDatas":[{"operationId":12345678901234567890}],` +
    '"movementDatas":[{"movementId":1}],"ticketDatas":[{"ticketId":2}]}';

  const now = () => Math.floor(server.time.now / 1000);

  function sign(claims: Claims = {}, options: { secret?: string; alg?: string } = {}): Promise<string> {
    const all: Claims = { sub: 'MYVENUE', aud: 'OPS', iss: 'ACME', iat: now(), exp: now() + 60, ...claims };
    return new SignJWT(all)
      .setProtectedHeader({ alg: options.alg ?? 'HS256' })
      .sign(Buffer.from(options.secret ?? secret, 'utf8'));
  }

  async function read(body: object | string, token?: string): Promise<Reply> {
    return server.post(READ, body, { key: token ?? (await sign()) });
  }

  it('gives an order back, every digit of it', async () => {
    const { status, text, headers } = await read(`{"requestId":${LARGEST},"orderId":${LARGEST}}`);
    assert.equal(status, 200);
    assert.match(String(headers['content-type']), /^application\/json/);
    assert.equal(
      text,
      `{"orderDetailsData":${ORDER},"expectedException":false,"requestId":${LARGEST},"statusCode":"success","statusMessage":null,"statusDetail":null}`,
    );
  });

  it('cuts to the granularity, and then too loses no digit', async () => {
    const details = async (granularity?: string) => {
      const { text } = await read(
        `{"orderId":${LARGEST},"granularity":${JSON.stringify(granularity ?? null)}}`,
      );
      return text.slice('{"orderDetailsData":'.length, text.indexOf(',"expectedException"'));
    };
    assert.equal(await details(), ORDER);
    assert.equal(await details('TICKETS'), ORDER);
    assert.equal(
      await details('MOVEMENTS'),
      `{"orderId":${LARGEST}, "orderState":"CLOSED","saleAmount":4.10,"operationDatas":[{"operationId":12345678901234567890}],"movementDatas":[{"movementId":1}]}`,
    );
    assert.equal(
      await details('OPERATIONS'),
      `{"orderId":${LARGEST}, "orderState":"CLOSED","saleAmount":4.10,"operationDatas":[{"operationId":12345678901234567890}]}`,
    );
  });

  it('compresses what is longer than 1 KiB where the client asks for it', async () => {
    const filler = 'x'.repeat(2_000);
    await server.put(`${VENUE}/orders/77`, `{"orderId":77,"orderState":"OPEN","filler":"${filler}"}`);
    const raw = async (orderId: string, accept?: string) => {
      const answer = await server.app.inject({
        method: 'POST',
        url: READ,
        headers: {
          authorization: `Bearer ${await sign()}`,
          'content-type': 'application/json',
          ...(accept !== undefined && { 'accept-encoding': accept }),
        },
        payload: `{"orderId":${orderId},"requestId":1}`,
      });
      assert.equal(answer.statusCode, 200);
      assert.equal(answer.headers.vary, 'accept-encoding');
      return { encoding: answer.headers['content-encoding'], bytes: answer.rawPayload };
    };
    const plain = await raw('77');
    assert.equal(plain.encoding, undefined);
    const unpack = { gzip: gunzipSync, deflate: inflateSync };
    for (const encoding of ['gzip', 'deflate'] as const) {
      const packed = await raw('77', encoding);
      assert.equal(packed.encoding, encoding);
      assert.ok(packed.bytes.length < 500);
      assert.deepEqual(unpack[encoding](packed.bytes), plain.bytes);
    }
    assert.equal((await raw(LARGEST, 'gzip')).encoding, undefined, 'a short answer');
  });

  it('compresses as the client likes it best', () => {
    for (const [accept, encoding] of [
      [undefined, undefined],
      ['', undefined],
      ['gzip, deflate, br', 'gzip'],
      ['deflate, gzip;q=0.5', 'deflate'],
      ['br', undefined],
      ['*', 'gzip'],
      ['gzip;q=0, *', 'deflate'],
      ['gzip;q=0', undefined],
      ['*;q=0', undefined],
      ['GZIP;Q=0.001', 'gzip'],
      ['x-gzip', 'gzip'],
      ['identity, gzip;q=0.5', undefined],
      ['identity;q=0.5, gzip;q=0.5', 'gzip'],
      ['gzip;q=high', undefined],
      ['constructor, __proto__', undefined],
    ] as const) {
      assert.equal(encodingFor(accept), encoding, accept);
    }
  });

  it('counts the requests that bring no number of their own', async () => {
    const first = Number((await read({ orderId: 1 })).json.requestId);
    assert.equal(Number((await read({ orderId: 1, requestId: null })).json.requestId), first + 1);
    assert.equal((await read({ orderId: 1, requestId: 0 })).json.requestId, 0);
  });

  it('answers that an order is unknown, also when it is of another institution', async () => {
    await server.put('/api/v1/institutions/OTHER/orders/55', { orderId: 55, orderState: 'CLOSED' });
    for (const orderId of [54, 55]) {
      const { status, json } = await read({ orderId, requestId: 7 });
      assert.equal(status, 200);
      assert.deepEqual(json, {
        orderDetailsData: null,
        expectedException: true,
        requestId: 7,
        statusCode: 'notfound',
        statusMessage: `There is no order ${orderId}.`,
        statusDetail: null,
      });
    }
  });

  it('answers 400 with every wrong field', async () => {
    for (const [body, wrong] of [
      ['{}', ['orderId order_id_invalid']],
      ['{"orderId":"1"}', ['orderId order_id_invalid']],
      ['{"orderId":0}', ['orderId order_id_invalid']],
      ['{"orderId":-1}', ['orderId order_id_invalid']],
      ['{"orderId":1e3}', ['orderId order_id_invalid']],
      ['{"orderId":1.0}', ['orderId order_id_invalid']],
      ['{"orderId":9223372036854775808}', ['orderId order_id_invalid']],
      ['{"orderId":1,"granularity":"ALL"}', ['granularity granularity_unknown']],
      ['{"orderId":1,"granularity":["TICKETS"]}', ['granularity granularity_unknown']],
      [
        '{"requestId":"7","granularity":1}',
        ['orderId order_id_invalid', 'requestId request_id_invalid', 'granularity granularity_unknown'],
      ],
      ['[]', [' type']],
      ['7', [' type']],
      ['12345678901234567890', [' type']],
    ] as const) {
      const reply = await read(body);
      assert.equal(reply.status, 400, body);
      assert.equal(reply.json.status, 400);
      assert.deepEqual(wrongFields(reply), wrong, body);
    }
    for (const body of ['', '{"orderId":']) assert.equal((await read(body)).json.code, 'invalid_json');
    assert.equal((await read(`{"orderId":1${' '.repeat(65_536)}}`)).status, 413);
    assert.equal((await read('{"orderId":1,"somethingElse":true}')).status, 200);
  });

  describe('a token', () => {
    const refused = async (token: string, detail: RegExp) => {
      const { status, json, headers } = await read({ orderId: 1 }, token);
      assert.equal(status, 401);
      assert.equal(json.code, 'unauthenticated');
      assert.match(json.detail, detail);
      assert.equal(headers['www-authenticate'], 'Bearer realm="Orderhook", error="invalid_token"');
    };

    it('must be one', async () => {
      const { status } = await server.post(READ, { orderId: 1 }, { key: null });
      assert.equal(status, 401);
      await refused('x', /no JWT/);
      await refused(server.parts.adminKey as string, /no JWT/);
    });

    it('must be signed with HS256 and nothing else', async () => {
      await refused(await sign({}, { alg: 'HS512' }), /HS256/);
      const [, payload] = (await sign()).split('.');
      for (const alg of ['none', 'None', 'RS256']) {
        const header = Buffer.from(JSON.stringify({ alg })).toString('base64url');
        await refused(`${header}.${payload}.`, /HS256/);
      }
    });

    it('must be signed with the secret, by a partner of that institution and operator', async () => {
      const answers = new Set<string>();
      for (const token of [
        await sign({}, { secret: 'another secret, long enough to be one' }),
        await sign({ iss: 'NOBODY' }),
        await sign({ aud: 'OPS2' }),
        await sign({ sub: 'OTHER' }),
        await sign({ sub: 'NOWHERE' }),
        `${await sign()}x`,
      ]) {
        const { status, json } = await read({ orderId: 1 }, token);
        assert.equal(status, 401);
        answers.add(json.detail);
      }
      // Who asks does not learn which of them exist.
      assert.equal(answers.size, 1);
    });

    it('must have all its claims', async () => {
      await refused(await sign({ sub: undefined, iss: undefined }), /lacks sub, iss/);
      await refused(await sign({ aud: undefined, exp: undefined }), /lacks aud, exp/);
      await refused(await sign({ aud: [] }), /lacks aud/);
      await refused(await sign({ aud: [7] }), /lacks aud/);
      await refused(await sign({ aud: ['OPS', 'OPS2'] }), /aud is a list of 2: put the operator alone/);
      assert.equal((await read({ orderId: 1 }, await sign({ aud: ['OPS'] }))).status, 200);
      await refused(await sign({ iat: undefined }), /lacks iat/);
      await refused(await sign({ iat: 'x' }), /lacks iat/);
    });

    it('must be of now, and of no more than 900 seconds', async () => {
      const good = async (claims: Claims) =>
        assert.equal((await read({ orderId: 1 }, await sign(claims))).status, 200);
      await good({ iat: now() - 300, exp: now() + 600 });
      await refused(await sign({ iat: now() - 300, exp: now() + 601 }), /more than 900/);
      await good({ iat: now() - 60, exp: now() - 4 });
      await refused(await sign({ iat: now() - 60, exp: now() - 6 }), /expired/);
      await good({ iat: now() + 4 });
      await refused(await sign({ iat: now() + 60, exp: now() + 120 }), /future/);
      await refused(await sign({ nbf: now() + 60 }), /nbf/);
    });

    it('may have its times in milliseconds, of which the same is asked', async () => {
      const ms = (secondsFromNow: number) => (now() + secondsFromNow) * 1_000;
      const good = async (claims: Claims) => {
        const { status, text } = await read({ orderId: 1 }, await sign(claims));
        assert.equal(status, 200, text);
      };
      await good({ iat: ms(0), exp: ms(60) });
      await good({ iat: ms(0) + 123, exp: ms(900) + 123 });
      await good({ iat: ms(0), exp: now() + 60 });
      await good({ iat: now(), exp: ms(60), nbf: ms(-1) });
      await refused(await sign({ iat: ms(-300), exp: ms(601) }), /more than 900/);
      await refused(await sign({ iat: ms(-60), exp: ms(-6) }), /expired 6 s ago.*clock/);
      await refused(await sign({ iat: ms(60), exp: ms(120) }), /iat lies in the future/);
      await refused(await sign({ iat: ms(0), exp: ms(60), nbf: ms(60) }), /nbf lies in the future/);
      await refused(await sign({ nbf: 'soon' }), /nbf must be seconds/);
    });

    it('is nothing worth when the partner is revoked', async () => {
      const { json } = await server.post(`${VENUE}/partners`, { partner: 'GONE', operator: 'OPS' });
      const token = await sign({ iss: 'GONE' }, { secret: json.secret });
      assert.equal((await read({ orderId: 1 }, token)).status, 200);
      await server.delete(`${VENUE}/partners/${json.id}`);
      await refused(token, /No partner/);
    });

    it('opens nothing of the back office, nor a key the web service', async () => {
      assert.equal((await server.get(`${VENUE}/orders`, { key: await sign() })).status, 401);
      const operator = await server.createKey('OPERATOR', 'MYVENUE');
      await refused(operator, /no JWT/);
    });
  });

  describe('the auth call', () => {
    it('gives a token that is good for 30 seconds', async () => {
      const { status, json, headers } = await server.post(
        AUTH,
        { operator: 'OPS', partner: 'ACME', secret },
        { key: null },
      );
      assert.equal(status, 200);
      assert.deepEqual(Object.keys(json), ['token']);
      assert.equal(headers['cache-control'], 'no-store');
      assert.equal((await read(`{"orderId":${LARGEST}}`, json.token)).json.expectedException, false);
      const claims = JSON.parse(Buffer.from(json.token.split('.')[1] as string, 'base64url').toString());
      assert.deepEqual(claims, { sub: 'MYVENUE', aud: 'OPS', iss: 'ACME', iat: now(), exp: now() + 30 });
      server.time.now += 36_000;
      assert.equal((await read({ orderId: 1 }, json.token)).status, 401);
    });

    it('tells namesakes of several institutions apart by their secrets', async () => {
      const other = await server.post('/api/v1/institutions/OTHER/partners', {
        partner: 'ACME',
        operator: 'OPS',
      });
      const body = { operator: 'OPS', partner: 'ACME', secret: other.json.secret };
      const { json } = await server.post(AUTH, body, { key: null });
      const claims = JSON.parse(Buffer.from(json.token.split('.')[1] as string, 'base64url').toString());
      assert.equal(claims.sub, 'OTHER');
      const found = await read({ orderId: 55 }, json.token);
      assert.equal((found.json as unknown as { statusCode: string }).statusCode, 'success');
    });

    it('refuses what is wrong without saying which, and names fields that are missing', async () => {
      const details = new Set<string>();
      for (const wrong of [{ secret: 'x' }, { partner: 'NOBODY' }, { operator: 'NOBODY' }, { secret: '' }]) {
        const body = { operator: 'OPS', partner: 'ACME', secret, ...wrong };
        const { status, json } = await server.post(AUTH, body, { key: null });
        assert.equal(status, 401);
        details.add(json.detail);
      }
      assert.equal(details.size, 1);
      const missing = await server.post(AUTH, { operator: 7, more: 1 }, { key: null });
      assert.equal(missing.status, 400);
      assert.deepEqual(wrongFields(missing), ['operator invalid', 'partner missing', 'secret missing']);
    });
  });
});

describe('the limit of calls', () => {
  it('is told by another status where the setting says so, with the time to wait', async () => {
    const limits = { webServiceCallsPerMinute: 1, webServiceLimitStatus: 509 };
    const server = await startServer({ limits });
    try {
      await server.createVenue();
      const { secret } = (await server.post(`${VENUE}/partners`, { partner: 'A', operator: 'O' })).json;
      const { token } = (await server.post(AUTH, { operator: 'O', partner: 'A', secret }, { key: null }))
        .json;
      assert.equal((await server.post(READ, { orderId: 1 }, { key: token })).status, 200);
      const { status, json, headers } = await server.post(READ, { orderId: 1 }, { key: token });
      assert.deepEqual([status, json.code, headers['retry-after']], [509, 'too_many_requests', '60']);
    } finally {
      await server.close();
    }
  });

  it('holds each partner back for itself, and says for how long', async () => {
    const server = await startServer({ limits: { webServiceCallsPerMinute: 3 } });
    try {
      await server.createVenue();
      const tokens: string[] = [];
      for (const partner of ['A', 'B']) {
        const { json } = await server.post(`${VENUE}/partners`, { partner, operator: 'OPS' });
        const body = { operator: 'OPS', partner, secret: json.secret };
        tokens.push((await server.post(AUTH, body, { key: null })).json.token);
      }
      const read = (index: number) => server.post(READ, { orderId: 1 }, { key: tokens[index] as string });
      for (let count = 0; count < 3; count += 1) assert.equal((await read(0)).status, 200);
      server.time.now += 20_000;
      const { status, headers, json } = await read(0);
      assert.equal(status, 429);
      assert.equal(json.code, 'too_many_requests');
      assert.equal(headers['retry-after'], '40');
      assert.equal((await read(1)).status, 200);
    } finally {
      await server.close();
    }
  });

  it('begins anew a minute after the first call', () => {
    const time = { now: 0 };
    const limit = new RateLimit({ callsPerMinute: 2, clock: () => time.now });
    assert.deepEqual([limit.take('a'), limit.take('a'), limit.take('a')], [undefined, undefined, 60]);
    time.now = 59_001;
    assert.equal(limit.take('a'), 1);
    time.now = 60_000;
    assert.deepEqual([limit.take('a'), limit.take('a'), limit.take('a')], [undefined, undefined, 60]);
  });
});
