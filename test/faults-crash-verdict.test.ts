/** That the judge of the crash runs finds what it is there to find. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CalleeCall, judge } from './support/crash-verdict.ts';
import type { Death } from './support/node-process.ts';

const CONCURRENCY = 2;

function call(orderId: number, receivedAt: number, more: Partial<CalleeCall> = {}): CalleeCall {
  return {
    interfaceName: 'one',
    orderId: String(orderId),
    status: 200,
    receivedAt,
    answeredAt: receivedAt + 5,
    ...more,
  };
}

/** A process from 0 to 10,000, which ends by `signal`, and another from 10,100 on. */
function verdict(calls: readonly CalleeCall[], signal: Death['signal'] = 'SIGKILL', unwanted: string[] = []) {
  const ids = calls.map(({ orderId }) => orderId).filter((id) => !unwanted.includes(id));
  return judge({
    calls,
    lives: [
      { spawnedAt: 0, death: { signal, sentAt: 10_000, endedAt: 10_002, exitCode: null } },
      { spawnedAt: 10_100, death: { signal: 'SIGTERM', sentAt: 90_000, endedAt: 90_100, exitCode: 0 } },
    ],
    interfaces: [
      { name: 'one', concurrency: CONCURRENCY, wanted: new Set([...ids, '1']), unwanted: new Set(unwanted) },
    ],
    drainedFrom: 80_000,
  });
}

test('an acknowledged order that was never answered 200 is lost', () => {
  const { lost, violations } = verdict([call(1, 500, { status: 500 }), call(2, 600)]);
  assert.equal(lost, 1);
  assert.match(violations[0] ?? '', /order 1 was acknowledged and never delivered/);
  assert.equal(verdict([]).lost, 1, 'so is one that was never called');
});

test('what was answered long before the kill may be repeated up to the concurrency', () => {
  const last = call(9, 9_990);
  const first = [call(1, 500), call(2, 600), call(3, 700)];
  const again = (count: number) =>
    first.slice(0, count).map((one) => ({ ...one, receivedAt: 11_000, answeredAt: 11_005 }));
  // Order 9 was answered in the last 50 ms: one more.
  assert.deepEqual(verdict([...first, last, ...again(3)]).violations, []);
  const late = call(9, 9_990, { answeredAt: 10_050 });
  const { violations, repeats } = verdict([...first, late, ...again(3)]);
  assert.match(violations.join(), /3 answered calls were repeated, more than 2/);
  assert.equal(repeats[0]?.repeatedAfterAnswer, 3);
});

test('a process that stood still is judged as of its last call', () => {
  const calls = [call(1, 5_000), call(2, 5_001), call(3, 5_002), call(4, 5_003)];
  const again = calls.map((one) => ({ ...one, receivedAt: 11_000, answeredAt: 11_005 }));
  const { violations, repeats } = verdict([...calls, ...again]);
  assert.deepEqual(violations, []);
  assert.deepEqual([repeats[0]?.bound, repeats[0]?.killBound], [6, 2]);
});

test('of several nodes, each kill is charged with what that node had called, whoever repeats it', () => {
  const kill = (sentAt: number): Death => ({
    signal: 'SIGKILL',
    sentAt,
    endedAt: sentAt + 2,
    exitCode: null,
  });
  const lives = [
    { node: 0, spawnedAt: 0, death: kill(10_000) },
    { node: 1, spawnedAt: 0, death: kill(50_000) },
  ];
  const first = [1, 2, 3, 4].map((id) => call(id, 500 + id, { node: 0 }));
  const judged = (again: readonly CalleeCall[]) => {
    const wanted = new Set(['1', '2', '3', '4', '9']);
    const last = call(9, 9_800, { node: 0 });
    const interfaces = [{ name: 'one', concurrency: CONCURRENCY, wanted, unwanted: new Set<string>() }];
    return judge({ calls: [...first, last, ...again], lives, interfaces, drainedFrom: 80_000 });
  };
  const repeat = (one: CalleeCall, node: number, receivedAt: number) => ({
    ...call(Number(one.orderId), receivedAt),
    node,
  });
  const byOther = first.map((one) => repeat(one, 1, 16_000));
  assert.deepEqual(
    judged(byOther.slice(1)).repeats.map(({ repeatedAfterAnswer }) => repeatedAfterAnswer),
    [3, 0],
  );
  assert.match(
    judged(byOther).violations.join(),
    /kill of life 0: 4 answered calls were repeated, more than 3/,
  );
  const twice = [...byOther.slice(2), repeat(first[2] as CalleeCall, 1, 17_000)];
  assert.match(judged(twice).violations.join(), /in life 1, was called again in the same life/);
});

test('a call that a paused node had begun, and that arrives later than the repeat of another, was running', () => {
  const paused = { signal: 'SIGKILL', sentAt: 9_000, endedAt: 9_000, exitCode: null } as const;
  const stopped = { signal: 'SIGTERM', sentAt: 90_000, endedAt: 90_100, exitCode: 0 } as const;
  const lives = [
    { node: 0, spawnedAt: 0, faultyFrom: 1_000, death: paused },
    { node: 0, spawnedAt: 9_000, death: stopped },
    { node: 1, spawnedAt: 0, death: stopped },
  ];
  const judged = (count: number, lateBy: number) => {
    const ids = Array.from({ length: count }, (_, index) => index + 1);
    const calls = [
      ...ids.map((id) => call(id, 8_000, { node: 1 })),
      ...ids.map((id) => call(id, 8_900 + lateBy, { node: 0 })),
    ];
    const wanted = new Set(ids.map(String));
    const interfaces = [{ name: 'one', concurrency: CONCURRENCY, wanted, unwanted: new Set<string>() }];
    return judge({ calls, lives, interfaces, drainedFrom: 80_000 }).violations.join();
  };
  assert.equal(judged(2, 0), '');
  assert.match(judged(3, 0), /3 running calls were repeated, more than 2/);
  assert.match(judged(1, 1_000), /after a stop by SIGTERM/, 'it was begun after the pause');
});

test('running calls may be repeated up to the concurrency', () => {
  const running = [1, 2, 3].map((id) => call(id, 9_999, { answeredAt: 10_010 }));
  const again = running.map((one) => ({ ...one, receivedAt: 11_000, answeredAt: 11_005 }));
  assert.deepEqual(verdict([...running, ...again.slice(1)]).violations, []);
  assert.match(
    verdict([...running, ...again]).violations.join(),
    /3 running calls were repeated, more than 2/,
  );
});

test('nothing is called again in the same life or after a stop, nor sooner after a 500 than it is due', () => {
  const same = [call(1, 500), call(1, 900)];
  assert.match(verdict(same).violations.join(), /called again in the same life/);
  const stopped = [call(1, 9_990), call(1, 11_000)];
  assert.match(verdict(stopped, 'SIGTERM').violations.join(), /called again after a stop by SIGTERM/);
  const early = [call(1, 500, { status: 500 }), call(1, 900)];
  assert.match(verdict(early).violations.join(), /called again in the same life/);
  const due = [call(1, 500, { status: 500 }), call(1, 9_700)];
  assert.deepEqual(verdict(due).violations, []);
});

test('what the filter keeps out is not called', () => {
  assert.match(
    verdict([call(1, 500), call(2, 600)], 'SIGKILL', ['2']).violations.join(),
    /in spite of the filter/,
  );
});

test('a call that the callee cut off on a used connection may be followed by one more, and by no third', () => {
  const cut = call(1, 500, { status: 500, answeredAt: undefined, wasCutOff: true });
  assert.deepEqual(verdict([cut, call(1, 501)]).violations, []);
  assert.match(
    verdict([cut, call(1, 501), call(1, 502)]).violations.join(),
    /was called again in the same life/,
  );
  const again = { ...cut, receivedAt: 501 };
  assert.match(verdict([cut, again, call(1, 502)]).violations.join(), /was called again in the same life/);
});

test('a call that was cut off and not made again before a kill was running', () => {
  const cut = call(1, 9_000, { status: 500, answeredAt: undefined, wasCutOff: true });
  const { violations, repeats } = verdict([cut, call(1, 11_000)]);
  assert.deepEqual(violations, []);
  assert.equal(repeats[0]?.repeatedWhileRunning, 1);
});
