/** Orders that their callee cannot bear, and calls that take their time, hold up no other order (contract, section 5). */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { EngineFixture } from './support/engine-fixture.ts';
import { answered, unanswered } from './support/fake-callee.ts';

const SECOND = 1_000;
const CONTINUOUS = { launch: 'AUTOMATIC', frequencyMinutes: 0 } as const;

describe('turns', () => {
  let fixture: EngineFixture;
  beforeEach(async () => {
    fixture = await EngineFixture.start();
  });
  afterEach(() => fixture.stop());

  const numberOf = ({ url }: { url: string }) => Number(/\d+$/.exec(url)?.[0]);

  test('whichever orders are poisoned, the good ones behind them are called in the first or second execution', async () => {
    let nextOrder = 1;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 16 }),
        fc.uniqueArray(fc.integer({ min: 0, max: 65 }), { maxLength: 16 }),
        fc.boolean(),
        async (concurrency, places, areFirst) => {
          const one = await fixture.createInterface({ concurrency });
          const schedule = await fixture.createSchedule(one, { batchSize: 200 });
          const orders = Array.from({ length: 66 }, (_, index) => nextOrder + index);
          nextOrder += orders.length;
          const poisoned = new Set(
            areFirst ? orders.slice(0, places.length) : places.map((place) => orders[place]),
          );
          fixture.callee.calls.length = 0;
          fixture.callee.outcome = (request) =>
            poisoned.has(numberOf(request)) ? unanswered('timeout_response') : answered();
          await fixture.close(orders);
          await fixture.run(schedule);
          await fixture.run(schedule);
          const called = new Set(fixture.callee.calls.map(numberOf));
          const missed = orders.filter((order) => !poisoned.has(order) && !called.has(order));
          assert.deepEqual(missed, []);
          await fixture.store.deleteInterface(fixture.institution.id, one.id, fixture.clock.now());
          await fixture.clock.advance(0);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('while new closings wait, owed orders take at most half of the calls that run at once', async () => {
    const one = await fixture.createInterface({ concurrency: 8 });
    const schedule = await fixture.createSchedule(one, { batchSize: 200 });
    fixture.callee.outcome = () => answered(500);
    await fixture.close(20);
    await fixture.run(schedule);
    await fixture.close(Array.from({ length: 20 }, (_, index) => 100 + index));
    fixture.callee.calls.length = 0;
    fixture.callee.outcome = () => undefined;
    const running = fixture.run(schedule);
    await fixture.until(() => fixture.callee.running === 8);
    const owed = fixture.callee.calls.filter((request) => numberOf(request) <= 20);
    assert.equal(owed.length, 4);
    fixture.callee.outcome = () => answered();
    fixture.callee.release();
    assert.equal((await running).called, 40, 'when no new ones wait, owed orders take all');
  });

  test('of a concurrency of one, every second call is a new one, with a batch size of one too', async () => {
    const one = await fixture.createInterface({ concurrency: 1 });
    const schedule = await fixture.createSchedule(one, { batchSize: 1 });
    const all = await fixture.createSchedule(one, { batchSize: 200 });
    fixture.callee.outcome = () => answered(500);
    await fixture.close(5);
    await fixture.run(all);
    await fixture.close([101, 102, 103]);
    fixture.callee.calls.length = 0;
    for (let run = 0; run < 6; run += 1) await fixture.run(schedule);
    const isNew = fixture.callee.calls.map((request) => numberOf(request) > 100);
    assert.equal(isNew.filter((one) => one).length, 3, JSON.stringify(isNew));
    assert.ok(
      isNew.every((now, index) => index === 0 || now !== isNew[index - 1]),
      JSON.stringify(isNew),
    );
  });

  test('failed owed orders do not stop an execution while new ones wait, and do when none waits', async () => {
    const one = await fixture.createInterface({ concurrency: 1 });
    const schedule = await fixture.createSchedule(one, { batchSize: 200 });
    fixture.callee.outcome = (request) => (numberOf(request) <= 30 ? unanswered() : answered());
    await fixture.close(30);
    for (let run = 0; run < 3; run += 1) assert.equal((await fixture.run(schedule)).status, 'ERROR');
    await fixture.close(Array.from({ length: 15 }, (_, index) => 100 + index));
    const mixed = await fixture.run(schedule);
    assert.equal(mixed.delivered, 15);
    assert.match(
      mixed.message ?? '',
      /10 calls in a row/,
      'behind the new ones, ten owed ones in a row stop it',
    );
    assert.ok(mixed.called < 45, `${mixed.called} calls`);
  });
});

describe('a continuous schedule whose callee is slow now and then', () => {
  let fixture: EngineFixture;
  beforeEach(async () => {
    fixture = await EngineFixture.start();
  });
  afterEach(async () => {
    fixture.callee.outcome = () => answered();
    fixture.callee.release();
    await fixture.stop();
  });

  test('one slow call costs its own slot only: orders that close meanwhile are called as they close', async () => {
    const one = await fixture.createInterface({ concurrency: 2 });
    const schedule = await fixture.createSchedule(one, { ...CONTINUOUS, batchSize: 3 });
    fixture.callee.outcome = ({ url }) => (url.endsWith('/1') ? undefined : answered());
    await fixture.close([1]);
    for (let order = 2; order <= 12; order += 1) {
      await fixture.clock.advance(2 * SECOND);
      await fixture.close([order]);
      assert.equal(fixture.callee.orderIds.at(-1), String(order), 'called at once');
    }
    await fixture.clock.advance(2 * SECOND);
    const executions = await fixture.executions(schedule);
    assert.ok(executions.every(({ called }) => called <= 3));
    const running = executions.filter(({ status }) => status === 'RUNNING');
    assert.deepEqual(
      running.map(({ called, delivered }) => [called, delivered]),
      [[1, 0]],
      'the one that waits for its slow call is on record with its counts',
    );
    fixture.callee.release();
    await fixture.clock.advance(100);
    assert.ok((await fixture.executions(schedule)).every(({ status }) => status === 'OK'));
    assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 0 });
  });

  test('what still runs of an execution counts into the concurrency of the next', async () => {
    const one = await fixture.createInterface({ concurrency: 3 });
    await fixture.createSchedule(one, { ...CONTINUOUS, batchSize: 2 });
    fixture.callee.outcome = () => undefined;
    await fixture.close(10);
    await fixture.clock.advance(5 * SECOND);
    assert.deepEqual(fixture.callee.orderIds, ['1', '2', '3']);
    assert.equal(fixture.callee.mostRunning, 3);
  });

  test('closings that come within a second belong to one execution, at most batch size of them', async () => {
    const one = await fixture.createInterface();
    const schedule = await fixture.createSchedule(one, { ...CONTINUOUS, batchSize: 4 });
    for (let order = 1; order <= 6; order += 1) {
      await fixture.close([order]);
      await fixture.clock.advance(0.5 * SECOND);
    }
    await fixture.clock.advance(2 * SECOND);
    const executions = await fixture.executions(schedule);
    assert.deepEqual(
      executions.map(({ called }) => called),
      [2, 4],
    );
  });

  test('a run by hand begins although a continuous execution waits for closings, or for a slow call', async () => {
    const one = await fixture.createInterface({ concurrency: 2 });
    await fixture.createSchedule(one, CONTINUOUS);
    const manual = await fixture.createSchedule(one);
    fixture.callee.outcome = ({ url }) => (url.endsWith('/1') ? undefined : answered());
    await fixture.close([1]);
    const startedAt = fixture.clock.now();
    assert.equal((await fixture.run(manual)).status, 'OK');
    assert.ok(fixture.clock.now() - startedAt < SECOND);
  });

  test('an order that is owed is called when it is due, also within an execution that goes on', async () => {
    const one = await fixture.createInterface();
    await fixture.createSchedule(one, { ...CONTINUOUS, batchSize: 10_000 });
    fixture.callee.outcome = ({ url }) => (url.endsWith('/1') ? answered(500) : answered());
    await fixture.close([1]);
    const startedAt = fixture.clock.now();
    for (let order = 2; fixture.clock.now() - startedAt < 9 * SECOND; order += 1) {
      await fixture.clock.advance(0.5 * SECOND);
      await fixture.close([order]);
    }
    const isAgain = () => fixture.callee.orderIds.filter((id) => id === '1').length === 2;
    assert.ok(!isAgain());
    for (let order = 100; fixture.clock.now() - startedAt < 12 * SECOND; order += 1) {
      await fixture.clock.advance(0.5 * SECOND);
      await fixture.close([order]);
    }
    assert.ok(isAgain());
  });

  test('a filter that changes holds for the next closing, although an execution waits for it', async () => {
    const one = await fixture.createInterface({ filter: 'OrderDetailsData.OrderType=SALE' });
    await fixture.createSchedule(one, CONTINUOUS);
    await fixture.close([1], ',"orderType":"SALE"');
    await fixture.changeInterface(one, { filter: 'OrderDetailsData.OrderType=RENEWAL' });
    await fixture.close([2], ',"orderType":"SALE"');
    await fixture.close([3], ',"orderType":"RENEWAL"');
    assert.deepEqual(fixture.callee.orderIds, ['1', '3']);
  });

  test('a pause while an execution waits for closings ends it, and is no error', async () => {
    const one = await fixture.createInterface();
    const schedule = await fixture.createSchedule(one, CONTINUOUS);
    await fixture.close([1]);
    await fixture.changeInterface(one, { active: false });
    await fixture.close([2]);
    await fixture.clock.advance(2 * SECOND);
    assert.deepEqual(fixture.callee.orderIds, ['1']);
    assert.deepEqual(
      (await fixture.executions(schedule)).map(({ status }) => status),
      ['OK'],
    );
    await fixture.changeInterface(one, { active: true });
    assert.deepEqual(fixture.callee.orderIds, ['1', '2']);
  });
});

describe('a hold that a callee asked for', () => {
  let fixture: EngineFixture;
  beforeEach(async () => {
    fixture = await EngineFixture.start();
  });
  afterEach(() => fixture.stop());

  async function held(more: object = {}) {
    const one = await fixture.createInterface({ concurrency: 1, ...more });
    await fixture.createSchedule(one, CONTINUOUS);
    fixture.callee.outcome = () => answered(503, { 'retry-after': '3600' });
    await fixture.close(3);
    await fixture.clock.advance(100);
    assert.equal(fixture.callee.calls.length, 1);
    assert.ok(((await fixture.queue(one))?.heldUntil ?? 0) > fixture.clock.now());
    fixture.callee.outcome = () => answered();
    return one;
  }

  test('belongs to the URL that asked: another one is called at once', async () => {
    const one = await held();
    await fixture.changeInterface(one, { url: 'https://crm.example/healthy/${orderId}' });
    await fixture.clock.advance(100);
    assert.ok(fixture.callee.calls.length >= 3);
    assert.equal((await fixture.queue(one))?.heldUntil, undefined);
  });

  test('belongs to the method too, and to nothing else', async () => {
    const one = await held();
    await fixture.changeInterface(one, { name: 'another name' });
    await fixture.clock.advance(100);
    assert.equal(fixture.callee.calls.length, 1);
    await fixture.changeInterface(one, { method: 'POST' });
    await fixture.clock.advance(100);
    assert.ok(fixture.callee.calls.length >= 3);
  });

  test('an answer of the old URL that comes after the change holds nothing', async () => {
    const one = await fixture.createInterface({ concurrency: 1 });
    await fixture.createSchedule(one, CONTINUOUS);
    fixture.callee.outcome = ({ url }) => (url.includes('/new/') ? answered() : undefined);
    await fixture.close(3);
    await fixture.changeInterface(one, { concurrency: 1, url: 'https://crm.example/new/${orderId}' });
    fixture.callee.release(answered(429, { 'retry-after': '3600' }));
    await fixture.clock.advance(100);
    assert.equal(fixture.callee.calls.length, 3);
    assert.equal((await fixture.queue(one))?.heldUntil, undefined);
  });

  test('no attempt is said to come before its end', async () => {
    const one = await held();
    const [call] = await fixture.calls(one);
    assert.equal(call?.nextAttemptAt, (await fixture.queue(one))?.heldUntil);
  });

  test('back-off and counts of calls without an answer end with the destination too', async () => {
    const one = await fixture.createInterface({ concurrency: 1 });
    await fixture.createSchedule(one, CONTINUOUS);
    fixture.callee.outcome = ({ url }) => (url.includes('/new/') ? answered() : unanswered());
    await fixture.close(30);
    await fixture.clock.advance(60 * SECOND);
    const before = fixture.callee.calls.length;
    await fixture.changeInterface(one, { concurrency: 1, url: 'https://crm.example/new/${orderId}' });
    await fixture.clock.advance(100);
    assert.ok(fixture.callee.calls.length > before);
  });
});

describe('slots for calls outside of the queue', () => {
  let fixture: EngineFixture;
  beforeEach(async () => {
    fixture = await EngineFixture.start();
  });
  afterEach(async () => {
    fixture.callee.outcome = () => answered();
    fixture.callee.release();
    await fixture.stop();
  });
  const reserve = (id: number) => fixture.engine.reserveSlot(fixture.institution.id, id);

  test('they and the calls of the queue together stay within the concurrency', async () => {
    const one = await fixture.createInterface({ concurrency: 2 });
    await fixture.createSchedule(one, CONTINUOUS);
    const giveBack = await reserve(one.id);
    assert.equal(typeof giveBack, 'function');
    fixture.callee.outcome = () => undefined;
    await fixture.close(5);
    assert.equal(fixture.callee.running, 1);
    (giveBack as () => void)();
    await fixture.clock.advance(0);
    assert.equal(fixture.callee.running, 2);
  });

  test('one waits for a call of the queue to end, goes before the next, and is refused when none ends in time', async () => {
    const one = await fixture.createInterface({ concurrency: 1 });
    await fixture.createSchedule(one, CONTINUOUS);
    fixture.callee.outcome = () => undefined;
    await fixture.close(5);
    const refused = reserve(one.id);
    await fixture.clock.advance(2 * SECOND);
    assert.equal(await refused, 'full');
    const waiting = reserve(one.id);
    await fixture.clock.advance(10);
    fixture.callee.release();
    const giveBack = await waiting;
    assert.equal(typeof giveBack, 'function');
    assert.equal(fixture.callee.running, 0, 'the queue stands back');
    (giveBack as () => void)();
    await fixture.clock.advance(0);
    assert.equal(fixture.callee.running, 1);
  });

  test('there are no more of them than the concurrency, and none of what another node or institution has', async () => {
    const one = await fixture.createInterface({ concurrency: 2 });
    await fixture.clock.advance(0);
    const taken = [await reserve(one.id), await reserve(one.id), await reserve(one.id)];
    assert.deepEqual(
      taken.map((slot) => typeof slot === 'string' && slot),
      [false, false, 'full'],
    );
    assert.equal(await fixture.engine.reserveSlot(fixture.institution.id + 1, one.id), 'elsewhere');
    assert.equal(await reserve(one.id + 1), 'elsewhere');
    for (const slot of taken) if (typeof slot === 'function') slot();
  });
});

describe('a machine that is short of something', () => {
  let fixture: EngineFixture;
  beforeEach(async () => {
    fixture = await EngineFixture.start();
  });
  afterEach(() => fixture.stop());

  test('calls wait: fewer run at once, no attempt is used up, nobody is stopped, and readiness says so until it passes', async () => {
    const interfaces = [];
    for (let index = 0; index < 5; index += 1) {
      const one = await fixture.createInterface({
        concurrency: 64,
        url: `https://crm.example/${index}/\${orderId}`,
      });
      await fixture.createSchedule(one, { ...CONTINUOUS, batchSize: 10_000 });
      interfaces.push(one);
    }
    const told: boolean[] = [];
    await fixture.restart({ onShortage: (isShort) => told.push(isShort) });
    const room = { descriptors: 20 };
    fixture.callee.outcome = () =>
      fixture.callee.running > room.descriptors ? unanswered('local') : answered();
    await fixture.close(400);
    await fixture.clock.advance(200);
    assert.match(fixture.engine.readiness().because ?? '', /Calls wait/);
    await fixture.clock.advance(120 * SECOND);
    for (const one of interfaces) {
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 0 });
    }
    let failures = 0;
    for (const one of interfaces) {
      for (const { attempt, reason } of await fixture.calls(one)) {
        assert.equal(attempt, 1);
        if (reason === 'local') failures += 1;
      }
    }
    assert.ok(failures < 1_000, `${failures} failed calls for 2,000 orders`);
    room.descriptors = 10_000;
    await fixture.close(Array.from({ length: 2_000 }, (_, index) => 1_000 + index));
    await fixture.clock.advance(30 * SECOND);
    assert.deepEqual(fixture.engine.readiness(), { ready: true });
    assert.equal(told[0], true);
    assert.equal(told.at(-1), false);
  });

  test('when nothing can be called at all, few calls are tried, and all are made when it is over', async () => {
    const one = await fixture.createInterface({ concurrency: 64 });
    await fixture.createSchedule(one, { ...CONTINUOUS, batchSize: 10_000 });
    fixture.callee.outcome = () => unanswered('local');
    await fixture.close(1_000);
    await fixture.clock.advance(60 * SECOND);
    const tried = fixture.callee.calls.length;
    assert.ok(tried < 150, `${tried} calls in a minute`);
    fixture.callee.outcome = () => answered();
    await fixture.clock.advance(60 * SECOND);
    assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 0 });
  });
});
