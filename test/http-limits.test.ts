import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { SignJWT } from 'jose';
import { OwnCallSlots, TEST_CALLS_AT_ONCE_MAX, TEST_CALLS_PER_MINUTE_MAX } from '../src/http/call-slots.ts';
import { RateLimit } from '../src/http/rate-limit.ts';
import {
  countedAddress,
  REFUSED_PER_MINUTE_MAX,
  RefusedAttempts,
  WindowCount,
} from '../src/http/refused-attempts.ts';
import { createSetupLink } from '../src/http/setup.ts';
import { AppError } from '../src/model/app-error.ts';
import { type Reply, startServer, type TestServer, VENUE } from './support/http-server.ts';
import { until } from './support/until.ts';

async function withServer(
  work: (server: TestServer) => Promise<void>,
  parts: Parameters<typeof startServer>[0] = {},
): Promise<void> {
  const server = await startServer(parts);
  try {
    await server.createVenue();
    await work(server);
  } finally {
    await server.close();
  }
}

function statuses(replies: readonly Reply[]): Record<number, number> {
  const counts: Record<number, number> = {};
  for (const { status } of replies) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

describe('test calls', () => {
  /** An interface that may be called, and an order to call for. */
  async function callable(server: TestServer, changes: object): Promise<() => Promise<Reply>> {
    await server.openDestination('partner.example:443').catch(() => {});
    await server.putOrder('5');
    const id = await server.createInterface(changes);
    return () => server.post(`${VENUE}/interfaces/${id}/test-call`, { orderId: '5' });
  }

  it('run no more at once than the interface allows, and leave their room to others when they end', () =>
    withServer(async (server) => {
      const call = await callable(server, { concurrency: 3 });
      server.callee.outcome = () => undefined;
      const replies = Array.from({ length: 8 }, call);
      await until('three run', () => server.callee.running === 3);
      const refused = await Promise.all(Array.from({ length: 4 }, call));
      assert.deepEqual(statuses(refused), { 429: 4 });
      assert.match(refused[0]?.json.detail ?? '', /concurrency allows, which is 3/);
      assert.equal(refused[0]?.headers['retry-after'], '1');
      server.callee.release();
      assert.deepEqual(statuses(await Promise.all(replies)), { 200: 3, 429: 5 });
      assert.equal(server.callee.mostRunning, 3);
      server.callee.outcome = () => ({ delivered: false, reason: 'reset', detail: 'x', durationMs: 1 });
      for (let count = 0; count < 10; count += 1) assert.equal((await call()).status, 200);
    }));

  it('have a limit for all interfaces of an institution together', () =>
    withServer(async (server) => {
      const calls = [
        await callable(server, { concurrency: 64 }),
        await callable(server, { concurrency: 64 }),
      ];
      server.callee.outcome = () => undefined;
      const replies = Array.from({ length: 40 }, (_, index) => (calls[index % 2] as () => Promise<Reply>)());
      await until('as many run as may', () => server.callee.running === TEST_CALLS_AT_ONCE_MAX);
      const refused = await (calls[0] as () => Promise<Reply>)();
      assert.equal(refused.status, 429);
      assert.equal(refused.json.code, 'too_many_requests');
      assert.match(refused.json.detail, /An institution may have 16 test calls running at once/);
      server.callee.release();
      assert.deepEqual(statuses(await Promise.all(replies)), { 200: 16, 429: 24 });
    }));

  it('have a limit in a minute, which says when it is over', () =>
    withServer(async (server) => {
      const call = await callable(server, { concurrency: 64 });
      for (let count = 0; count < TEST_CALLS_PER_MINUTE_MAX; count += 1) {
        assert.equal((await call()).status, 200);
      }
      server.time.now += 20_000;
      const refused = await call();
      assert.equal(refused.status, 429);
      assert.match(refused.json.detail, /300 test calls a minute/);
      assert.equal(refused.headers['retry-after'], '40');
      server.time.now += 40_000;
      assert.equal((await call()).status, 200);
    }));

  it('that simulate, or may not be made, need no room', () =>
    withServer(
      async (server) => {
        const simulate = await callable(server, { simulation: true });
        assert.equal((await simulate()).json.outcome, 'SIMULATED');
        const closed = await callable(server, { url: 'https://closed.example/${orderId}' });
        assert.equal((await closed()).json.reason, 'destination_not_allowed');
      },
      { callSlots: { reserve: async () => undefined } },
    ));

  it('give their room back when the caller breaks, and when the client has gone away', () =>
    withServer(async (server) => {
      const call = await callable(server, { concurrency: 1 });
      const { call: own } = server.callee;
      server.callee.call = () => {
        throw new Error('broken');
      };
      assert.equal((await call()).status, 500);
      server.callee.call = own;
      server.callee.outcome = () => undefined;
      const id = await server.createInterface({ concurrency: 1 });
      const { port } = new URL(await server.app.listen({ host: '127.0.0.1', port: 0 }));
      const body = '{"orderId":"5"}';
      const socket = connect(Number(port), '127.0.0.1');
      socket.write(
        `POST ${VENUE}/interfaces/${id}/test-call HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${server.parts.adminKey}\r\n` +
          `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
      await until('it runs', () => server.callee.running === 1);
      socket.destroy();
      await once(socket, 'close');
      const again = () => server.post(`${VENUE}/interfaces/${id}/test-call`, { orderId: '5' });
      // The callee still has the call.
      assert.equal((await again()).status, 429);
      server.callee.release();
      server.callee.outcome = () => ({ delivered: false, reason: 'reset', detail: 'x', durationMs: 1 });
      await until('there is room again', async () => (await again()).status === 200);
    }));

  it('ask whoever knows what else calls, and tell when that fails', () =>
    withServer(
      async (server) => {
        const call = await callable(server, { concurrency: 7 });
        assert.equal((await call()).status, 200);
        assert.deepEqual(asked, [[1, 1, 7]]);
        assert.equal(released, 1);
      },
      {
        callSlots: {
          async reserve(...question) {
            asked.push(question);
            return () => {
              released += 1;
            };
          },
        },
      },
    ));
  const asked: number[][] = [];
  let released = 0;

  it('are counted once each, whatever is released twice', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 7 })), async (steps) => {
        const slots = new OwnCallSlots();
        const held: (() => void)[] = [];
        let gone: (() => void) | undefined;
        for (const step of steps) {
          if (step > 3) {
            gone = held.pop();
            gone?.();
            gone?.();
          } else {
            const release = await slots.reserve(1, 2, 3);
            assert.equal(release === undefined, held.length === 3);
            if (release) held.push(release);
          }
        }
      }),
    );
  });
});

describe('keys that are refused', () => {
  const FROM = '203.0.113.9';
  const bad = (server: TestServer, from = FROM, key = 'ohk_wrong') =>
    server.get('/api/v1/institutions', { key, from });

  it('are answered with 429 after thirty in a minute, for their address alone, and for that minute', () =>
    withServer(async (server) => {
      for (let count = 0; count < REFUSED_PER_MINUTE_MAX; count += 1) {
        assert.equal((await bad(server, FROM, `ohk_${count}`)).status, 401);
      }
      server.time.now += 15_000;
      const late = await bad(server);
      assert.equal(late.status, 429);
      assert.equal(late.json.code, 'too_many_requests');
      assert.equal(late.headers['retry-after'], '45');
      assert.equal((await bad(server, '203.0.113.10')).status, 401);
      server.time.now += 45_000;
      assert.equal((await bad(server)).status, 401);
    }));

  it('never keep out a good one, also if it comes for the first time', () =>
    withServer(async (server) => {
      for (let count = 0; count < 100; count += 1) await bad(server, FROM, `ohk_${count}`);
      const key = await server.createKey('ADMINISTRATOR');
      assert.equal((await server.get('/api/v1/institutions', { key, from: FROM })).status, 200);
      assert.equal((await server.get('/api/v1/institutions', { from: FROM })).status, 200);
      assert.equal((await bad(server)).status, 429);
    }));

  it('cost the database four look-ups at once, however many come', () =>
    withServer(async (server) => {
      for (let count = 0; count < REFUSED_PER_MINUTE_MAX; count += 1) await bad(server);
      const { apiKeyByHash } = server.store;
      let [running, most] = [0, 0];
      server.store.apiKeyByHash = async (hash) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        return apiKeyByHash.call(server.store, hash);
      };
      const replies = await Promise.all(
        Array.from({ length: 500 }, (_, index) => bad(server, FROM, `ohk_${index}`)),
      );
      server.store.apiKeyByHash = apiKeyByHash;
      assert.deepEqual(statuses(replies), { 429: 500 });
      assert.equal(most, 4);
    }));

  it('are tokens and secrets of partners as well', () =>
    withServer(async (server) => {
      const { json } = await server.post(`${VENUE}/partners`, { partner: 'ACME', operator: 'OPS' });
      await server.putOrder('1');
      const READ = '/tnseb/backend-apis/externalOrderService/v1_33/getOrderDetails';
      const AUTH = '/tnai/backend-apis/v1/auth';
      const now = Math.floor(server.time.now / 1000);
      const sign = (secret: string) =>
        new SignJWT()
          .setProtectedHeader({ alg: 'HS256' })
          .setSubject('MYVENUE')
          .setAudience('OPS')
          .setIssuer('ACME')
          .setIssuedAt(now)
          .setExpirationTime(now + 60)
          .sign(Buffer.from(secret));
      const read = async (secret: string) =>
        (await server.post(READ, { orderId: 1 }, { key: await sign(secret), from: FROM })).status;
      const auth = async (secret: string, from: string) =>
        (await server.post(AUTH, { operator: 'OPS', partner: 'ACME', secret }, { key: null, from })).status;
      for (let count = 0; count < REFUSED_PER_MINUTE_MAX; count += 1) assert.equal(await read('wrong'), 401);
      assert.equal(await read('wrong'), 429);
      assert.equal(await read(json.secret), 200);
      // One address is over its limit; the account is not.
      assert.equal(await auth('wrong', FROM), 429);
      assert.equal(await auth(json.secret, FROM), 200);
      // From a new address each, until the account is over its limit too.
      for (let count = 1; count < REFUSED_PER_MINUTE_MAX; count += 1) {
        assert.equal(await auth('wrong', `198.51.100.${count}`), 401);
      }
      assert.equal(await auth('wrong', '198.51.100.200'), 429);
      assert.equal(await auth(json.secret, '198.51.100.201'), 200);
    }));

  it('are tokens of the setup link as well', async () => {
    const setup = createSetupLink();
    await withServer(
      async (server) => {
        const ask = async (token: string, method = 'GET') =>
          (
            await server.send(method, `/setup?token=${token}`, {
              key: null,
              from: FROM,
              ...(method === 'POST' && { body: { name: 'me' } }),
            })
          ).status;
        for (let count = 0; count < REFUSED_PER_MINUTE_MAX; count += 1) {
          assert.equal(await ask('guess', count % 2 === 0 ? 'GET' : 'POST'), 404);
        }
        assert.equal(await ask('guess'), 429);
        assert.equal(await ask('guess', 'POST'), 429);
        assert.equal(await ask(setup.token), 200);
        assert.equal(await ask(setup.token, 'POST'), 201);
      },
      { setup },
    );
  });

  it('wait in a line that is not endless', async () => {
    const attempts = new RefusedAttempts({ clock: () => 0, seed: 'x' });
    const refuse = () => {
      throw new AppError('unauthenticated', 'no');
    };
    for (let count = 0; count < REFUSED_PER_MINUTE_MAX; count += 1) {
      await assert.rejects(attempts.watch(['a'], refuse), { code: 'unauthenticated' });
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiting = Array.from({ length: 204 }, () => attempts.watch(['a'], () => promise));
    await assert.rejects(
      attempts.watch(['a'], () => 'never asked'),
      { code: 'too_many_requests' },
    );
    assert.equal(await attempts.watch(['b'], () => 'another'), 'another');
    resolve();
    await Promise.all(waiting);
    assert.equal(await attempts.watch(['a'], () => 'again'), 'again');
    await assert.rejects(
      attempts.watch(['a'], () => Promise.reject(new Error('a bug'))),
      /a bug/,
    );
  });

  it('are counted by address, and by network where that is what a client has', () => {
    assert.equal(countedAddress('203.0.113.9'), '203.0.113.9');
    assert.equal(countedAddress('::ffff:203.0.113.9'), '203.0.113.9');
    assert.equal(countedAddress('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2');
    assert.equal(countedAddress('2001:db8:1:2::9'), '2001:db8:1:2');
    assert.equal(countedAddress('2001:db8::1'), '2001:db8:0:0');
    assert.equal(countedAddress('::1'), '0:0:0:0');
  });
});

describe('a count in a window', () => {
  it('never says too little, whatever else is counted', () => {
    const key = fc.constantFrom('a', 'b', 'c', '');
    fc.assert(
      fc.property(fc.array(fc.tuple(key, fc.integer({ min: 0, max: 30 })), { maxLength: 60 }), (steps) => {
        let now = 0;
        const count = new WindowCount({ clock: () => now, seed: 'x', windowMs: 100 });
        let endsAt = 0;
        let expected = new Map<string, number>();
        for (const [one, ms] of steps) {
          now += ms;
          if (now >= endsAt) {
            endsAt = now + 100;
            expected = new Map();
          }
          count.add(one);
          expected.set(one, (expected.get(one) ?? 0) + 1);
          for (const [key, times] of expected) assert.ok(count.of(key) >= times);
        }
      }),
    );
  });

  it('is not reset by a flood of other keys, and takes no more memory for it', () => {
    const count = new WindowCount({ clock: () => 0, seed: 'x', windowMs: 100 });
    for (let times = 0; times < 29; times += 1) count.add('one');
    for (let flood = 0; flood < 50_000; flood += 1) count.add(`address ${flood}`);
    assert.ok(count.of('one') >= 29);
    // A few too many, in a flood such as this; without one, none.
    assert.ok(count.of('never seen') < 20, String(count.of('never seen')));
    const quiet = new WindowCount({ clock: () => 0, seed: 'x', windowMs: 100 });
    for (let few = 0; few < 200; few += 1) quiet.add(`address ${few}`);
    assert.equal(quiet.of('never seen'), 0);
  });
});

describe('a limit of calls', () => {
  it('keeps nothing of keys whose minute is over, without a look at all others', () => {
    let now = 0;
    const limit = new RateLimit({ callsPerMinute: 2, clock: () => now });
    for (let key = 0; key < 50_000; key += 1) {
      limit.take(key);
      now += 10;
    }
    assert.equal(limit.size, 6_000);
    now += 60_000;
    limit.take('x');
    assert.equal(limit.size, 1);
  });

  it('lets each key call so many times in a minute that begins with its first call', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 0, max: 20_000 }))),
        (steps) => {
          let now = 0;
          const limit = new RateLimit({ callsPerMinute: 2, clock: () => now });
          const windows = new Map<string, { endsAt: number; calls: number }>();
          for (const [key, ms] of steps) {
            now += ms;
            let window = windows.get(key);
            if (!window || window.endsAt <= now) {
              window = { endsAt: now + 60_000, calls: 0 };
              windows.set(key, window);
            }
            const expected = window.calls < 2 ? undefined : Math.ceil((window.endsAt - now) / 1000);
            if (window.calls < 2) window.calls += 1;
            assert.equal(limit.take(key), expected);
          }
        },
      ),
    );
  });
});
