import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { isContinuous } from '../src/model/entities.ts';
import type { ResendSelection } from '../src/store/store.ts';
import { EngineFixture } from './support/engine-fixture.ts';
import { answered, unanswered } from './support/fake-callee.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const CONTINUOUS = { launch: 'AUTOMATIC', frequencyMinutes: 0 } as const;

describe('the engine', () => {
  let fixture: EngineFixture;
  beforeEach(async () => {
    fixture = await EngineFixture.start();
  });
  afterEach(() => fixture.stop());

  describe('a run by hand', () => {
    test('237 closings are called 60, 60, 60, 57, in the order of the log', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one);
      await fixture.close(237);
      const called: number[] = [];
      for (let run = 0; run < 5; run += 1) {
        const execution = await fixture.run(schedule);
        assert.equal(execution.status, 'OK');
        assert.equal(execution.trigger, 'MANUAL');
        assert.equal(execution.delivered, execution.called);
        called.push(execution.called);
      }
      assert.deepEqual(called, [60, 60, 60, 57, 0]);
      assert.deepEqual(
        fixture.callee.orderIds,
        Array.from({ length: 237 }, (_, index) => String(index + 1)),
      );
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 0 });
    });

    test('no more calls run at once than the interface allows', async () => {
      const one = await fixture.createInterface({ concurrency: 3 });
      const schedule = await fixture.createSchedule(one);
      await fixture.close(20);
      await fixture.run(schedule);
      assert.equal(fixture.callee.mostRunning, 3);
    });

    test('while it runs it is on record as RUNNING, and is not begun a second time after a crash', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one);
      await fixture.close(1);
      fixture.callee.outcome = () => undefined;
      const { store, clock, institution } = fixture;
      const requested = await store.requestRun(institution.id, schedule.id, clock.now());
      await fixture.until(() => fixture.callee.running === 1);
      assert.equal((await store.executionById(institution.id, requested?.id as number))?.status, 'RUNNING');
      assert.deepEqual((await store.engineInterface(institution.id, one.id))?.requestedRuns, []);
      fixture.crash();
      fixture.callee.outcome = () => answered();
      await fixture.restart();
      const interrupted = await store.executionById(institution.id, requested?.id as number);
      assert.equal(interrupted?.status, 'ERROR');
      assert.match(interrupted.message ?? '', /process ended/);
      assert.equal((await fixture.queue(one))?.waiting, 1);
      assert.equal((await fixture.run(schedule)).delivered, 1);
    });

    test('a failed call leaves the order owed; it is called first at the next executions, 12 times in all, then abandoned', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one);
      await fixture.close(2);
      fixture.callee.outcome = ({ url }) => (url.endsWith('/1') ? answered(500) : answered());
      const first = await fixture.run(schedule);
      assert.equal(first.status, 'WARNING');
      assert.equal(first.failed, 1);
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 1, abandoned: 0 });
      for (let attempt = 2; attempt <= 12; attempt += 1) {
        await fixture.close([attempt + 100]);
        fixture.callee.calls.length = 0;
        const execution = await fixture.run(schedule);
        assert.deepEqual(fixture.callee.orderIds, ['1', String(attempt + 100)]);
        assert.equal(execution.abandoned, attempt === 12 ? 1 : 0);
      }
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 1 });
      const ofOrder = (await fixture.calls(one)).filter(({ orderId }) => orderId === '1');
      assert.deepEqual(
        ofOrder.map(({ attempt, outcome, reason, answer }) => [attempt, outcome, reason, answer?.status]),
        Array.from({ length: 12 }, (_, index) => [
          12 - index,
          index === 0 ? 'ABANDONED' : 'FAILED',
          'status',
          500,
        ]),
      );
      fixture.callee.calls.length = 0;
      assert.equal((await fixture.run(schedule)).called, 0);
    });

    test('an execution whose calls all fail ends ERROR', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one);
      await fixture.close(3);
      fixture.callee.outcome = () => answered(404);
      assert.equal((await fixture.run(schedule)).status, 'ERROR');
    });

    test('several schedules of one interface share its queue, and their executions do not overlap', async () => {
      const one = await fixture.createInterface();
      const [a, b] = [
        await fixture.createSchedule(one, { batchSize: 2 }),
        await fixture.createSchedule(one, { batchSize: 3 }),
      ];
      await fixture.close(9);
      fixture.callee.outcome = () => undefined;
      const [runA, runB] = [fixture.run(a), fixture.run(b)];
      await fixture.clock.advance(10);
      assert.deepEqual(fixture.callee.orderIds, ['1', '2']);
      fixture.callee.release();
      await runA;
      await fixture.clock.advance(10);
      assert.deepEqual(fixture.callee.orderIds, ['1', '2', '3', '4', '5']);
      fixture.callee.release();
      assert.equal((await runB).called, 3);
    });

    test('without an open proxy opening it ends ERROR at once, nothing is attempted, and nothing is lost', async () => {
      const one = await fixture.createInterface({ destination: 'other.example:443' });
      const schedule = await fixture.createSchedule(one);
      await fixture.close(3);
      const execution = await fixture.run(schedule);
      assert.equal(execution.status, 'ERROR');
      assert.match(execution.message ?? '', /no open proxy opening for other\.example:443/);
      assert.equal(fixture.callee.calls.length, 0);
      assert.equal((await fixture.queue(one))?.waiting, 3);
      await fixture.openDestination('other.example:443');
      assert.equal((await fixture.run(schedule)).delivered, 3);
    });

    test('a paused interface keeps its queue, and all of it is called once it is active again', async () => {
      const one = await fixture.createInterface({ active: false });
      const schedule = await fixture.createSchedule(one);
      await fixture.close(3);
      const execution = await fixture.run(schedule);
      assert.equal(execution.status, 'ERROR');
      assert.match(execution.message ?? '', /paused/);
      assert.equal((await fixture.queue(one))?.waiting, 3);
      await fixture.changeInterface(one, { active: true });
      assert.equal((await fixture.run(schedule)).delivered, 3);
    });

    test('pausing stops an execution: calls that run end, others wait', async () => {
      const one = await fixture.createInterface({ concurrency: 2 });
      const schedule = await fixture.createSchedule(one);
      await fixture.close(5);
      fixture.callee.outcome = () => undefined;
      const running = fixture.run(schedule);
      await fixture.clock.advance(5);
      await fixture.changeInterface(one, { active: false, concurrency: 2 });
      fixture.callee.release();
      const execution = await running;
      assert.equal(execution.called, 2);
      assert.match(execution.message ?? '', /paused/);
      assert.equal((await fixture.queue(one))?.waiting, 3);
    });

    test('the URL, method and payload are those of the moment of the call', async () => {
      const one = await fixture.createInterface({ concurrency: 1 });
      const schedule = await fixture.createSchedule(one);
      await fixture.close(2);
      fixture.callee.outcome = (_request, number) => (number === 0 ? undefined : answered());
      const running = fixture.run(schedule);
      await fixture.clock.advance(5);
      await fixture.changeInterface(one, {
        concurrency: 1,
        url: 'https://crm.example/new',
        method: 'POST',
        payload: '{"id":${orderId}}',
      });
      fixture.callee.release();
      await running;
      assert.deepEqual(fixture.callee.calls, [
        { method: 'GET', url: 'https://crm.example/1' },
        { method: 'POST', url: 'https://crm.example/new', body: '{"id":2}' },
      ]);
      const logged = await fixture.calls(one);
      assert.deepEqual(
        logged.map(({ request }) => request),
        [...fixture.callee.calls].reverse(),
      );
    });
  });

  describe('filters', () => {
    const FILTER = { filter: 'OrderDetailsData.OrderType=SALE' };

    test('filtered-out orders leave the queue, are counted, and do not count toward the batch size', async () => {
      const one = await fixture.createInterface(FILTER);
      const schedule = await fixture.createSchedule(one, { batchSize: 2 });
      await fixture.close([1, 2, 3], ',"orderType":"REFUND_CLIENT"');
      await fixture.close([4, 5, 6], ',"orderType":"SALE"');
      const execution = await fixture.run(schedule);
      assert.deepEqual(
        [execution.looked, execution.filteredOut, execution.called, execution.status],
        [5, 3, 2, 'OK'],
      );
      assert.deepEqual(fixture.callee.orderIds, ['4', '5']);
      assert.equal((await fixture.queue(one))?.waiting, 1);
    });

    test('the filter reads the order as it is when its turn comes', async () => {
      const one = await fixture.createInterface(FILTER);
      const schedule = await fixture.createSchedule(one);
      await fixture.close([1], ',"orderType":"REFUND_CLIENT"');
      await fixture.close([1], ',"orderType":"SALE"');
      await fixture.run(schedule);
      assert.deepEqual(fixture.callee.orderIds, ['1']);
    });

    test('a changed filter holds from the next execution on', async () => {
      const one = await fixture.createInterface({ ...FILTER, concurrency: 1 });
      const schedule = await fixture.createSchedule(one, { batchSize: 2 });
      await fixture.close([1, 2], ',"orderType":"SALE"');
      await fixture.close([3], ',"orderType":"RENEWAL"');
      fixture.callee.outcome = () => undefined;
      const running = fixture.run(schedule);
      await fixture.clock.advance(5);
      await fixture.changeInterface(one, { concurrency: 1, filter: 'OrderDetailsData.OrderType=RENEWAL' });
      fixture.callee.outcome = () => answered();
      fixture.callee.release();
      await running;
      await fixture.run(schedule);
      assert.deepEqual(fixture.callee.orderIds, ['1', '2', '3']);
    });

    test('an execution looks at no more than 50,000 closings', async () => {
      const one = await fixture.createInterface(FILTER);
      const schedule = await fixture.createSchedule(one);
      await fixture.close(50_010);
      const execution = await fixture.run(schedule);
      assert.equal(execution.looked, 50_000);
      assert.equal(execution.filteredOut, 50_000);
      assert.equal((await fixture.queue(one))?.waiting, 10);
    });
  });

  describe('a schedule with a frequency', () => {
    test('it runs at once, then every so many minutes', async () => {
      const one = await fixture.createInterface();
      await fixture.close(3);
      const schedule = await fixture.createSchedule(one, {
        launch: 'AUTOMATIC',
        frequencyMinutes: 15,
        batchSize: 2,
      });
      await fixture.clock.advance(100);
      assert.deepEqual(fixture.callee.orderIds, ['1', '2']);
      await fixture.clock.advance(15 * MINUTE - 200);
      assert.equal(fixture.callee.calls.length, 2);
      await fixture.clock.advance(300);
      assert.deepEqual(fixture.callee.orderIds, ['1', '2', '3']);
      assert.equal((await fixture.executions(schedule)).length, 2);
    });

    test('it runs within its start and end only', async () => {
      const one = await fixture.createInterface();
      const now = fixture.clock.now();
      const schedule = await fixture.createSchedule(one, {
        launch: 'AUTOMATIC',
        frequencyMinutes: 1,
        start: now + 10 * MINUTE,
        end: now + 12 * MINUTE,
        batchSize: 1,
      });
      await fixture.close(5);
      await fixture.clock.advance(9 * MINUTE);
      assert.equal((await fixture.executions(schedule)).length, 0);
      await fixture.clock.advance(30 * MINUTE);
      assert.deepEqual(
        (await fixture.executions(schedule)).map(({ startedAt }) => (startedAt - now) / MINUTE),
        [11, 10],
      );
    });

    test('after a stop it runs once, not once per missed time, and then at its usual times again', async () => {
      const one = await fixture.createInterface();
      const createdAt = fixture.clock.now();
      await fixture.close(60);
      const schedule = await fixture.createSchedule(one, {
        launch: 'AUTOMATIC',
        frequencyMinutes: 15,
        batchSize: 1,
      });
      await fixture.clock.advance(10 * MINUTE);
      await fixture.engine.stop();
      fixture.clock.jump(61 * MINUTE);
      await fixture.restart();
      await fixture.clock.advance(20 * MINUTE);
      const minutes = (await fixture.executions(schedule)).map(({ startedAt }) =>
        Math.floor((startedAt - createdAt) / MINUTE),
      );
      assert.deepEqual(minutes.reverse(), [0, 71, 75, 90]);
    });

    test('a clock set forward or back an hour makes it neither stall nor burst', async () => {
      const one = await fixture.createInterface();
      await fixture.close(60);
      const schedule = await fixture.createSchedule(one, {
        launch: 'AUTOMATIC',
        frequencyMinutes: 1,
        batchSize: 1,
      });
      await fixture.clock.advance(100);
      for (const jump of [60 * MINUTE, -60 * MINUTE]) {
        const before = (await fixture.executions(schedule)).length;
        fixture.clock.jump(jump);
        await fixture.clock.advance(3 * MINUTE);
        const made = (await fixture.executions(schedule)).length - before;
        assert.ok(
          made >= 2 && made <= 4,
          `${made} executions in 3 minutes after a jump of ${jump / MINUTE} minutes`,
        );
      }
    });

    test('a run that found nothing leaves no row; the schedule knows when it ran, and how', async () => {
      const one = await fixture.createInterface();
      const startedAt = fixture.clock.now();
      const schedule = await fixture.createSchedule(one, { launch: 'AUTOMATIC', frequencyMinutes: 1 });
      await fixture.clock.advance(10 * MINUTE + 100);
      assert.deepEqual(await fixture.executions(schedule), []);
      const known = await fixture.store.scheduleById(fixture.institution.id, schedule.id);
      assert.equal(known?.lastRunAt, startedAt + 10 * MINUTE);
      assert.equal(known.lastStatus, 'OK');
      const manual = await fixture.createSchedule(one);
      assert.equal((await fixture.run(manual)).looked, 0, 'a run by hand has its row: somebody asked for it');
    });

    test('a short outage uses up no attempts of a frequent schedule', async () => {
      const one = await fixture.createInterface();
      await fixture.close(17);
      await fixture.createSchedule(one, { launch: 'AUTOMATIC', frequencyMinutes: 1 });
      fixture.callee.outcome = () => answered(503);
      await fixture.clock.advance(12 * MINUTE);
      fixture.callee.outcome = () => answered();
      await fixture.clock.advance(60 * MINUTE);
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 0 });
      const most = Math.max(...(await fixture.calls(one)).map(({ attempt }) => attempt));
      assert.ok(most < 12, `attempt ${most}`);
    });

    test('an interface may have fewer attempts, or more', async () => {
      const few = await fixture.createInterface({ attemptsMax: 2 });
      const many = await fixture.createInterface({
        attemptsMax: 15,
        url: 'https://crm.example/many/${orderId}',
      });
      for (const one of [few, many]) await fixture.createSchedule(one, CONTINUOUS);
      fixture.callee.outcome = () => answered(500);
      await fixture.close(1);
      await fixture.clock.advance(MINUTE);
      assert.equal((await fixture.queue(few))?.abandoned, 1);
      await fixture.clock.advance(12 * 60 * MINUTE);
      assert.equal((await fixture.queue(many))?.abandoned, 1);
      const ofMany = await fixture.calls(many);
      assert.deepEqual([ofMany.length, ofMany[0]?.attempt, ofMany[0]?.outcome], [15, 15, 'ABANDONED']);
      const lastWait = (ofMany[0]?.startedAt ?? 0) - (ofMany[1]?.startedAt ?? 0);
      assert.ok(
        Math.abs(lastWait - 60 * MINUTE) < MINUTE,
        `from the eleventh on an hour, not ${lastWait} ms`,
      );
    });

    test('a failed call says when the next attempt is', async () => {
      const one = await fixture.createInterface();
      await fixture.close(1);
      fixture.callee.outcome = () => answered(500);
      await fixture.createSchedule(one, { launch: 'AUTOMATIC', frequencyMinutes: 15 });
      const startedAt = fixture.clock.now();
      await fixture.clock.advance(100);
      assert.equal((await fixture.calls(one))[0]?.nextAttemptAt, startedAt + 15 * MINUTE);
    });
  });

  describe('a continuous schedule', () => {
    test('10,000 closings are each called once, in order of closing, with outcomes on record', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one, CONTINUOUS);
      assert.ok(isContinuous(schedule));
      await fixture.close(10_000);
      while ((await fixture.queue(one))?.waiting) await fixture.clock.advance(25);
      assert.deepEqual(
        fixture.callee.orderIds,
        Array.from({ length: 10_000 }, (_, index) => String(index + 1)),
      );
      const executions = await fixture.executions(schedule);
      assert.ok(executions.every(({ called }) => called <= 60));
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 0 });
    });

    test('orders are called as they close, and nothing runs while there are none', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one, CONTINUOUS);
      await fixture.close([7]);
      assert.deepEqual(fixture.callee.orderIds, ['7']);
      await fixture.clock.advance(MINUTE);
      const made = (await fixture.executions(schedule)).length;
      await fixture.clock.advance(60 * MINUTE);
      assert.equal((await fixture.executions(schedule)).length, made);
      await fixture.close([8]);
      assert.deepEqual(fixture.callee.orderIds, ['7', '8']);
    });

    test('an owed order is due after 10 s, 30 s, 1, 2, 5, 10, 20, 30, 60, 60, 60 minutes, then abandoned', async () => {
      const one = await fixture.createInterface();
      await fixture.createSchedule(one, CONTINUOUS);
      fixture.callee.outcome = () => answered(503);
      await fixture.close([1]);
      await fixture.clock.advance(7 * 60 * MINUTE);
      const calls = [...(await fixture.calls(one))].reverse();
      const waits = calls.slice(1).map(({ startedAt }, index) => startedAt - (calls[index]?.startedAt ?? 0));
      const expected = [10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 3600, 3600].map(
        (seconds) => seconds * SECOND,
      );
      assert.equal(waits.length, expected.length);
      for (const [index, wait] of waits.entries()) {
        const due = expected[index] as number;
        assert.ok(wait >= due && wait <= due + SECOND, `wait ${index + 1}: ${wait} ms, expected ${due}`);
      }
      assert.equal(calls.at(-1)?.outcome, 'ABANDONED');
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 1 });
    });

    test('a later order never waits for an owed one', async () => {
      const one = await fixture.createInterface();
      await fixture.createSchedule(one, CONTINUOUS);
      fixture.callee.outcome = ({ url }) => (url.endsWith('/1') ? answered(500) : answered());
      await fixture.close([1]);
      await fixture.close([2, 3]);
      assert.deepEqual(fixture.callee.orderIds, ['1', '2', '3']);
    });

    test('one that does not answer is left alone for 5 s, then twice as long each time up to 5 minutes, until it answers', async () => {
      const one = await fixture.createInterface({ concurrency: 1 });
      const schedule = await fixture.createSchedule(one, CONTINUOUS);
      fixture.callee.outcome = () => unanswered();
      await fixture.close(1_000);
      await fixture.clock.advance(30 * MINUTE);
      const starts = (await fixture.executions(schedule)).map(({ startedAt }) => startedAt).reverse();
      const gaps = starts.slice(1).map((at, index) => Math.round((at - (starts[index] ?? 0)) / SECOND));
      assert.deepEqual(gaps.slice(0, 9), [5, 10, 20, 40, 80, 160, 300, 300, 300]);
      const executions = await fixture.executions(schedule);
      assert.ok(executions.every(({ status }) => status === 'ERROR'));
      assert.equal(executions.at(-1)?.called, 10);
      // Owed orders that are due are called in turn with new ones, and do not count while new ones wait.
      assert.ok(executions.every(({ called }) => called >= 10 && called <= 20));
      fixture.callee.outcome = () => answered();
      await fixture.clock.advance(6 * MINUTE);
      assert.equal((await fixture.queue(one))?.waiting, 0);
    });

    test('a closed proxy opening loses nothing, and all goes on at once when it is opened', async () => {
      const one = await fixture.createInterface({ destination: 'other.example:443' });
      await fixture.createSchedule(one, CONTINUOUS);
      await fixture.close(3);
      await fixture.clock.advance(MINUTE);
      assert.equal(fixture.callee.calls.length, 0);
      await fixture.openDestination('other.example:443');
      await fixture.clock.advance(10);
      assert.deepEqual(fixture.callee.orderIds, ['1', '2', '3']);
    });
  });

  describe('a callee that asks to be left alone', () => {
    test('Retry-After on 429 and 503, in seconds or as a date, holds the interface back, an hour at most', async () => {
      const one = await fixture.createInterface({ concurrency: 1 });
      const schedule = await fixture.createSchedule(one, CONTINUOUS);
      const date = new Date(fixture.clock.now() + 90 * SECOND).toUTCString();
      for (const [status, header, waitMs] of [
        [429, '120', 120 * SECOND],
        [503, date, 90 * SECOND],
        [503, '86400', 60 * MINUTE],
      ] as const) {
        const at = fixture.clock.now();
        const before = fixture.callee.calls.length;
        const retryAfter = header === date ? new Date(at + 90 * SECOND).toUTCString() : header;
        fixture.callee.outcome = () => answered(status, { 'retry-after': retryAfter });
        await fixture.close([before + 1_000, before + 1_001]);
        await fixture.clock.advance(50);
        assert.equal(fixture.callee.calls.length, before + 1, 'the second call waits');
        const heldUntil = (await fixture.queue(one))?.heldUntil as number;
        assert.ok(Math.abs(heldUntil - at - waitMs) <= SECOND, `${heldUntil - at} instead of ${waitMs}`);
        fixture.callee.outcome = () => answered();
        await fixture.clock.advance(waitMs - 5 * SECOND);
        assert.equal(fixture.callee.calls.length, before + 1);
        await fixture.clock.advance(10 * SECOND);
        assert.ok(fixture.callee.calls.length >= before + 3, 'both were called when the time was over');
      }
      const manual = await fixture.createSchedule(one);
      fixture.callee.outcome = () => answered(429, { 'retry-after': '60' });
      await fixture.close([5_000]);
      await fixture.clock.advance(50);
      const refused = await fixture.run(manual);
      assert.equal(refused.status, 'ERROR');
      assert.match(refused.message ?? '', /asked to be left alone until/);
      assert.ok((await fixture.executions(schedule)).length > 0);
    });

    test('other answers hold nothing back', async () => {
      const one = await fixture.createInterface();
      await fixture.createSchedule(one, CONTINUOUS);
      fixture.callee.outcome = () => answered(500, { 'retry-after': '120' });
      await fixture.close(3);
      await fixture.clock.advance(50);
      assert.equal(fixture.callee.calls.length, 3);
      assert.equal((await fixture.queue(one))?.heldUntil, undefined);
    });
  });

  describe('the stop rule', () => {
    test('10 calls in a row that fail before any answer stop the execution; what was not called is left as it was', async () => {
      const one = await fixture.createInterface({ concurrency: 1 });
      const schedule = await fixture.createSchedule(one);
      const closedAt = fixture.clock.now();
      await fixture.close(60);
      fixture.callee.outcome = (_request, number) =>
        number < 5 ? answered() : unanswered('timeout_connect');
      const execution = await fixture.run(schedule);
      assert.equal(execution.status, 'ERROR');
      assert.deepEqual([execution.called, execution.delivered, execution.failed], [15, 5, 10]);
      assert.deepEqual(await fixture.queue(one), {
        waiting: 45,
        owed: 10,
        abandoned: 0,
        oldestWaitingAt: closedAt,
      });
      fixture.callee.outcome = () => answered();
      assert.equal((await fixture.run(schedule)).delivered, 55);
    });

    test('an answer in between begins the count anew', async () => {
      const one = await fixture.createInterface({ concurrency: 1 });
      const schedule = await fixture.createSchedule(one);
      await fixture.close(40);
      fixture.callee.outcome = (_request, number) => (number % 10 === 9 ? answered() : unanswered());
      const execution = await fixture.run(schedule);
      assert.deepEqual([execution.called, execution.failed, execution.status], [40, 36, 'WARNING']);
    });

    test('answers that are not 2xx do not stop it', async () => {
      const one = await fixture.createInterface({ concurrency: 1 });
      const schedule = await fixture.createSchedule(one);
      await fixture.close(30);
      fixture.callee.outcome = () => answered(500);
      assert.equal((await fixture.run(schedule)).called, 30);
    });

    test("the egress proxy's refusal costs the order no attempt", async () => {
      const one = await fixture.createInterface({ concurrency: 1 });
      const schedule = await fixture.createSchedule(one);
      await fixture.close([1]);
      fixture.callee.outcome = () => unanswered('proxy');
      for (let run = 0; run < 15; run += 1) await fixture.run(schedule);
      assert.deepEqual((await fixture.queue(one))?.owed, 1);
      fixture.callee.outcome = () => answered();
      await fixture.run(schedule);
      assert.equal((await fixture.calls(one))[0]?.attempt, 1);
    });
  });

  describe('simulation', () => {
    test('everything happens but the request', async () => {
      const one = await fixture.createInterface({ simulation: true });
      const schedule = await fixture.createSchedule(one, { batchSize: 2 });
      await fixture.close(3);
      const execution = await fixture.run(schedule);
      assert.equal(execution.called, 2);
      assert.equal(execution.status, 'OK');
      assert.equal(fixture.callee.calls.length, 0);
      const [last] = await fixture.calls(one);
      assert.equal(last?.outcome, 'SIMULATED');
      assert.deepEqual(last.request, { method: 'GET', url: 'https://crm.example/2' });
      assert.equal((await fixture.queue(one))?.waiting, 1);
    });
  });

  describe('resends', () => {
    async function resend(
      one: Awaited<ReturnType<EngineFixture['createInterface']>>,
      selection: ResendSelection,
    ) {
      const { store, clock, institution } = fixture;
      const requested = await store.requestResend(institution.id, one.id, selection, clock.now());
      return requested?.execution.id as number;
    }
    async function ended(id: number) {
      for (let tries = 0; tries < 2_000; tries += 1) {
        await fixture.clock.advance(1);
        const execution = await fixture.store.executionById(fixture.institution.id, id);
        if (execution && execution.status !== 'RUNNING') return execution;
      }
      throw new Error('The resend did not end.');
    }

    test('chosen orders are sent again, and the queue stays where it is', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one);
      await fixture.close(5);
      await fixture.run(schedule);
      await fixture.close([6]);
      fixture.callee.calls.length = 0;
      const execution = await ended(await resend(one, { kind: 'orders', orderIds: ['4', '2'] }));
      assert.deepEqual(fixture.callee.orderIds, ['2', '4']);
      assert.deepEqual([execution.trigger, execution.delivered, execution.status], ['RESEND', 2, 'OK']);
      assert.equal((await fixture.queue(one))?.waiting, 1);
      assert.equal((await fixture.calls(one))[0]?.trigger, 'RESEND');
    });

    test('abandoned deliveries leave their list when they are sent again; one that fails again is owed', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one);
      await fixture.close(3);
      fixture.callee.outcome = () => answered(500);
      for (let run = 0; run < 12; run += 1) await fixture.run(schedule);
      assert.equal((await fixture.queue(one))?.abandoned, 3);
      fixture.callee.outcome = ({ url }) => (url.endsWith('/2') ? answered(500) : answered());
      const execution = await ended(await resend(one, { kind: 'abandoned' }));
      assert.deepEqual([execution.delivered, execution.failed], [2, 1]);
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 1, abandoned: 0 });
      fixture.callee.outcome = () => answered();
      await fixture.run(schedule);
      assert.deepEqual(await fixture.queue(one), { waiting: 0, owed: 0, abandoned: 0 });
      assert.equal((await fixture.calls(one))[0]?.attempt, 2);
    });

    test('what is owed is called now, however long it has to wait, and counts like any other attempt', async () => {
      const one = await fixture.createInterface();
      const schedule = await fixture.createSchedule(one);
      await fixture.close(3);
      fixture.callee.outcome = () => answered(500);
      await fixture.run(schedule);
      fixture.callee.calls.length = 0;
      fixture.callee.outcome = ({ url }) => (url.endsWith('/2') ? answered(500) : answered());
      const execution = await ended(await resend(one, { kind: 'owed' }));
      assert.deepEqual(fixture.callee.orderIds, ['1', '2', '3']);
      assert.deepEqual([execution.delivered, execution.failed], [2, 1]);
      assert.equal((await fixture.queue(one))?.owed, 1);
      const last = (await fixture.calls(one)).find(({ outcome }) => outcome === 'FAILED');
      assert.equal(last?.attempt, 2);
    });

    test('a time span is sent again through the filter, in slices between which the queue has its turn', async () => {
      const one = await fixture.createInterface({ filter: 'OrderDetailsData.OrderType=SALE' });
      await fixture.createSchedule(one, { ...CONTINUOUS, batchSize: 500 });
      const from = fixture.clock.now();
      const sales = Array.from({ length: 1_200 }, (_, index) => 1_000 + index);
      await fixture.close(sales, ',"orderType":"SALE"');
      await fixture.close([1, 2], ',"orderType":"RENEWAL"');
      while ((await fixture.queue(one))?.waiting) await fixture.clock.advance(25);
      fixture.callee.calls.length = 0;
      let arrived = false;
      fixture.callee.outcome = (_request, number) => {
        if (number === 10 && !arrived) {
          arrived = true;
          void fixture.store.putOrders(
            [
              {
                institutionId: fixture.institution.id,
                orderId: '9',
                orderState: 'CLOSED',
                details: '{"orderId":9,"orderState":"CLOSED","orderType":"SALE"}',
              },
            ],
            fixture.clock.now(),
          );
        }
        return answered();
      };
      const execution = await ended(
        await resend(one, { kind: 'closed_between', from, to: fixture.clock.now() + 1 }),
      );
      assert.deepEqual([execution.looked, execution.filteredOut, execution.delivered], [1_202, 2, 1_200]);
      const place = fixture.callee.orderIds.indexOf('9');
      assert.ok(place > 10 && place < 1_100, `the new closing was call ${place}`);
      assert.equal(new Set(fixture.callee.orderIds).size, 1_201);
    });

    test('it goes on after a restart where it was, and ends when it is cancelled', async () => {
      const one = await fixture.createInterface({ concurrency: 2 });
      const schedule = await fixture.createSchedule(one, { batchSize: 10_000 });
      await fixture.close(1_000);
      await fixture.run(schedule);
      fixture.callee.calls.length = 0;
      fixture.callee.outcome = (_request, number) => (number < 100 ? answered() : undefined);
      const id = await resend(one, { kind: 'closed_between', from: 0, to: Number.MAX_SAFE_INTEGER });
      await fixture.until(() => fixture.callee.calls.length === 102);
      const stopped = fixture.restart();
      await fixture.clock.advance(1);
      fixture.callee.outcome = (_request, number) => (number < 600 ? answered() : undefined);
      fixture.callee.release();
      await stopped;
      await fixture.until(() => fixture.callee.calls.length === 602);
      assert.deepEqual(
        fixture.callee.orderIds,
        Array.from({ length: 602 }, (_, index) => String(index + 1)),
      );
      assert.equal(await fixture.store.cancelResend(fixture.institution.id, id), true);
      await fixture.clock.advance(1);
      fixture.callee.outcome = () => answered();
      fixture.callee.release();
      const execution = await ended(id);
      assert.match(execution.message ?? '', /cancelled/);
      assert.ok(execution.called < 1_000, `${execution.called}`);
      assert.equal(execution.called, fixture.callee.calls.length);
      assert.deepEqual((await fixture.queue(one))?.owed, 0);
    });
  });

  describe('many interfaces', () => {
    test('one whose callee never answers delays no other', async () => {
      const dead = await fixture.createInterface({
        url: 'https://crm.example/dead/${orderId}',
        concurrency: 64,
      });
      const alive = await fixture.createInterface();
      await fixture.createSchedule(dead, CONTINUOUS);
      await fixture.createSchedule(alive, CONTINUOUS);
      fixture.callee.outcome = ({ url }) => (url.includes('/dead/') ? undefined : answered());
      await fixture.close(300);
      await fixture.until(
        () => fixture.callee.calls.filter(({ url }) => !url.includes('/dead/')).length === 300,
      );
      await fixture.clock.advance(50);
      assert.equal((await fixture.queue(alive))?.waiting, 0);
      assert.equal((await fixture.queue(dead))?.waiting, 300);
      fixture.callee.outcome = () => answered();
      fixture.callee.release();
    });

    test('a proxy opening that is revoked stops what runs, loses nothing, and all goes on when it is opened again', async () => {
      const one = await fixture.createInterface({ destination: 'other.example:443', concurrency: 2 });
      const opening = await fixture.openDestination('other.example:443');
      const schedule = await fixture.createSchedule(one);
      await fixture.close(6);
      fixture.callee.outcome = () => undefined;
      const running = fixture.run(schedule);
      await fixture.until(() => fixture.callee.running === 2);
      const decision = { allowPrivate: false, decidedBy: 'test', decidedAt: fixture.clock.now() };
      await fixture.store.decideOpening(fixture.institution.id, opening, 'revoke', decision);
      await fixture.clock.advance(1);
      fixture.callee.outcome = () => answered();
      fixture.callee.release();
      const execution = await running;
      assert.deepEqual([execution.status, execution.called], ['ERROR', 2]);
      assert.match(execution.message ?? '', /no open proxy opening/);
      assert.equal((await fixture.queue(one))?.waiting, 4);
      await fixture.openDestination('other.example:443');
      assert.equal((await fixture.run(schedule)).delivered, 4);
      assert.deepEqual(fixture.callee.orderIds, ['1', '2', '3', '4', '5', '6']);
    });
  });

  describe('restarts', () => {
    test('a stop lets running calls end and repeats none of them', async () => {
      const one = await fixture.createInterface({ concurrency: 4 });
      await fixture.createSchedule(one, CONTINUOUS);
      fixture.callee.outcome = () => undefined;
      await fixture.close(10);
      assert.equal(fixture.callee.calls.length, 4);
      const stopped = fixture.restart();
      await fixture.clock.advance(1);
      fixture.callee.outcome = () => answered();
      fixture.callee.release();
      await stopped;
      await fixture.clock.advance(100);
      assert.deepEqual(
        fixture.callee.orderIds,
        Array.from({ length: 10 }, (_, index) => String(index + 1)),
      );
    });

    test('on a busy machine, whose timers are late, no call starts while an outcome is not committed for too long', async () => {
      const one = await fixture.createInterface({ concurrency: 2 });
      await fixture.createSchedule(one, { launch: 'AUTOMATIC', frequencyMinutes: 0 });
      fixture.callee.outcome = () => undefined;
      await fixture.close(8);
      fixture.callee.release();
      assert.equal(fixture.callee.calls.length, 4, 'two have ended, two more have begun');
      fixture.clock.jump(60);
      fixture.callee.release();
      assert.equal(fixture.callee.calls.length, 4);
      await fixture.clock.advance(30);
      assert.equal(fixture.callee.calls.length, 6, 'after the commit');
      fixture.callee.outcome = () => answered();
      fixture.callee.release();
      await fixture.until(() => fixture.callee.calls.length === 8);
    });

    test('an interface of one institution hears nothing of the orders of another', async () => {
      const one = await fixture.createInterface();
      await fixture.createSchedule(one, CONTINUOUS);
      const other = await fixture.store.createInstitution({
        code: 'OTHER',
        name: 'x',
        timeZone: 'UTC',
        createdAt: 0,
      });
      const details = '{"orderId":1,"orderState":"CLOSED"}';
      await fixture.store.putOrders(
        [{ institutionId: other.id, orderId: '1', orderState: 'CLOSED', details }],
        0,
      );
      await fixture.clock.advance(MINUTE);
      assert.deepEqual(fixture.callee.orderIds, []);
    });
  });
});
