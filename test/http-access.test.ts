import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ExpiringCache } from '../src/http/expiring-cache.ts';
import { createSetupLink } from '../src/http/setup.ts';
import { createVault } from '../src/http/vault.ts';
import { startServer, type TestServer, VENUE, wrongFields } from './support/http-server.ts';

describe('institutions', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.close());

  it('are created and listed by administrators', async () => {
    const created = await server.post('/api/v1/institutions', {
      code: 'MY-VENUE_1',
      name: 'Mine',
      timeZone: 'Europe/Zurich',
    });
    assert.equal(created.status, 201);
    assert.deepEqual(created.json, {
      code: 'MY-VENUE_1',
      name: 'Mine',
      timeZone: 'Europe/Zurich',
      createdAt: '2026-01-05T09:00:00.000Z',
    });
    assert.deepEqual((await server.get('/api/v1/institutions')).json, { items: [created.json], next: null });
    const other = await server.post('/api/v1/institutions', { code: 'B', name: 'B' });
    assert.equal((other.json as unknown as { timeZone: string }).timeZone, 'UTC');
  });

  it('have codes that are taken once', async () => {
    const { status, json } = await server.post('/api/v1/institutions', { code: 'B', name: 'B' });
    assert.equal(status, 409);
    assert.equal(json.code, 'conflict');
  });

  it('are refused with a code, a name or a time zone that is none', async () => {
    for (const code of ['', 'a', 'A B', 'A'.repeat(33), 'É', 'A\n']) {
      const reply = await server.post('/api/v1/institutions', { code, name: 'x' });
      assert.deepEqual(wrongFields(reply), ['code invalid'], code);
    }
    for (const timeZone of ['Mars/Olympus', '+01:00', '']) {
      const reply = await server.post('/api/v1/institutions', { code: 'C', name: 'x', timeZone });
      assert.deepEqual(wrongFields(reply), ['timeZone time_zone_unknown'], timeZone);
    }
  });
});

describe('API keys', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
    await server.createVenue();
  });
  after(() => server.close());

  const create = (body: object) => server.post('/api/v1/api-keys', body);

  it('are shown once, and listed without the key', async () => {
    const { status, json, headers } = await create({ name: 'Shop', role: 'SOURCE', institution: 'MYVENUE' });
    assert.equal(status, 201);
    assert.match(json.key, /^ohk_[\w-]{43}$/);
    assert.equal(headers['cache-control'], 'no-store');
    const { key, ...rest } = json;
    const listed = await server.get('/api/v1/api-keys');
    assert.deepEqual(listed.json.items, [rest]);
    assert.ok(!listed.text.includes(key));
    assert.equal((rest as unknown as { institution: string }).institution, 'MYVENUE');
  });

  it('have an institution exactly when their role needs one', async () => {
    for (const [body, wrong] of [
      [{ role: 'ADMINISTRATOR', institution: 'MYVENUE' }, 'institution institution_not_wanted'],
      [{ role: 'OPERATOR' }, 'institution institution_missing'],
      [{ role: 'SOURCE' }, 'institution institution_missing'],
      [{ role: 'SOURCE', institution: 'NOWHERE' }, 'institution institution_unknown'],
      [{ role: 'BOSS' }, 'role invalid'],
      [{ role: 'ADMINISTRATOR', expiresAt: '2026-01-05T10:00:00+01:00' }, 'expiresAt expires_in_the_past'],
      [{ role: 'ADMINISTRATOR', expiresAt: 'tomorrow' }, 'expiresAt invalid'],
    ] as const) {
      assert.deepEqual(wrongFields(await create({ name: 'x', ...body })), [wrong]);
    }
  });

  it('stop working when they expire', async () => {
    const { json } = await create({ name: 'x', role: 'ADMINISTRATOR', expiresAt: '2026-01-05T09:00:10Z' });
    assert.equal((await server.get('/api/v1/institutions', { key: json.key })).status, 200);
    server.time.now += 9_999;
    assert.equal((await server.get('/api/v1/institutions', { key: json.key })).status, 200);
    server.time.now += 1;
    const expired = await server.get('/api/v1/institutions', { key: json.key });
    assert.equal(expired.status, 401);
    assert.equal(expired.json.detail, 'The API key has expired.');
  });

  it('stop working at once when they are deleted', async () => {
    const { json } = await create({ name: 'x', role: 'OPERATOR', institution: 'MYVENUE' });
    assert.equal((await server.get(`${VENUE}/interfaces`, { key: json.key })).status, 200);
    assert.equal((await server.delete(`/api/v1/api-keys/${json.id}`)).status, 204);
    assert.equal((await server.get(`${VENUE}/interfaces`, { key: json.key })).status, 401);
    assert.equal((await server.delete(`/api/v1/api-keys/${json.id}`)).status, 404);
  });

  it('stop working within five seconds when another process deletes them', async () => {
    const { json } = await create({ name: 'x', role: 'OPERATOR', institution: 'MYVENUE' });
    assert.equal((await server.get(`${VENUE}/interfaces`, { key: json.key })).status, 200);
    await server.store.deleteApiKey(Number(json.id));
    server.time.now += 5_000;
    assert.equal((await server.get(`${VENUE}/interfaces`, { key: json.key })).status, 401);
  });

  it('are asked of the store once in five seconds, not with every request', async () => {
    const { json } = await create({ name: 'x', role: 'SOURCE', institution: 'MYVENUE' });
    const { apiKeyByHash } = server.store;
    let lookups = 0;
    server.store.apiKeyByHash = (hash) => {
      lookups += 1;
      return apiKeyByHash.call(server.store, hash);
    };
    for (let count = 0; count < 5; count += 1) {
      await server.post(`${VENUE}/orders/1/close`, undefined, { key: json.key });
    }
    server.store.apiKeyByHash = apiKeyByHash;
    assert.equal(lookups, 1);
  });

  it('are refused when unknown, or not sent as a bearer token', async () => {
    for (const authorization of ['Bearer ohk_unknown', 'Basic eA==', 'Bearer', 'ohk_x', 'Bearer a b']) {
      const { status, headers, json } = await server.get(`${VENUE}/orders`, {
        key: null,
        headers: { authorization },
      });
      assert.equal(status, 401, authorization);
      assert.equal(json.code, 'unauthenticated');
      const isToken = /^Bearer \S+$/.test(authorization);
      const challenge = `Bearer realm="Orderhook"${isToken ? ', error="invalid_token"' : ''}`;
      assert.equal(headers['www-authenticate'], challenge, authorization);
    }
    const lower = await server.get(`${VENUE}/orders`, {
      key: null,
      headers: { authorization: `bearer ${server.parts.adminKey}` },
    });
    assert.equal(lower.status, 200);
  });
});

describe('proxy openings', () => {
  let server: TestServer;
  let operator: string;
  before(async () => {
    server = await startServer();
    await server.createVenue();
    operator = await server.createKey('OPERATOR', 'MYVENUE');
  });
  after(() => server.close());

  const OPENINGS = `${VENUE}/proxy-openings`;

  it('are requested by operators and decided by administrators, who are both named', async () => {
    const requested = await server.post(
      OPENINGS,
      { destination: 'https://Partner.example/x', reason: 'to call' },
      { key: operator },
    );
    assert.equal(requested.status, 201);
    const { id, warnings, ...rest } = requested.json;
    assert.deepEqual(warnings, []);
    assert.deepEqual(rest, {
      destination: 'partner.example:443',
      state: 'REQUESTED',
      allowPrivate: false,
      reason: 'to call',
      requestedAt: '2026-01-05T09:00:00.000Z',
      requestedBy: 'a OPERATOR',
    });
    assert.equal((await server.post(`${OPENINGS}/${id}/open`, {}, { key: operator })).status, 403);
    const { warnings: openWarnings, ...opened } = (await server.post(`${OPENINGS}/${id}/open`)).json;
    assert.deepEqual(openWarnings, []);
    assert.deepEqual(opened, {
      id,
      ...rest,
      state: 'OPEN',
      decidedAt: '2026-01-05T09:00:00.000Z',
      decidedBy: 'ORDERHOOK_ADMIN_KEY',
    });
    assert.deepEqual((await server.get(OPENINGS, { key: operator })).json, {
      items: [opened],
      next: null,
    });
  });

  it('go from state to state as the contract draws it, and nowhere else', async () => {
    const state = async (id: string, decision: string) => {
      const { status, json } = await server.post(`${OPENINGS}/${id}/${decision}`);
      return status === 200 ? (json as unknown as { state: string }).state : status;
    };
    const request = async (destination: string) => (await server.post(OPENINGS, { destination })).json.id;
    const one = await request('one.example:80');
    assert.equal((await server.post(OPENINGS, { destination: 'one.example:80' })).status, 409);
    assert.equal(await state(one, 'revoke'), 409);
    assert.equal(await state(one, 'open'), 'OPEN');
    assert.equal(await state(one, 'open'), 'OPEN', 'opened again to change allowPrivate');
    assert.equal(await state(one, 'refuse'), 409);
    assert.equal(await state(one, 'revoke'), 'REVOKED');
    assert.equal(await state(one, 'open'), 409);
    const two = await request('one.example:80');
    assert.equal(await state(two, 'refuse'), 'REFUSED');
    assert.equal(await state(two, 'open'), 409);
  });

  it('are opened again to raise or lower allowPrivate, which the engine hears of', async () => {
    const { id } = (await server.post(OPENINGS, { destination: 'again.example:80' })).json;
    const venue = await server.store.institutionByCode('MYVENUE');
    let told = 0;
    const unsubscribe = server.store.subscribe(({ kind }) => {
      if (kind === 'configuration') told += 1;
    });
    for (const [body, allowPrivate] of [
      [{}, false],
      [{ allowPrivate: true }, true],
      [{ allowPrivate: false }, false],
      [{ allowPrivate: true }, true],
      [{}, false],
    ] as const) {
      server.time.now += 1_000;
      const { status, json } = await server.post(`${OPENINGS}/${id}/open`, body);
      const opening = json as unknown as Record<string, unknown>;
      assert.deepEqual([status, opening.state, opening.allowPrivate], [200, 'OPEN', allowPrivate]);
      assert.equal(opening.decidedAt, new Date(server.time.now).toISOString());
      const kept = await server.store.openOpening(venue?.id as number, 'again.example:80');
      assert.equal(kept?.allowPrivate, allowPrivate);
    }
    unsubscribe();
    assert.equal(told, 5);
    assert.equal((await server.post(`${OPENINGS}/${id}/open`, {}, { key: operator })).status, 403);
  });

  describe('that let no call through', () => {
    const asked: string[] = [];
    let inside: TestServer;
    let behindProxy: TestServer;
    const start = async (hasEgressProxy: boolean) => {
      const server = await startServer({
        hasEgressProxy,
        resolve: async (host) => {
          asked.push(host);
          if (host === 'silent.example') return new Promise(() => {});
          return [{ address: host === 'inside.example' ? '10.0.0.1' : '8.8.8.8', family: 4 }];
        },
      });
      await server.createVenue();
      return server;
    };
    before(async () => {
      inside = await start(false);
      behindProxy = await start(true);
    });
    after(async () => {
      await inside.close();
      await behindProxy.close();
    });

    const told = async (destination: string, allowPrivate?: boolean, server = inside) => {
      const requested = (await server.post(OPENINGS, { destination })).json;
      const askedBefore = asked.splice(0);
      const body = allowPrivate === undefined ? {} : { allowPrivate };
      const opened = (await server.post(`${OPENINGS}/${requested.id}/open`, body)).json;
      const texts = [requested, opened].map(({ warnings }) =>
        warnings.map(({ path, message }) => `${path}: ${message}`).join(),
      );
      return { texts, askedBefore };
    };
    const LOOPBACK = '127.0.0.1 is not public: loopback; an administrator can open it with allowPrivate.';

    it('are warned of at once: addresses and localhost when they are requested, too', async () => {
      for (const [destination, because] of [
        ['127.0.0.1:81', LOOPBACK],
        ['localhost:81', LOOPBACK],
        ['api.localhost:81', LOOPBACK],
        ['[::1]:81', '::1 is not public: loopback; an administrator can open it with allowPrivate.'],
      ] as const) {
        assert.deepEqual((await told(destination)).texts, [
          `destination: ${destination} is to be opened with allowPrivate: ${because}`,
          `allowPrivate: ${destination} is open, and yet every call is refused: ${because}`,
        ]);
      }
    });

    it('are warned of when they are opened, if it takes a look at DNS', async () => {
      const { texts, askedBefore } = await told('inside.example:443');
      assert.deepEqual(askedBefore, [], 'who may only request learns nothing of the network');
      assert.equal(texts[0], '');
      assert.match(
        texts[1] ?? '',
        /^allowPrivate: .*refused: inside\.example resolves to 10\.0\.0\.1, which is not/,
      );
      assert.deepEqual((await told('public.example:443')).texts, ['', '']);
    });

    it('are not warned of with allowPrivate, nor when DNS is silent, nor where the egress proxy resolves', async () => {
      assert.equal((await told('127.0.0.1:82', true)).texts[1], '');
      assert.equal((await told('silent.example:82')).texts[1], '');
      asked.length = 0;
      assert.equal((await told('inside.example:82', false, behindProxy)).texts[1], '');
      assert.deepEqual(asked, []);
      assert.match((await told('10.0.0.1:82', false, behindProxy)).texts[1] ?? '', /not public/);
    });
  });

  it('say what to write instead of a destination that is none', async () => {
    for (const destination of ['partner.example', 'ftp://x:21', '*.example:443', 'x:99999', '']) {
      const reply = await server.post(OPENINGS, { destination });
      assert.equal(reply.status, 422, destination);
      assert.equal(reply.json.errors[0]?.path, 'destination');
    }
  });
});

describe('partners', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
    await server.createVenue();
  });
  after(() => server.close());

  it('get a secret that is shown once and kept sealed', async () => {
    const { status, json, headers } = await server.post(`${VENUE}/partners`, {
      partner: 'ACME',
      operator: 'OPS',
    });
    assert.equal(status, 201);
    assert.equal(Buffer.from(json.secret, 'base64url').length, 32);
    assert.equal(headers['cache-control'], 'no-store');
    const { secret, ...rest } = json;
    assert.deepEqual((await server.get(`${VENUE}/partners`)).json, { items: [rest], next: null });
    const [kept] = await server.store.partnersNamed('ACME', 'OPS');
    assert.ok(!kept?.sealedSecret.includes(secret));
    assert.equal(server.parts.vault.open(kept?.sealedSecret as string), secret);
  });

  it('are there once for each operator', async () => {
    const again = await server.post(`${VENUE}/partners`, { partner: 'ACME', operator: 'OPS' });
    assert.equal(again.status, 409);
    assert.equal((await server.post(`${VENUE}/partners`, { partner: 'ACME', operator: 'OPS2' })).status, 201);
  });

  it('have names that can stand in a token', async () => {
    for (const partner of ['', ' A', 'A ', 'A\nB', 'x'.repeat(101)]) {
      const reply = await server.post(`${VENUE}/partners`, { partner, operator: 'OPS' });
      assert.deepEqual(wrongFields(reply), ['partner invalid'], JSON.stringify(partner));
    }
    assert.equal((await server.post(`${VENUE}/partners`, { partner: 'Ü & Co', operator: '1' })).status, 201);
  });

  it('are revoked by deleting them', async () => {
    const { json } = await server.post(`${VENUE}/partners`, { partner: 'GONE', operator: 'OPS' });
    assert.equal((await server.delete(`${VENUE}/partners/${json.id}`)).status, 204);
    assert.equal((await server.delete(`${VENUE}/partners/${json.id}`)).status, 404);
  });
});

describe('the setup link', () => {
  const FORM = 'application/x-www-form-urlencoded';

  it('shows a page, creates one administrator, and is dead', async () => {
    const setup = createSetupLink();
    const server = await startServer({ setup, adminKey: undefined });
    try {
      const page = await server.get(`/setup?token=${setup.token}`, { key: null });
      assert.equal(page.status, 200);
      assert.match(String(page.headers['content-type']), /^text\/html/);
      assert.match(String(page.headers['content-security-policy']), /default-src 'none'/);
      assert.equal(page.headers['referrer-policy'], 'no-referrer');
      const form = new URLSearchParams({ token: setup.token, name: '<script>' }).toString();
      const done = await server.post('/setup', form, { key: null, type: FORM });
      assert.equal(done.status, 201);
      assert.equal(done.headers['cache-control'], 'no-store');
      assert.ok(done.text.includes('&lt;script&gt;') && !done.text.includes('<script>'));
      const key = /ohk_[\w-]{43}/.exec(done.text)?.[0] as string;
      assert.equal((await server.get('/api/v1/institutions', { key })).status, 200);
      assert.equal((await server.get(`/setup?token=${setup.token}`, { key: null })).status, 404);
      assert.equal((await server.post('/setup', form, { key: null, type: FORM })).status, 404);
    } finally {
      await server.close();
    }
  });

  it('takes JSON as well, keeps what was wrong for another try, and serves one of two at once', async () => {
    const setup = createSetupLink();
    const server = await startServer({ setup, adminKey: undefined });
    try {
      const path = `/setup?token=${setup.token}`;
      assert.equal((await server.post('/setup?token=guess', { name: 'x' }, { key: null })).status, 404);
      assert.deepEqual(wrongFields(await server.post(path, { name: '' }, { key: null })), ['name invalid']);
      const both = await Promise.all([
        server.post(path, { name: 'one' }, { key: null }),
        server.post(path, { name: 'two' }, { key: null }),
      ]);
      assert.deepEqual(both.map(({ status }) => status).sort(), [201, 404]);
      const { json } = both.find(({ status }) => status === 201) as (typeof both)[0];
      assert.deepEqual(Object.keys(json), ['id', 'name', 'role', 'key']);
      assert.equal(await server.store.hasAdministrator(), true);
    } finally {
      await server.close();
    }
  });

  it('lives on when the key could not be stored', async () => {
    const setup = createSetupLink();
    const server = await startServer({ setup, adminKey: undefined });
    try {
      const { createApiKey } = server.store;
      server.store.createApiKey = () => Promise.reject(new Error('disk'));
      const path = `/setup?token=${setup.token}`;
      assert.equal((await server.post(path, { name: 'x' }, { key: null })).status, 500);
      server.store.createApiKey = createApiKey;
      assert.equal((await server.post(path, { name: 'x' }, { key: null })).status, 201);
    } finally {
      await server.close();
    }
  });

  it('is not there when there is an administrator', async () => {
    const server = await startServer();
    try {
      assert.equal((await server.get('/setup?token=x', { key: null })).status, 404);
    } finally {
      await server.close();
    }
  });
});

describe('what machines ask', () => {
  let server: TestServer;
  const engine: { ready: boolean; because?: string } = { ready: true };
  const database = { horizonLagMs: 0 };
  before(async () => {
    server = await startServer({
      engineReadiness: () => engine,
      wrapStore: (store) => ({ ...store, horizonLagMs: async () => database.horizonLagMs }),
    });
  });
  after(() => server.close());

  it('is answered without a key: does it live, can it work', async () => {
    assert.deepEqual((await server.get('/healthz', { key: null })).json, { status: 'ok' });
    const ready = { status: 'ready', horizonLagMs: 0 };
    assert.deepEqual((await server.get('/readyz', { key: null })).json, ready);
    engine.ready = false;
    engine.because = 'The engine has not started.';
    const { status, json, headers } = await server.get('/readyz', { key: null });
    assert.equal(status, 503);
    assert.equal(json.detail, 'The engine has not started.');
    assert.equal(headers['retry-after'], '1');
  });

  it('is ready however long a transaction elsewhere holds back the log, and says how long that is', async () => {
    engine.ready = true;
    database.horizonLagMs = 3_600_000;
    const { status, json } = await server.get('/readyz', { key: null });
    assert.equal(status, 200);
    assert.deepEqual(json, { status: 'ready', horizonLagMs: 3_600_000 });
  });

  it('gives metrics to a key of any role, or to this very machine, but not through a proxy on it', async () => {
    await server.createVenue();
    const source = await server.createKey('SOURCE', 'MYVENUE');
    const status = async (sent: object) => (await server.get('/metrics', { key: null, ...sent })).status;
    assert.equal(await status({ from: '203.0.113.9', key: source }), 200);
    assert.equal(await status({ from: '203.0.113.9' }), 401);
    for (const from of ['127.0.0.1', '::1', '::ffff:127.0.0.1']) assert.equal(await status({ from }), 200);
    assert.equal(await status({ from: '127.0.0.1', headers: { 'x-forwarded-for': '203.0.113.9' } }), 401);
    assert.equal(await status({ from: '127.0.0.1', key: 'wrong' }), 401);
    const { text, headers } = await server.get('/metrics');
    assert.equal(text, 'orderhook_up 1\n');
    assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/);
  });
});

describe('the vault', () => {
  const key = new Uint8Array(32).fill(1);

  it('opens what it sealed, and seals the same secret differently each time', () => {
    const vault = createVault(key);
    for (const secret of ['', 'a', 'Zürich 🎫', 'x'.repeat(10_000)]) {
      assert.equal(vault.open(vault.seal(secret)), secret);
    }
    assert.notEqual(vault.seal('a'), vault.seal('a'));
  });

  it('opens nothing that another key sealed, or that was changed', () => {
    const vault = createVault(key);
    const sealed = vault.seal('secret');
    assert.throws(() => createVault(new Uint8Array(32).fill(2)).open(sealed), /another key/);
    const bytes = Buffer.from(sealed.slice(3), 'base64url');
    for (let index = 0; index < bytes.length; index += 1) {
      const changed = Buffer.from(bytes);
      changed[index] = (changed[index] as number) ^ 1;
      assert.throws(() => vault.open(`v1.${changed.toString('base64url')}`), /another key/);
    }
    for (const text of ['', 'v1.', 'v2.AAAA', 'plain', sealed.replace('v1', 'v2')]) {
      assert.throws(() => vault.open(text), /form/);
    }
    assert.throws(() => createVault(new Uint8Array(16)), /32 bytes/);
  });
});

describe('the cache', () => {
  it('forgets after its time, and the oldest when it is full', () => {
    const time = { now: 0 };
    const cache = new ExpiringCache<string, number>({ lifetimeMs: 10, entriesMax: 2, clock: () => time.now });
    cache.set('a', 1);
    cache.set('b', 2);
    cache.set('a', 3);
    cache.set('c', 4);
    assert.deepEqual(
      ['a', 'b', 'c'].map((name) => cache.get(name)),
      [3, undefined, 4],
    );
    cache.deleteWhere((value) => value === 4);
    assert.equal(cache.get('c'), undefined);
    time.now = 10;
    assert.equal(cache.get('a'), undefined);
  });
});
