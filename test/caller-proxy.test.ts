import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { CallerSettings } from '../src/caller/caller.ts';
import type { Resolve } from '../src/caller/destination.ts';
import { parseEgressProxy } from '../src/caller/egress-proxy.ts';
import {
  assertDelivered,
  assertFailed,
  type Calling,
  SHORT_LIMITS,
  USER_AGENT,
  until,
  withCallee,
} from './support/callee-calls.ts';
import {
  type EgressProxy,
  findSquid,
  freePort,
  type Squid,
  startProxy,
  startSquid,
} from './support/callee-proxy.ts';
import { answer, type CalleeOptions, type Script } from './support/scripted-callee.ts';
import { createAuthority } from './support/tls-authority.ts';

const ok: Script = (socket) => socket.write(answer('200 OK', 'ok'));
const PUBLIC_ONLY = { allowPrivate: false };
const authority = createAuthority();
const tls = authority.issue(['127.0.0.1', 'localhost', '::1']);

type ProxyTest = (calling: Calling & { proxy: EgressProxy }) => Promise<void>;

async function withProxy(
  test: ProxyTest,
  options: {
    refuse?: (socket: Socket, requestLine: string) => boolean;
    callee?: CalleeOptions;
    script?: Script;
    settings?: Partial<CallerSettings>;
  } = {},
): Promise<void> {
  const proxy = await startProxy(options.refuse);
  try {
    await withCallee(options.script ?? ok, (calling) => test({ ...calling, proxy }), {
      egressProxy: parseEgressProxy(proxy.url),
      extraCa: authority.certificate,
      ...(options.callee === undefined ? {} : { callee: options.callee }),
      ...options.settings,
    });
    await until(() => proxy.connections.size === 0, 'the proxy sees every connection closed');
  } finally {
    await proxy.close();
  }
}

const sayAndClose = (text: string) => (socket: Socket) => {
  socket.end(text);
  return true;
};

/** What a proxy does once it was asked for a tunnel: it says `said`, in pieces of so many bytes, and then passes everything on. */
async function tunnel(socket: Socket, port: number, said: string, piece: number): Promise<void> {
  const onwards = connect(port, '127.0.0.1');
  socket.on('error', () => onwards.destroy()).on('close', () => onwards.destroy());
  onwards.on('error', () => socket.destroy()).on('close', () => socket.destroy());
  await once(onwards, 'connect');
  for (let at = 0; at < said.length; at += piece) {
    socket.write(said.slice(at, at + piece), 'latin1');
    await turn();
  }
  socket.pipe(onwards).pipe(socket);
}

describe('through an egress proxy', () => {
  it('an http call is sent in absolute form, and is otherwise the same', () =>
    withProxy(async ({ proxy, callee, call }) => {
      assertDelivered(await call('/7?a=b#top'), 'ok');
      assertDelivered(await call('/', { method: 'POST', body: '{"id": 7}' }), 'ok');
      assert.deepEqual(proxy.requests, [`GET ${callee.origin}/7?a=b`, `POST ${callee.origin}/`]);
      assert.match(
        callee.requests[0]?.text ?? '',
        new RegExp(`host: 127\\.0\\.0\\.1:${callee.port}\r\n`, 'i'),
      );
    }));

  it('an https call goes through a tunnel, and the certificate checked is the callee’s', () =>
    withProxy(
      async ({ proxy, callee, caller, call }) => {
        for (let n = 0; n < 3; n++) assertDelivered(await call(`/${n}`), 'ok');
        assert.deepEqual(proxy.requests, [`CONNECT 127.0.0.1:${callee.port}`]);
        assert.equal(
          callee.requests[0]?.text,
          `GET /0 HTTP/1.1\r\nHost: 127.0.0.1:${callee.port}\r\nUser-Agent: ${USER_AGENT}\r\nAccept: */*\r\n\r\n`,
        );
        assert.equal(caller.openConnections, 1);
      },
      { callee: { tls } },
    ));

  it('the tunnel to an IPv6 address is asked for in brackets', () =>
    withProxy(
      async ({ proxy, callee, call }) => {
        assertDelivered(await call());
        assert.deepEqual(proxy.requests, [`CONNECT [::1]:${callee.port}`]);
      },
      { callee: { tls, host: '::1' } },
    ));

  it('a callee whose certificate is not trusted is not called', () =>
    withProxy(
      async ({ callee, call }) => {
        assertFailed(await call(), 'tls');
        assert.equal(callee.requests.length, 0);
      },
      { callee: { tls: createAuthority('Somebody Else').issue(['127.0.0.1']) } },
    ));

  it('what the callee answers is the callee’s: 403, 500 and 503 are its status', () =>
    withProxy(
      async ({ call }) => {
        for (const status of [403, 500, 503]) {
          const outcome = await call(`/${status}`);
          assertFailed(outcome, 'status', new RegExp(`${status}`));
          assert.equal(outcome.answer?.status, status);
        }
      },
      { script: (socket, { text }) => socket.write(answer(`${text.slice(5, 8)} No`)) },
    ));

  for (const status of [
    '403 Forbidden',
    '407 Proxy Authentication Required',
    '429 Slow',
    '502 Bad Gateway',
    '503 Away',
  ]) {
    it(`a tunnel that is refused with ${status} is the proxy’s refusal`, () =>
      withProxy(
        async ({ callee, caller, call }) => {
          const outcome = await call();
          assertFailed(outcome, 'proxy', new RegExp(`^The egress proxy answered ${status.slice(0, 3)}$`));
          assert.equal(outcome.answer, undefined);
          await until(() => caller.openConnections === 0, 'the connection is closed');
          assert.equal(callee.accepted, 0);
        },
        { callee: { tls }, refuse: sayAndClose(`HTTP/1.1 ${status}\r\nContent-Length: 0\r\n\r\n`) },
      ));
  }

  for (const [what, said] of [
    ['closes', ''],
    ['speaks another protocol', 'hello\r\n\r\n'],
    ['says half an answer', 'HTTP/1.1 200 OK\r\n'],
    ['answers without end', `HTTP/1.1 200 OK\r\n${'X-Filler: 0123456789\r\n'.repeat(3_000)}`],
    ['says more than its answer', 'HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'],
    ['says more than its answer, which ends it', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'],
    ['goes on without end before its answer', 'HTTP/1.1 100 Continue\r\n\r\n'.repeat(3_000)],
    ['has a control character in a header', 'HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n'],
    ['has a control character in a name', 'HTTP/1.1 200 OK\r\nX\x01: a\r\n\r\n'],
    ['begins its answer with half a line end', '\rHTTP/1.1 200 OK\r\n\r\n'],
    ['has a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
  ] as const) {
    it(`a proxy that ${what} when it is asked for a tunnel has failed itself`, () =>
      withProxy(async ({ call }) => assertFailed(await call(), 'proxy', /egress proxy/), {
        callee: { tls },
        refuse: sayAndClose(said),
      }));
  }

  for (const [what, said] of [
    ['100 before it', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'],
    ['line feeds alone', 'HTTP/1.1 200 OK\nX: y\n\n'],
    ['an empty line before it', '\r\nHTTP/1.1 200 OK\r\n\r\n'],
    ['60 KiB of headers', `HTTP/1.0 200 OK\r\n${'X-Filler: 0123456789\r\n'.repeat(2_700)}\r\n`],
    ['a length, which a tunnel has not', 'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n'],
    ['chunks, which a tunnel has not', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['another 2xx', 'HTTP/1.1 299 Fine\r\n\r\n'],
  ] as const) {
    it(`a tunnel stands by an answer with ${what}, however it is cut`, async () => {
      for (const piece of [said.length, 7]) {
        await withProxy(async ({ call }) => assertDelivered(await call(), 'ok'), {
          callee: { tls },
          refuse: (socket, line) => {
            void tunnel(socket, Number(line.split(':').at(-1)), said, piece);
            return true;
          },
        });
      }
    });
  }

  it('a tunnel that is refused with line feeds alone, or behind 100, is refused as the proxy says', async () => {
    for (const said of [
      'HTTP/1.1 403 Forbidden\nX-Squid-Error: ERR_ACCESS_DENIED 0\n\n',
      'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nX-Squid-Error : ERR_ACCESS_DENIED 0\r\n\r\nno',
    ]) {
      await withProxy(
        async ({ call }) =>
          assertFailed(await call(), 'proxy', /^The egress proxy answered 403 \(ERR_ACCESS_DENIED\)$/),
        { callee: { tls }, refuse: sayAndClose(said) },
      );
    }
  });

  it('a proxy that does not speak HTTP fails the call at once, though it says no more', () =>
    withProxy(
      async ({ call }) =>
        assertFailed(
          await call(),
          'proxy',
          /^The egress proxy does not answer in HTTP\/1\.1: no status line: "SSH/,
        ),
      {
        settings: { limits: { connectMs: 600_000, firstByteMs: 600_000, exchangeMs: 600_000 } },
        callee: { tls },
        refuse: (socket) =>
          socket
            .resume()
            .on('end', () => socket.end())
            .write('SSH-2.0'),
      },
    ));

  for (const [marks, answered] of [
    ['407', 'HTTP/1.1 407 Proxy Authentication Required\r\n'],
    ['X-Squid-Error', 'HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\nVia: 1.1 squid\r\n'],
    ['X-Squid-Error and no Via', 'HTTP/1.1 503 Away\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\n'],
  ]) {
    it(`an http answer that the proxy made, told by ${marks}, is the proxy’s refusal`, () =>
      withProxy(
        async ({ callee, call }) => {
          const outcome = await call();
          assertFailed(outcome, 'proxy', /^The egress proxy answered \d+/);
          assert.equal(outcome.answer, undefined);
          assert.equal(callee.accepted, 0);
        },
        { refuse: sayAndClose(`${answered}Content-Length: 0\r\n\r\n`) },
      ));
  }

  it('an answer marked by a squid on the callee’s own side is the callee’s', () =>
    withProxy(async ({ call }) => assertFailed(await call(), 'status', /403/), {
      refuse: sayAndClose(
        'HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\nVia: 1.1 theirs, 1.1 ours\r\nContent-Length: 0\r\n\r\n',
      ),
    }));

  for (const [error, reason] of [
    ['ERR_CONNECT_FAIL 111', 'refused'],
    ['ERR_DNS_FAIL 0', 'dns'],
    ['ERR_READ_TIMEOUT 0', 'timeout_response'],
    ['ERR_ZERO_SIZE_OBJECT 0', 'reset'],
  ] as const) {
    it(`what the proxy blames on the callee is the callee’s: ${error} is ${reason}`, async () => {
      const refuse = sayAndClose(`HTTP/1.1 503 Away\r\nX-Squid-Error: ${error}\r\nContent-Length: 0\r\n\r\n`);
      for (const callee of [{}, { tls }]) {
        await withProxy(async ({ call }) => assertFailed(await call(), reason, /ERR_/), { refuse, callee });
      }
    });
  }

  it('a proxy that is not there is the reason, for http and https', async () => {
    const proxy = `http://127.0.0.1:${await freePort()}`;
    for (const callee of [{}, { tls }]) {
      await withCallee(
        ok,
        async ({ callee, call }) => {
          assertFailed(
            await call(),
            'proxy',
            /^The egress proxy 127\.0\.0\.1:\d+ is not there: .*ECONNREFUSED/,
          );
          assert.equal(callee.accepted, 0);
        },
        { egressProxy: parseEgressProxy(proxy), callee },
      );
    }
  });

  it('a proxy that never answers for a tunnel is waiting for the callee', () =>
    withProxy(
      async ({ call }) =>
        assertFailed(
          await call(),
          'timeout_connect',
          /^The egress proxy had no connection to 127\.0\.0\.1:\d+ within/,
        ),
      {
        settings: { limits: SHORT_LIMITS },
        callee: { tls },
        refuse: (socket) => {
          socket.resume().on('end', () => socket.end());
          return true;
        },
      },
    ));

  it('a name is the proxy’s to resolve and is not resolved here; an address is checked all the same', () => {
    const resolved: string[] = [];
    return withProxy(
      async ({ proxy, callee, call }) => {
        assertFailed(await call('/', {}, PUBLIC_ONLY), 'destination_not_allowed', /loopback/);
        for (const scheme of ['http', 'https']) {
          const outcome = await call(`${scheme}://localhost:${callee.port}/`, {}, PUBLIC_ONLY);
          assertFailed(outcome, 'destination_not_allowed', /127\.0\.0\.1, which is not public: loopback/);
        }
        assert.deepEqual([proxy.requests, callee.accepted], [[], 0]);
        assertFailed(await call('http://inside.example/7', {}, PUBLIC_ONLY), 'status', /502/);
        assertFailed(await call('https://inside.example/7', {}, PUBLIC_ONLY), 'proxy', /502/);
        assert.deepEqual(proxy.requests, ['GET http://inside.example/7', 'CONNECT inside.example:443']);
        assert.deepEqual(resolved, []);
      },
      {
        settings: {
          resolve: async (host) => {
            resolved.push(host);
            return [{ address: '10.0.0.1', family: 4 }];
          },
        },
        refuse: sayAndClose(answer('502 Bad Gateway').toString()),
      },
    );
  });

  it('the name of the proxy itself is resolved as every name is', async () => {
    const proxy = await startProxy();
    const resolved: string[] = [];
    const resolve: Resolve = async (host) => {
      resolved.push(host);
      return [{ address: '127.0.0.1', family: 4 }];
    };
    const egressProxy = parseEgressProxy(`http://proxy.example:${proxy.port}`);
    try {
      await withCallee(ok, async ({ call }) => assertDelivered(await call('/7'), 'ok'), {
        egressProxy,
        resolve,
      });
      assert.deepEqual(resolved, ['proxy.example']);
    } finally {
      await proxy.close();
    }
  });

  it('a proxy whose name does not resolve, or is never answered for, is the reason', async () => {
    const noSuchName: Resolve = () =>
      Promise.reject(Object.assign(new Error('queryA'), { code: 'ENOTFOUND' }));
    const never: Resolve = () => new Promise(() => {});
    for (const [resolve, says] of [
      [noSuchName, /^The egress proxy is not found: proxy\.example does not resolve: no such name/],
      [never, /^The egress proxy proxy\.example:3128 was not resolved within 300 ms$/],
    ] as const) {
      const settings = {
        egressProxy: parseEgressProxy('http://proxy.example:3128'),
        resolve,
        limits: SHORT_LIMITS,
      };
      for (const callee of [{}, { tls }]) {
        await withCallee(ok, async ({ call }) => assertFailed(await call(), 'proxy', says), {
          ...settings,
          callee,
        });
      }
    }
  });
});

const program = findSquid();
if (program === undefined) {
  console.warn('NOT TESTED: the egress proxy against squid, which is not installed (apt-get install squid)');
}

describe('through squid', { skip: program === undefined && 'squid is not installed' }, () => {
  let squid: Squid;
  let refusedPort: number;
  const LIMITS = { connectMs: 3_000, firstByteMs: 3_000, exchangeMs: 6_000 };
  const throughSquid = (callee: CalleeOptions, test: (calling: Calling) => Promise<void>) =>
    withCallee(ok, test, {
      egressProxy: parseEgressProxy(squid.url),
      extraCa: authority.certificate,
      limits: LIMITS,
      callee,
    });

  before(async () => {
    refusedPort = await freePort();
    squid = await startSquid(program as string, refusedPort);
  });
  after(() => squid?.close());

  it('an http call is delivered, and its connection serves the next', () =>
    throughSquid({}, async ({ callee, caller, call }) => {
      for (let n = 0; n < 3; n++) assertDelivered(await call(`/${n}`), 'ok');
      assertDelivered(await call('/', { method: 'POST', body: '{"id": 7}' }), 'ok');
      assertDelivered(await call('/', { method: 'POST' }), 'ok');
      assert.equal(caller.openConnections, 1);
      assert.equal(callee.requests.length, 5);
      assert.match(squid.log(), new RegExp(`GET http://127\\.0\\.0\\.1:${callee.port}/0 `));
    }));

  it('an https call is delivered, with the certificate of a test authority', () =>
    throughSquid({ tls }, async ({ callee, call }) => {
      for (let n = 0; n < 3; n++) assertDelivered(await call(`/${n}`), 'ok');
      await call(`https://localhost:${callee.port}/named`).then((outcome) => assertDelivered(outcome, 'ok'));
      assert.equal(callee.requests.length, 4);
      assert.doesNotMatch(callee.requests[0]?.text ?? '', /via|forwarded/i);
    }));

  for (const [scheme, callee] of [
    ['http', {}],
    ['https', { tls }],
  ] as const) {
    it(`squid refusing ${scheme} with 403 is the proxy’s refusal`, () =>
      throughSquid({ ...callee, port: refusedPort }, async ({ callee, call }) => {
        const outcome = await call('/7');
        assertFailed(outcome, 'proxy', /^The egress proxy answered 403 \(ERR_ACCESS_DENIED\)$/);
        assert.equal(outcome.answer, undefined);
        assert.equal(callee.accepted, 0);
      }));

    it(`a callee that is not there, by ${scheme}, is the callee’s failure`, () =>
      throughSquid(callee, async ({ callee, call }) => {
        await callee.close();
        assertFailed(await call('/7'), 'refused', /ERR_CONNECT_FAIL/);
      }));
  }

  it('a callee that closes without an answer is the callee’s failure', () =>
    withCallee(
      (socket) => socket.destroy(),
      async ({ call }) => assertFailed(await call('/7'), 'reset', /ERR_ZERO_SIZE_OBJECT/),
      {
        egressProxy: parseEgressProxy(squid.url),
        limits: LIMITS,
      },
    ));

  it('squid down is the proxy, squid up again delivers', async () => {
    const own = await startSquid(program as string, refusedPort);
    await own.close();
    await withCallee(
      ok,
      async ({ callee, call }) => {
        assertFailed(await call('/7'), 'proxy', /is not there/);
        assertFailed(await call(`https://127.0.0.1:${callee.port}/7`), 'proxy', /is not there/);
        assert.equal(callee.accepted, 0);
      },
      { egressProxy: parseEgressProxy(own.url), limits: LIMITS },
    );
    await throughSquid({}, async ({ call }) => assertDelivered(await call('/7')));
  });
});
