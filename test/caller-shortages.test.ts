/** What this machine is short of is not the callee's fault. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { parseEgressProxy } from '../src/caller/egress-proxy.ts';
import {
  CallFailure,
  describeConnectError,
  describeExchangeError,
  describeTlsError,
  shortageOf,
} from '../src/caller/failure.ts';
import { costsAnAttempt, FAILURE_REASONS } from '../src/model/outcome.ts';
import { assertDelivered, assertFailed, withCallee } from './support/callee-calls.ts';
import { startProxy } from './support/callee-proxy.ts';
import { answer, startCallee } from './support/scripted-callee.ts';
import { createAuthority } from './support/tls-authority.ts';

const PROGRAM = join(import.meta.dirname, 'support/short-of-descriptors.ts');
const coded = (code: string, more: object = {}) =>
  Object.assign(new Error(`connect ${code}`), { code, ...more });

describe('a shortage of this machine', () => {
  for (const [code, says] of [
    ['EMFILE', /^This process has no file descriptor left: connect EMFILE$/],
    ['ENFILE', /^This machine has no file descriptor left/],
    ['ENOMEM', /no memory/],
    ['EAI_MEMORY', /no memory/],
    ['ERR_MEMORY_ALLOCATION_FAILED', /no memory/],
    ['ENOBUFS', /no room/],
    ['EADDRNOTAVAIL', /no local port/],
  ] as const) {
    it(`${code} is local, wherever it comes up`, () => {
      for (const failure of [
        describeConnectError(coded(code)),
        describeConnectError(
          Object.assign(new Error('all'), { errors: [coded('ECONNREFUSED'), coded(code)] }),
        ),
        describeTlsError(coded(code)),
        describeExchangeError(coded(code), false, 'http://callee.example/'),
      ]) {
        assert.equal(failure.reason, 'local');
        assert.match(
          failure.detail,
          code === 'EMFILE' ? /^This process has no file descriptor left: / : says,
        );
      }
      assert.match(describeConnectError(coded(code)).detail, says);
      assert.notEqual(describeExchangeError(coded(code), true, 'http://callee.example/').reason, 'local');
    });
  }

  it('is memory too when a TLS context cannot be made', () => {
    const error = coded('ERR_OSSL_MALLOC_FAILURE', { message: 'error:05800100:x509:malloc failure' });
    assert.equal(describeConnectError(error).reason, 'local');
    assert.equal(describeTlsError(new RangeError('Array buffer allocation failed')).reason, 'local');
  });

  it('is not that an IPv6 callee cannot be called from a machine without IPv6', () => {
    const error = coded('EADDRNOTAVAIL', { address: '2001:db8::1' });
    assert.equal(
      shortageOf(error, () => false),
      undefined,
    );
    assert.match(shortageOf(error, () => true) ?? '', /no local port/);
    assert.match(
      shortageOf(coded('EADDRNOTAVAIL', { address: '192.0.2.1' }), () => false) ?? '',
      /no local port/,
    );
  });

  it('is none of these', () => {
    for (const code of [
      'ECONNREFUSED',
      'EHOSTUNREACH',
      'ECONNRESET',
      'ETIMEDOUT',
      'valueOf',
      '__proto__',
      '',
    ]) {
      assert.notEqual(describeConnectError(coded(code)).reason, 'local', code);
    }
    assert.equal(describeConnectError(new CallFailure({ reason: 'dns', detail: 'EMFILE' })).reason, 'dns');
  });

  it('costs the order no attempt, and neither does a refusal of the proxy; all else does', () => {
    const free = FAILURE_REASONS.filter((reason) => !costsAnAttempt(reason));
    assert.deepEqual(free, ['proxy', 'local']);
  });

  for (const [what, throws] of [
    ['no socket can be made', coded('EMFILE')],
    ['no memory is left', new RangeError('Array buffer allocation failed')],
  ] as const) {
    it(`is local when ${what} at all, directly and through a proxy`, async () => {
      for (const egressProxy of [undefined, 'http://127.0.0.1:9']) {
        await withCallee(
          () => {},
          async ({ caller, call }) => {
            assertFailed(await call(), 'local');
            assert.equal(caller.openConnections, 0);
          },
          {
            connect: () => {
              throw throws;
            },
            ...(egressProxy === undefined ? {} : { egressProxy: parseEgressProxy(egressProxy) }),
          },
        );
      }
    });
  }

  it('of descriptors, for real: the calls that get none are local, all others are delivered', async () => {
    const authority = createAuthority();
    const ok = () => (socket: Socket) => setTimeout(() => socket.write(answer('200 OK')), 300);
    const plain = await startCallee(ok());
    const secured = await startCallee(ok(), { tls: authority.issue(['127.0.0.1']) });
    try {
      const { stdout } = await promisify(execFile)('sh', [
        '-c',
        'ulimit -n 60; exec "$0" "$@"',
        process.execPath,
        PROGRAM,
        '100',
        authority.certificate,
        `${plain.origin}/1`,
        `${secured.origin}/2`,
      ]);
      const { delivered, ...others } = JSON.parse(stdout) as Record<string, number>;
      assert.deepEqual(Object.keys(others), ['local: This process has no file descriptor left']);
      const [local] = Object.values(others) as [number];
      assert.ok((delivered ?? 0) >= 20 && local >= 80, stdout);
      assert.equal((delivered ?? 0) + local, 200);
    } finally {
      await plain.close();
      await secured.close();
    }
  });
});

describe('a callee that imitates a refusal of the egress proxy', () => {
  const REFUSALS = {
    '407': answer('407 Proxy Authentication Required', 'mine'),
    'X-Squid-Error': answer('503 Away', 'mine', 'X-Squid-Error: ERR_ACCESS_DENIED 0'),
    'X-Squid-Error: valueOf': answer('503 Away', 'mine', 'X-Squid-Error: valueOf'),
    'X-Squid-Error: constructor': answer('503 Away', 'mine', 'X-Squid-Error: constructor 0'),
    'X-Squid-Error: __proto__': answer('503 Away', 'mine', 'X-Squid-Error: __proto__'),
  };
  for (const [what, refusal] of Object.entries(REFUSALS)) {
    it(`by ${what} has its attempts used up when calls to others go through`, async () => {
      const proxy = await startProxy();
      const other = await startCallee((socket) => socket.write(answer('200 OK')));
      try {
        await withCallee(
          (socket) => socket.write(refusal),
          async ({ call }) => {
            for (let n = 0; n < 6; n++) {
              const outcome = await call('/orders/7');
              assertFailed(outcome, 'proxy');
              assert.equal(outcome.answer, undefined);
            }
            assertDelivered(await call(`${other.origin}/orders/7`));
            const outcome = await call('/orders/7');
            assertFailed(outcome, 'status', /answered \d+, which looks like a refusal of the egress proxy/);
            assert.equal(outcome.answer?.bodyStart, 'mine');
            // Another order's count begins anew.
            assertFailed(await call('/orders/8'), 'proxy');
          },
          { egressProxy: parseEgressProxy(proxy.url) },
        );
      } finally {
        await other.close();
        await proxy.close();
      }
    });
  }

  it('by a header of a 2xx is delivered', async () => {
    const proxy = await startProxy();
    try {
      await withCallee(
        (socket) => socket.write(answer('200 OK', 'mine', 'X-Squid-Error: ERR_ACCESS_DENIED 0')),
        async ({ call }) => assertDelivered(await call(), 'mine'),
        { egressProxy: parseEgressProxy(proxy.url) },
      );
    } finally {
      await proxy.close();
    }
  });
});
