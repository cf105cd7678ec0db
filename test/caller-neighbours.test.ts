/** What one callee sends must not hold up the calls to others. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { Rests } from '../src/caller/rests.ts';
import type { Outcome } from '../src/model/outcome.ts';
import { assertDelivered, withCallee } from './support/callee-calls.ts';
import { answer, type Script, startCallee } from './support/scripted-callee.ts';
import { createAuthority } from './support/tls-authority.ts';

const FLOODS: Record<string, Buffer> = {
  'a body in chunks of one byte': Buffer.from(
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(60_000)}0\r\n\r\n`,
  ),
  'interim answers without end': Buffer.from('HTTP/1.1 100 Continue\r\n\r\n'.repeat(40_000)),
  'chunks of one byte with long extensions': Buffer.from(
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${`1;${'x'.repeat(8_000)}\r\nx\r\n`.repeat(200)}0\r\n\r\n`,
  ),
  'short bodies in chunks of one byte': Buffer.from(
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\nx\r\n'.repeat(2_600)}0\r\n\r\n`,
  ),
  'a compressed body in chunks of one byte': Buffer.from(
    `HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n${[...gzipSync(Buffer.alloc(10_000_000))].map((byte) => `1\r\n${String.fromCharCode(byte)}\r\n`).join('')}0\r\n\r\n`,
    'latin1',
  ),
};
const FLOODING = 8;
const TIME_MS = 400;
/** They go on: how much of their rate is left, bench/neighbours measures. The flooding callees work in this process too. */
const SHARE_MIN = 0.04;
const WINDOWS = 3;

const authority = createAuthority();
const tls = authority.issue(['127.0.0.1']);

describe('a callee that floods', () => {
  for (const [what, bytes] of Object.entries(FLOODS)) {
    for (const [how, settings] of [
      ['', {}],
      [' over TLS', { callee: { tls }, extraCa: authority.certificate }],
    ] as const) {
      // The others end each connection, so that this process makes both sides of a TLS handshake for each of their calls.
      if (how !== '' && what !== 'short bodies in chunks of one byte') continue;
      it(`${what}${how}, eight at once, does not stop the others`, () => {
        const flood: Script = (socket) => socket.write(bytes);
        return withCallee(
          flood,
          async ({ caller, call }) => {
            const other = await startCallee((socket) => socket.write(answer('200 OK', 'fine')));
            const countFor = async (ms: number) => {
              const until = performance.now() + ms;
              let count = 0;
              const line = async () => {
                for (; performance.now() < until; count++)
                  assertDelivered(await call(`${other.origin}/`), 'fine');
              };
              await Promise.all(Array.from({ length: 4 }, line));
              return count;
            };
            try {
              await countFor(200);
              const alone = await countFor(TIME_MS);
              let isOver = false;
              const flooded = Promise.all(
                Array.from({ length: FLOODING }, async () => {
                  const outcomes: Outcome[] = [];
                  do outcomes.push(await call());
                  while (!isOver);
                  return outcomes;
                }),
              );
              // The first reads cannot be foreseen: what they cost is made up for after them.
              await countFor(200);
              let beside = 0;
              for (let window = 0; window < WINDOWS && beside < alone * SHARE_MIN; window++) {
                beside = await countFor(TIME_MS);
              }
              isOver = true;
              const outcomes = (await flooded).flat();
              assert.ok(outcomes.length >= FLOODING);
              assert.ok(beside >= alone * SHARE_MIN, `${beside} calls beside it, ${alone} alone`);
              assert.equal(caller.callsInFlight, 0);
            } finally {
              await other.close();
            }
          },
          { ...settings, limits: { connectMs: 2_000, firstByteMs: 2_000, exchangeMs: 2_000 } },
        );
      });
    }
  }
});

describe('pauses after what cost much', () => {
  it('are nine times as long, for each of those that are paused', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const rests = new Rests();
    const resumed: string[] = [];
    rests.pause(2, () => resumed.push('first'));
    rests.pause(2, () => resumed.push('second'));
    t.mock.timers.tick(17);
    assert.deepEqual(resumed, []);
    t.mock.timers.tick(1);
    assert.deepEqual(resumed, ['first']);
    t.mock.timers.tick(17);
    assert.deepEqual(resumed, ['first']);
    t.mock.timers.tick(1);
    assert.deepEqual(resumed, ['first', 'second']);
  });

  it('are bounded: a machine that slept makes no answer late', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    let isResumed = false;
    new Rests().pause(100_000, () => {
      isResumed = true;
    });
    t.mock.timers.tick(1_000);
    assert.equal(isResumed, true);
  });

  it('let the event loop turn, however short they are', async () => {
    const rests = new Rests();
    let isResumed = false;
    rests.pause(0, () => {
      isResumed = true;
    });
    await Promise.resolve();
    assert.equal(isResumed, false);
    await new Promise((passed) => setImmediate(passed));
    assert.equal(isResumed, true);
  });
});
