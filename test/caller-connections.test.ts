import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { createCaller } from '../src/caller/caller.ts';
import type { Resolve } from '../src/caller/destination.ts';
import type { Outcome } from '../src/model/outcome.ts';
import {
  assertDelivered,
  assertFailed,
  type Calling,
  SHORT_LIMITS,
  USER_AGENT,
  until,
  withCallee,
} from './support/callee-calls.ts';
import { answer, type Script, startCallee } from './support/scripted-callee.ts';
import { createAuthority, createSelfSigned, expired } from './support/tls-authority.ts';

const OK = answer('200 OK', 'ok');
const ok: Script = (socket) => socket.write(OK);
const PUBLIC_ONLY = { allowPrivate: false };

/** Makes calls, `count` at once, until their connections are idle and known to be left open. */
async function idle(call: Calling['call'], path: string, count = 1): Promise<void> {
  for (let round = 0; round < 2; round++) {
    for (const outcome of await Promise.all(Array.from({ length: count }, () => call(path))))
      assertDelivered(outcome);
  }
  // The event loop looks at the sockets in between.
  for (let turn = 0; turn < 3; turn++) await new Promise((passed) => setImmediate(passed));
}

describe('a connection that the callee closes between calls', () => {
  it('does not touch the next call', () =>
    withCallee(
      (socket) => {
        socket.write(OK);
        setTimeout(() => socket.end(), 5);
      },
      async ({ callee, caller, call }) => {
        for (let n = 1; n <= 3; n++) {
          assertDelivered(await call());
          await until(() => caller.openConnections === 0, 'the connection is closed');
          assert.equal(callee.accepted, n);
        }
      },
    ));

  it('with Connection: close, each call has its own', () =>
    withCallee(
      (socket) => socket.end(answer('200 OK', 'ok', 'Connection: close')),
      async ({ callee, call }) => {
        for (let n = 0; n < 3; n++) assertDelivered(await call(), 'ok');
        assert.equal(callee.accepted, 3);
      },
    ));

  // Whether the next call still takes the old connection depends on who is first by microseconds: try it often.
  for (const how of ['end', 'resetAndDestroy'] as const) {
    it(`at any moment around the next call (${how}): it is delivered, and sent twice at most`, () =>
      withCallee(
        (socket, { text, onConnection }) => {
          if (onConnection === 0 || text.startsWith('GET /first/')) socket.write(OK);
          // Never answered: the callee closed.
        },
        async ({ callee, call }) => {
          for (let round = 0; round < 200; round++) {
            await idle(call, `/first/${round}`);
            const [server] = callee.connections;
            assert.ok(server !== undefined);
            const close = () => server[how]();
            if (round % 4 === 0) close();
            else if (round % 4 === 1) setImmediate(close);
            else if (round % 4 === 2) queueMicrotask(close);
            const next = call(`/next/${round}`);
            if (round % 4 === 3) setImmediate(close);
            assertDelivered(await next, 'ok');
            const sent = callee.requests.filter(({ text }) => text.startsWith(`GET /next/${round} `));
            assert.ok(sent.length <= 2, `${sent.length} times`);
            assert.equal(sent.filter(({ onConnection }) => onConnection === 0).length, 1);
            await until(() => callee.connections.size <= 1, 'the old connection is gone');
            for (const socket of callee.connections) socket.destroy();
            await until(() => callee.connections.size === 0, 'the round is over');
          }
        },
      ));
  }

  it('right before the write, so that nothing was sent: the call is sent again, once, on a fresh connection', () =>
    withCallee(ok, async ({ callee, caller, call }) => {
      for (let round = 1; round <= 5; round++) {
        await idle(call, '/first');
        const [server] = callee.connections;
        // The reset is at our system before the write, and nobody has looked at it.
        server?.resetAndDestroy();
        assertDelivered(await call(`/next/${round}`, { method: 'POST', body: `{"id": ${round}}` }), 'ok');
        assert.equal(callee.requests.filter(({ text }) => text.includes(`/next/${round} `)).length, 1);
        assert.equal(callee.accepted, round + 1);
        assert.equal(caller.callsInFlight, 0);
      }
    }));

  it('a call of which nothing was sent takes no other idle connection, which may have been closed as well', () =>
    withCallee(ok, async ({ callee, caller, call }) => {
      await idle(call, '/first', 2);
      assert.equal(callee.accepted, 2);
      // The one that was idle last is used next.
      for (const socket of callee.connections) socket.resetAndDestroy();
      assertDelivered(await call('/next'));
      assert.deepEqual(
        callee.requests
          .filter(({ text }) => text.includes('/next '))
          .map(({ connection, onConnection }) => [connection, onConnection]),
        [[2, 0]],
      );
      await until(() => caller.openConnections === 1, 'the other idle connection is closed too');
    }));

  for (const how of ['end', 'resetAndDestroy'] as const) {
    it(`with the next request, and without a word (${how}): it is sent again, once, on a fresh connection`, () =>
      withCallee(
        (socket, { text, onConnection }) => {
          if (text.includes('/first') || onConnection === 0) socket.write(OK);
          else socket[how]();
        },
        async ({ callee, call }) => {
          await idle(call, '/first');
          for (const method of ['GET', 'POST'] as const) {
            assertDelivered(await call('/next', { method }), 'ok');
            await idle(call, '/first');
          }
          const next = callee.requests.filter(({ text }) => text.includes('/next'));
          assert.deepEqual(
            next.map(({ onConnection }) => onConnection === 0),
            [false, true, false, true],
          );
        },
      ));

    it(`on a fresh connection without a word (${how}): the call is a reset, and not sent again`, () =>
      withCallee(
        (socket) => socket[how](),
        async ({ callee, call }) => {
          assertFailed(await call('/next'), 'reset', /without an answer/);
          assert.equal(callee.requests.length, 1);
        },
      ));

    it(`with the next request, and when it comes again too (${how}): the second end is the outcome`, () =>
      withCallee(
        (socket, { text }) => {
          if (text.includes('/first')) socket.write(OK);
          else socket[how]();
        },
        async ({ callee, call }) => {
          await idle(call, '/first');
          assertFailed(await call('/next'), 'reset', /without an answer/);
          assert.equal(callee.requests.filter(({ text }) => text.includes('/next')).length, 2);
        },
      ));

    it(`after the first byte of its answer (${how}): the call is a reset, and not sent again`, () =>
      withCallee(
        (socket, { text }) => {
          if (text.includes('/first')) socket.write(OK);
          else socket.write('H', () => setTimeout(() => socket[how](), 20));
        },
        async ({ callee, call }) => {
          await idle(call, '/first');
          assertFailed(await call('/next'), 'reset', /before its answer was whole/);
          assert.equal(callee.requests.filter(({ text }) => text.includes('/next')).length, 1);
        },
      ));
  }

  it('when it no longer listens: the call that was sent is refused', () =>
    withCallee(
      (socket, { text }) => {
        if (text.includes('/first')) socket.write(OK);
      },
      async ({ callee, call }) => {
        await idle(call, '/first');
        const next = call('/next');
        await until(() => callee.requests.some(({ text }) => text.includes('/next')), 'it is sent');
        await callee.close();
        assertFailed(await next, 'refused', /ECONNREFUSED/);
      },
    ));

  it('silence and what is not HTTP are no end: nothing is sent again', () =>
    withCallee(
      (socket, { text }) => {
        if (text.includes('/first')) socket.write(OK);
        else if (text.includes('/rubbish')) socket.write('SSH-2.0-OpenSSH_9.2p1\r\n');
      },
      async ({ callee, call }) => {
        for (const [path, reason] of [
          ['/silence', 'timeout_response'],
          ['/rubbish', 'protocol'],
        ] as const) {
          await idle(call, '/first');
          assertFailed(await call(path), reason);
          assert.equal(callee.requests.filter(({ text }) => text.includes(path)).length, 1);
        }
      },
      { limits: SHORT_LIMITS },
    ));

  it('has from the second sending the whole time to the first byte, and from the first the whole exchange', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    let now = 0;
    const servers: Socket[] = [];
    await withCallee(
      (socket, { text }) => {
        if (text.includes('/first')) socket.write(OK);
        else servers.push(socket);
      },
      async ({ call }) => {
        for (const [firstMs, secondMs, says] of [
          [900, 1_010, /^No answer within 1000 ms$/],
          [1_000, 1_001, /^The answer was not whole within 2000 ms$/],
        ] as const) {
          await idle(call, '/first');
          servers.length = 0;
          const next = call('/next');
          await until(() => servers.length === 1, 'it is sent');
          now += firstMs;
          t.mock.timers.tick(100);
          servers[0]?.end();
          await until(() => servers.length === 2, 'it is sent again');
          now += 990;
          t.mock.timers.tick(100);
          now += secondMs - 990;
          t.mock.timers.tick(100);
          const outcome = await next;
          assertFailed(outcome, 'timeout_response', says);
          assert.equal(outcome.durationMs, firstMs + secondMs);
        }
      },
      { now: () => now, limits: { connectMs: 5_000, firstByteMs: 1_000, exchangeMs: 2_000 } },
    );
  });

  it('for all of eight calls at once: each is sent again once', () =>
    withCallee(ok, async ({ callee, call }) => {
      await idle(call, '/first', 8);
      assert.equal(callee.accepted, 8);
      const servers = [...callee.connections];
      for (const server of servers) server.resetAndDestroy();
      const outcomes = await Promise.all(Array.from({ length: 8 }, (_, n) => call(`/next/${n}`)));
      for (const outcome of outcomes) assertDelivered(outcome);
      assert.equal(callee.requests.filter(({ text }) => text.includes('/next/')).length, 8);
    }));
});

describe('where a call may go', () => {
  const answering =
    (...addresses: string[]): Resolve =>
    async () =>
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));

  it('a literal that is not public is refused before anything is opened, in every notation', () =>
    withCallee(ok, async ({ callee, caller, call }) => {
      for (const host of ['127.0.0.1', '127.1', '0x7f.1', '2130706433', '[::1]', '[::ffff:127.0.0.1]']) {
        const { href } = new URL(`http://${host}:${callee.port}/7`);
        assertFailed(await call(href, {}, PUBLIC_ONLY), 'destination_not_allowed', /loopback/);
      }
      assert.equal(callee.accepted, 0);
      assert.equal(caller.openConnections, 0);
    }));

  it('an open connection of a permitted call is none for a call without the permission', () =>
    withCallee(ok, async ({ callee, call }) => {
      assertDelivered(await call());
      assertFailed(await call('/', {}, PUBLIC_ONLY), 'destination_not_allowed');
      assertDelivered(await call());
      assert.equal(callee.requests.length, 2);
    }));

  it('a redirect to anywhere opens no second door', () =>
    withCallee(
      (socket) => socket.write(answer('302 Found', '', 'Location: http://169.254.169.254/latest/meta-data/')),
      async ({ caller, call }) => {
        assertFailed(await call(), 'status', /302/);
        assert.equal(caller.openConnections, 1);
      },
    ));

  it('a name with one bad answer among good ones is refused', () =>
    withCallee(
      ok,
      async ({ callee, caller, call }) => {
        const outcome = await call(`http://mixed.example:${callee.port}/`, {}, PUBLIC_ONLY);
        assertFailed(outcome, 'destination_not_allowed', /mixed\.example resolves to 127\.0\.0\.1/);
        assert.equal(caller.openConnections, 0);
      },
      { resolve: answering('93.184.216.34', '127.0.0.1') },
    ));

  it('DNS is asked once for a connection, and the address that was checked is the one used', () => {
    const asked: string[] = [];
    const connectedTo: (string | undefined)[] = [];
    const rebinding: Resolve = async (host) => {
      asked.push(host);
      return [{ address: asked.length === 1 ? '93.184.216.34' : '127.0.0.1', family: 4 }];
    };
    return withCallee(
      ok,
      async ({ callee, call }) => {
        const url = `http://rebinding.example:${callee.port}/`;
        assertFailed(await call(url, {}, PUBLIC_ONLY), 'refused', /stopped at 93\.184\.216\.34/);
        assert.deepEqual([asked, connectedTo], [['rebinding.example'], ['93.184.216.34']]);
        assertFailed(await call(url, {}, PUBLIC_ONLY), 'destination_not_allowed', /127\.0\.0\.1/);
        assert.equal(connectedTo.length, 1);
        assert.equal(callee.accepted, 0);
      },
      {
        resolve: rebinding,
        connect: (options) => {
          connectedTo.push(options.host);
          const socket = connect({ port: 1, host: '127.0.0.1' });
          return socket.destroy(new Error(`stopped at ${options.host}`));
        },
      },
    );
  });

  it('the name is what the callee is told, not the address', () =>
    withCallee(
      ok,
      async ({ callee, call }) => {
        assertDelivered(await call(`http://callee.example:${callee.port}/`));
        assert.match(callee.requests[0]?.text ?? '', new RegExp(`Host: callee\\.example:${callee.port}\r\n`));
      },
      { resolve: answering('127.0.0.1') },
    ));

  it('an address that was connected to and not checked gets no byte', () =>
    withCallee(
      ok,
      async ({ callee, call }) => {
        for (const scheme of ['http', 'https']) {
          const outcome = await call(`${scheme}://good.example:${callee.port}/`, {}, PUBLIC_ONLY);
          assertFailed(outcome, 'destination_not_allowed', /was connected to at 127\.0\.0\.1.*loopback/);
        }
        await until(() => callee.connections.size === 0, 'the connection is closed');
        assert.equal(callee.accepted, 2);
        assert.deepEqual([callee.requests, received], [[], 0]);
      },
      {
        resolve: answering('93.184.216.34'),
        connect: (options) => connect({ ...options, host: '127.0.0.1' }),
        callee: {
          onAccept: (socket) => {
            socket.on('data', () => received++);
          },
        },
      },
    ));
  let received = 0;

  it('a name that does not resolve fails as dns, and when it resolves again it is called', () => {
    let isBroken = true;
    const resolve: Resolve = async () => {
      if (isBroken) throw Object.assign(new Error('queryA'), { code: 'ESERVFAIL' });
      return [{ address: '127.0.0.1', family: 4 }];
    };
    return withCallee(
      ok,
      async ({ callee, call }) => {
        const url = `http://coming-back.example:${callee.port}/`;
        for (let n = 0; n < 2; n++) assertFailed(await call(url), 'dns', /coming-back\.example.*ESERVFAIL/);
        isBroken = false;
        assertDelivered(await call(url));
        isBroken = true;
        assertDelivered(await call(url), 'ok');
        assert.equal(callee.accepted, 1);
      },
      { resolve },
    );
  });

  it('a name that is never answered for fails as dns when the time to connect is over', () => {
    let answerAtLast: () => void = () => {};
    return withCallee(
      ok,
      async ({ callee, caller, call }) => {
        const outcome = await call(`http://silent.example:${callee.port}/`);
        assertFailed(outcome, 'dns', /^silent\.example was not resolved within 300 ms$/);
        answerAtLast();
        await new Promise((resolve) => setTimeout(resolve, 20));
        assert.equal(callee.accepted, 0);
        assert.equal(caller.openConnections, 0);
      },
      {
        limits: SHORT_LIMITS,
        resolve: () =>
          new Promise((resolve) => {
            answerAtLast = () => resolve([{ address: '127.0.0.1', family: 4 }]);
          }),
      },
    );
  });

  it('a callee with an IPv6 address only is called', () =>
    withCallee(
      ok,
      async ({ callee, call }) => {
        assertDelivered(await call('/literal'));
        assertDelivered(await call(`http://six.example:${callee.port}/name`));
        assert.match(callee.requests[0]?.text ?? '', new RegExp(`Host: \\[::1\\]:${callee.port}\r\n`));
        assertFailed(
          await call('/', {}, PUBLIC_ONLY),
          'destination_not_allowed',
          /::1 is not public: loopback/,
        );
      },
      { callee: { host: '::1' }, resolve: answering('::1') },
    ));

  it('of several addresses one that answers is enough', () =>
    withCallee(
      ok,
      async ({ callee, call }) => assertDelivered(await call(`http://two.example:${callee.port}/`)),
      { callee: { host: '::1' }, resolve: answering('127.0.0.1', '::1') },
    ));

  it('of several addresses none that answers is refused', () =>
    withCallee(
      ok,
      async ({ callee, call }) => {
        await callee.close();
        assertFailed(await call(`http://two.example:${callee.port}/`), 'refused', /127\.0\.0\.1.*; .*::1/);
      },
      { resolve: answering('127.0.0.1', '::1') },
    ));
});

describe('TLS', () => {
  const authority = createAuthority();
  const trusted = { extraCa: authority.certificate };
  const good = authority.issue(['localhost', '127.0.0.1']);

  it('a callee whose authority is trusted by the setting is called, by name and by address', () =>
    withCallee(
      ok,
      async ({ callee, call }) => {
        assertDelivered(await call('/7'), 'ok');
        assertDelivered(await call(`https://localhost:${callee.port}/7`), 'ok');
        assertDelivered(await call('/7', { method: 'POST', body: '{"id": 7}' }), 'ok');
        assert.equal(callee.accepted, 2);
      },
      { ...trusted, callee: { tls: good } },
    ));

  for (const [what, tls, settings, says] of [
    ['an unknown authority', good, {}, /UNABLE_TO_VERIFY_LEAF_SIGNATURE/],
    ['another authority of the same name', createAuthority().issue(['127.0.0.1']), trusted, /./],
    ['an expired certificate', authority.issue(['127.0.0.1'], expired()), trusted, /expired/i],
    [
      'a certificate for another name',
      authority.issue(['other.example']),
      trusted,
      /^The certificate is not for 127\.0\.0\.1 but for DNS:other\.example: check the host/,
    ],
    ['a self-signed certificate', createSelfSigned(['127.0.0.1']), trusted, /self-signed/i],
  ] as const) {
    it(`a callee with ${what} is not called`, () =>
      withCallee(
        ok,
        async ({ callee, caller, call }) => {
          for (let n = 0; n < 2; n++) {
            const outcome = await call('/7');
            assertFailed(outcome, 'tls', says);
            assert.equal(outcome.answer, undefined);
          }
          await until(() => caller.openConnections === 0, 'the connection is closed');
          assert.equal(callee.requests.length, 0);
        },
        { ...settings, callee: { tls } },
      ));
  }

  it('a callee that speaks no TLS is not called', () =>
    withCallee(
      (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'),
      async ({ callee, call }) => {
        assertFailed(
          await call(`https://127.0.0.1:${callee.port}/`),
          'tls',
          /speaks no TLS: write http:\/\/ in the URL.*\(ERR_SSL_WRONG_VERSION_NUMBER\)$/,
        );
      },
      { callee: { onAccept: (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n') } },
    ));

  it('a callee that hangs up on the handshake has not agreed on TLS', () =>
    withCallee(
      ok,
      async ({ callee, call }) => {
        assertFailed(
          await call(`https://127.0.0.1:${callee.port}/`),
          'tls',
          /closed during the TLS handshake/,
        );
      },
      { callee: { onAccept: (socket) => socket.end() } },
    ));

  it('a callee that is silent in the handshake runs out of the time to connect', () =>
    withCallee(
      ok,
      async ({ callee, caller, call }) => {
        assertFailed(
          await call(`https://127.0.0.1:${callee.port}/`),
          'timeout_connect',
          /^No TLS with 127\.0\.0\.1:\d+ within 300 ms$/,
        );
        await until(() => caller.openConnections === 0, 'the connection is given up');
      },
      { limits: SHORT_LIMITS },
    ));

  it('a certificate is checked even where the environment says that none is', async (t) => {
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
    t.after(() => delete process.env.NODE_TLS_REJECT_UNAUTHORIZED);
    await withCallee(ok, async ({ call }) => assertFailed(await call('/7'), 'tls'), {
      callee: { tls: good },
    });
  });

  it('a connection that the callee closes between calls does not touch the next one', () =>
    withCallee(
      (socket) => {
        socket.write(OK);
        setTimeout(() => socket.end(), 5);
      },
      async ({ callee, caller, call }) => {
        for (let n = 1; n <= 3; n++) {
          assertDelivered(await call());
          await until(() => caller.openConnections === 0, 'the connection is closed');
          assert.equal(callee.accepted, n);
        }
      },
      { ...trusted, callee: { tls: good } },
    ));
});

describe('the life of a caller', () => {
  it('close waits for the calls in flight and leaves no connection', () =>
    withCallee(
      (socket) => setTimeout(() => socket.write(OK), 100),
      async ({ caller, call }) => {
        const running = [call(), call(), call()];
        let isClosed = false;
        const closing = caller.close().then(() => {
          isClosed = true;
        });
        assert.throws(
          () => void caller.call({ method: 'GET', url: 'http://a.example/' }, PUBLIC_ONLY, () => {}),
          /closed/,
        );
        const outcomes = await Promise.all(running);
        assert.equal(isClosed, false);
        for (const outcome of outcomes) assertDelivered(outcome);
        await closing;
        assert.equal(caller.openConnections, 0);
      },
    ));

  it('destroy ends at once; calls in flight get no outcome any more, and no late DNS answer opens a connection', async (t) => {
    const callee = await startCallee(() => {});
    t.after(() => callee.close());
    const outcomes: Outcome[] = [];
    let answerAtLast: () => void = () => {};
    const loopback = [{ address: '127.0.0.1', family: 4 }];
    const resolve: Resolve = (host) =>
      host !== 'silent.example'
        ? Promise.resolve(loopback)
        : new Promise((answered) => {
            answerAtLast = () => answered(loopback);
          });
    // Time enough to connect: it is not the limit that keeps the late answer from being used.
    const caller = createCaller({
      userAgent: USER_AGENT,
      limits: { ...SHORT_LIMITS, connectMs: 10_000 },
      resolve,
    });
    t.after(() => caller.destroy());
    for (const host of ['127.0.0.1', 'named.example', 'silent.example']) {
      const request = { method: 'GET', url: `http://${host}:${callee.port}/` } as const;
      caller.call(request, { allowPrivate: true }, (outcome) => outcomes.push(outcome));
    }
    await until(() => callee.requests.length === 2, 'two calls are sent');
    await caller.destroy();
    assert.deepEqual([caller.openConnections, caller.callsInFlight], [0, 0]);
    await until(() => callee.connections.size === 0, 'the callee sees every connection closed');
    answerAtLast();
    await new Promise((passed) => setTimeout(passed, 50));
    assert.equal(caller.openConnections, 0);
    assert.equal(callee.accepted, 2);
    assert.deepEqual(outcomes, []);
  });

  it('connections to where nobody is called any more are closed', async (t) => {
    t.mock.timers.enable({ apis: ['setInterval'] });
    let now = 0;
    await withCallee(
      ok,
      async ({ caller, call }) => {
        assertDelivered(await call());
        now += 3_900;
        t.mock.timers.tick(100);
        assert.equal(caller.openConnections, 1);
        now += 200;
        t.mock.timers.tick(100);
        await until(() => caller.openConnections === 0, 'the connection is closed');
        assertDelivered(await call());
      },
      { now: () => now },
    );
  });

  it('however many destinations there are, connections are kept for a thousand of them', () =>
    withCallee(
      ok,
      async ({ callee, caller, call }) => {
        for (let n = 0; n < 1_010; n++) {
          assertDelivered(await call(`http://n${n}.example:${callee.port}/`));
          assert.ok(caller.openConnections <= 1_001, `${caller.openConnections} connections`);
        }
        // The first were idle for the longest time.
        await until(
          () => ![...callee.connections].includes(first as Socket),
          'the first connection is closed',
        );
      },
      {
        resolve: async () => [{ address: '127.0.0.1', family: 4 }],
        callee: {
          onAccept: (socket) => {
            first ??= socket;
          },
        },
      },
    ));
  let first: Socket | undefined;

  it('close of a caller that never called is at once', async () => {
    const caller = createCaller({ userAgent: USER_AGENT });
    await caller.close();
    await caller.close();
    await caller.destroy();
  });

  it('thousands of calls, good and bad, leave nothing behind', () =>
    withCallee(
      (socket, { text }) => {
        if (text.includes('/reset')) socket.resetAndDestroy();
        else if (text.includes('/short')) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n');
        else if (text.includes('/large')) socket.write(answer('200 OK', 'x'.repeat(70_000)));
        else if (text.includes('/close')) socket.end(answer('200 OK', 'ok', 'Connection: close'));
        else socket.write(OK);
      },
      async ({ callee, caller, call }) => {
        const reasons: Record<string, number> = {};
        for (let round = 0; round < 40; round++) {
          const paths = ['/reset', '/short', '/large', '/close', ...Array<string>(46).fill('/good')];
          for (const outcome of await Promise.all(paths.map((path) => call(path)))) {
            const reason = outcome.delivered ? 'delivered' : outcome.reason;
            reasons[reason] = (reasons[reason] ?? 0) + 1;
          }
        }
        assert.deepEqual(reasons, { delivered: 48 * 40, reset: 2 * 40 });
        // A connection that had carried others is reset without a word: the call is sent again, once.
        const resets = callee.requests.filter(({ text }) => text.includes('/reset'));
        assert.equal(resets.filter(({ onConnection }) => onConnection === 0).length, 40);
        assert.equal(callee.requests.length - resets.length, 49 * 40);
        assert.ok(caller.openConnections <= 50, `${caller.openConnections} connections`);
      },
    ));
});
