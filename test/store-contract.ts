/** What every store must do. `storeContract` is called by one test file per database. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { AppError } from '../src/model/app-error.ts';
import type { Attempt, Closing, LoggedAttempt } from '../src/model/delivery.ts';
import type { Execution, ExternalInterface, Institution, InterfaceSettings } from '../src/model/entities.ts';
import { readOrderDetails } from '../src/model/order.ts';
import type { FailureReason } from '../src/model/outcome.ts';
import {
  type Change,
  type EngineInterface,
  ORDER_PASS_EVERY_MS,
  type Position,
  type Progress,
  type RequestedResend,
  type Store,
} from '../src/store/store.ts';
import { until } from './support/until.ts';

export type OpenStore = () => Promise<{
  store: Store;
  /** Makes the store believe that an earlier version wrote all that is there. */
  pretendEarlierVersion(): Promise<void>;
  close(): Promise<void>;
}>;

const NOW = Date.UTC(2026, 0, 5, 9);
const LARGE_ID = '9223372036854775807';
const NODE = 'node-1';
const LEASE_MS = 60_000;
const DAY_MS = 24 * 60 * 60 * 1_000;

export const INTERFACE: InterfaceSettings & { destination: string } = {
  name: 'CRM',
  url: 'https://crm.example/${orderId}',
  method: 'GET',
  granularity: 'TICKETS',
  concurrency: 8,
  attemptsMax: 12,
  simulation: false,
  active: true,
  destination: 'crm.example:443',
};

export function orderText(orderId: string | number, orderState = 'CLOSED', more = ''): string {
  return `{"orderId":${orderId},"orderState":"${orderState}"${more}}`;
}

function isCode(code: string) {
  return (error: unknown) => error instanceof AppError && error.code === code;
}

export function storeContract(name: string, open: OpenStore): void {
  describe(name, () => {
    let store: Store;
    let close: () => Promise<void>;
    let pretendEarlierVersion: () => Promise<void>;
    let venue: Institution;
    let changes: Change[];

    beforeEach(async () => {
      ({ store, close, pretendEarlierVersion } = await open());
      venue = await store.createInstitution({
        code: 'VENUE',
        name: 'Venue',
        timeZone: 'UTC',
        createdAt: NOW,
      });
      changes = [];
      store.subscribe((change) => changes.push(change));
    });
    afterEach(() => close());

    async function put(...texts: string[]) {
      const puts = texts.map((text) => ({ ...readOrderDetails(text), institutionId: venue.id }));
      return store.putOrders(puts, NOW);
    }
    async function createInterface(more: Partial<typeof INTERFACE> = {}): Promise<ExternalInterface> {
      return store.createInterface(venue.id, { ...INTERFACE, ...more }, NOW);
    }
    async function cursorOf(one: ExternalInterface): Promise<Position> {
      return (await store.engineInterface(venue.id, one.id))?.cursor as Position;
    }
    async function waiting(one: ExternalInterface) {
      return store.waiting(venue.id, await cursorOf(one), { limit: 100, withDetails: false });
    }
    function progress(
      one: ExternalInterface,
      more: Partial<Omit<Progress, 'fence'>> = {},
    ): Omit<Progress, 'fence'> {
      return {
        institutionId: venue.id,
        interfaceId: one.id,
        settled: [],
        owed: [],
        resent: [],
        abandoned: [],
        attempts: [],
        executions: [],
        ...more,
      };
    }
    /** Commits as the node that holds all interfaces. */
    async function commit(...all: Omit<Progress, 'fence'>[]): Promise<void> {
      const { held } = await store.holdLeases(NODE, LEASE_MS);
      const fenceOf = (id: number) => held.find(({ interfaceId }) => interfaceId === id)?.fence ?? 0;
      const lost = await store.commitProgress(
        all.map((one) => ({ ...one, fence: fenceOf(one.interfaceId) })),
        NODE,
      );
      assert.deepEqual(lost, []);
    }
    /** The queue looks at all that waits, and calls nothing. */
    async function passAll(one: ExternalInterface): Promise<void> {
      const seen = await waiting(one);
      await commit(progress(one, { cursor: seen.at(-1)?.position as Position }));
    }
    async function templateOf(one: ExternalInterface): Promise<number> {
      const { method, url } = one;
      return store.callTemplateId(venue.id, one.id, { method, url, userAgent: 'Orderhook/0' });
    }
    function attempt(orderId: string, more: Partial<Attempt> = {}): Attempt {
      return {
        orderId,
        closingId: 1,
        attempt: 1,
        trigger: 'AUTOMATIC',
        startedAt: NOW,
        durationMs: 12,
        outcome: 'DELIVERED',
        answer: { status: 200, headers: { 'x-a': '1' }, bodyStart: 'ok' },
        ...more,
      };
    }
    function execution(one: ExternalInterface, id: number, more: Partial<Execution> = {}): Execution {
      return {
        id,
        institutionId: venue.id,
        interfaceId: one.id,
        trigger: 'AUTOMATIC',
        startedAt: NOW,
        status: 'RUNNING',
        looked: 0,
        filteredOut: 0,
        called: 0,
        delivered: 0,
        failed: 0,
        abandoned: 0,
        ...more,
      };
    }

    describe('institutions', () => {
      test('an institution is found by its code and its id, and a code is given once', async () => {
        assert.deepEqual(await store.institutionByCode('VENUE'), venue);
        assert.deepEqual(await store.institutionById(venue.id), venue);
        assert.equal(await store.institutionByCode('OTHER'), undefined);
        const again = { code: 'VENUE', name: 'x', timeZone: 'UTC', createdAt: NOW };
        await assert.rejects(store.createInstitution(again), isCode('conflict'));
      });

      test('a list is given in pages, each from where the one before ended', async () => {
        for (const code of ['B', 'C', 'D']) {
          await store.createInstitution({ code, name: code, timeZone: 'UTC', createdAt: NOW });
        }
        const first = await store.institutions({ limit: 2 });
        assert.deepEqual(
          first.items.map(({ code }) => code),
          ['VENUE', 'B'],
        );
        const second = await store.institutions({ limit: 2, cursor: first.next as string });
        assert.deepEqual(
          second.items.map(({ code }) => code),
          ['C', 'D'],
        );
        assert.equal(second.next, undefined);
        await assert.rejects(store.institutions({ limit: 2, cursor: 'x' }), isCode('invalid_value'));
      });
    });

    describe('orders', () => {
      test('details are kept as they were given, ids above 2^53 too', async () => {
        const text = orderText(LARGE_ID, 'CLOSED', ', "amount": 1.50');
        await put(text);
        const order = await store.order(venue.id, LARGE_ID);
        assert.equal(order?.details, text);
        assert.equal(order?.orderId, LARGE_ID);
      });

      test('an order that closes records one closing; closing it again records none; a re-opened one records another', async () => {
        const [opened] = await put(orderText(1, 'OPEN'));
        assert.equal(opened?.closing, undefined);
        const [closed] = await put(orderText(1));
        assert.equal(closed?.closing?.orderId, '1');
        const [again] = await put(orderText(1));
        assert.equal(again?.closing, undefined);
        await put(orderText(1, 'OPEN'));
        const [reclosed] = await put(orderText(1));
        assert.ok((reclosed?.closing?.closingId ?? 0) > (closed?.closing?.closingId ?? 0));
        const closings = await store.closingsOf(venue.id, '1', 10);
        assert.deepEqual(
          closings.map(({ closingId }) => closingId),
          [reclosed?.closing?.closingId, closed?.closing?.closingId],
        );
      });

      test('the same order twice in one commit closes once', async () => {
        const stored = await put(orderText(5), orderText(5), orderText(6));
        assert.deepEqual(
          stored.map(({ closing }) => closing !== undefined),
          [true, false, true],
        );
      });

      test('close sets the state and says when it was closed already', async () => {
        await put(orderText(LARGE_ID, 'OPEN', ',"n":12345678901234567890'));
        const first = await store.closeOrder(venue.id, LARGE_ID, NOW + 1);
        assert.equal(first?.alreadyClosed, false);
        const order = await store.order(venue.id, LARGE_ID);
        assert.equal(order?.orderState, 'CLOSED');
        assert.equal(
          order?.details,
          `{"orderId":${LARGE_ID},"orderState":"CLOSED","n":12345678901234567890}`,
        );
        const second = await store.closeOrder(venue.id, LARGE_ID, NOW + 2);
        assert.deepEqual(second, { closing: first?.closing, alreadyClosed: true });
        assert.equal(await store.closeOrder(venue.id, '77', NOW), undefined);
      });

      test('orders are listed by id, greatest first, by state, by id, and in pages', async () => {
        await put(orderText(1), orderText(3, 'OPEN'), orderText(LARGE_ID), orderText(2));
        const ids = async (query: Parameters<Store['orders']>[1]) =>
          (await store.orders(venue.id, query)).items.map(({ orderId }) => orderId);
        assert.deepEqual(await ids({ limit: 9 }), [LARGE_ID, '3', '2', '1']);
        assert.deepEqual(await ids({ limit: 9, state: 'OPEN' }), ['3']);
        assert.deepEqual(await ids({ limit: 9, orderId: '2' }), ['2']);
        assert.deepEqual(await ids({ limit: 9, orderId: '2', state: 'OPEN' }), []);
        const first = await store.orders(venue.id, { limit: 1, state: 'CLOSED' });
        assert.deepEqual(first.next, LARGE_ID);
        assert.deepEqual(await ids({ limit: 1, state: 'CLOSED', cursor: first.next as string }), ['2']);
        assert.deepEqual(await ids({ limit: 2, cursor: '3' }), ['2', '1']);
      });

      test('a removed order has no details, and keeps its state, closings and deliveries', async () => {
        const one = await createInterface();
        await put(orderText(1, 'CLOSED', ',"name":"Zoë"'), orderText(2));
        const [first] = await waiting(one);
        await commit(progress(one, { cursor: first?.position as Position, attempts: [] }));
        const closings = await store.closingsOf(venue.id, '1', 9);
        const deliveries = await store.deliveriesOf(venue.id, closings);
        assert.equal(await store.removeOrder(venue.id, '1', NOW + 7), true);
        const removed = { orderId: '1', orderState: 'CLOSED', updatedAt: NOW, removedAt: NOW + 7 };
        assert.deepEqual(await store.order(venue.id, '1'), removed);
        assert.equal(await store.removeOrder(venue.id, '1', NOW + 9), true, 'again');
        assert.deepEqual(await store.order(venue.id, '1'), removed);
        assert.deepEqual(await store.closingsOf(venue.id, '1', 9), closings);
        assert.deepEqual(await store.deliveriesOf(venue.id, closings), deliveries);
        const { items } = await store.orders(venue.id, { limit: 9 });
        assert.deepEqual(
          items.map(({ orderId, removedAt }) => [orderId, removedAt]),
          [
            ['2', undefined],
            ['1', NOW + 7],
          ],
        );
        assert.equal((await store.order(venue.id, '2'))?.details, orderText(2));
        assert.equal(await store.removeOrder(venue.id, '77', NOW), false);
        const other = await store.createInstitution({ code: 'B', name: 'B', timeZone: 'UTC', createdAt: 0 });
        assert.equal(await store.removeOrder(other.id, '2', NOW), false);
        assert.equal((await store.order(venue.id, '2'))?.removedAt, undefined);
      });

      test('a removed order that is stored again has its new details, and closes only if it was not closed', async () => {
        await put(orderText(1), orderText(2, 'OPEN'));
        for (const id of ['1', '2']) await store.removeOrder(venue.id, id, NOW);
        assert.equal((await store.closeOrder(venue.id, '1', NOW))?.alreadyClosed, true);
        assert.equal(await store.closeOrder(venue.id, '2', NOW), undefined, 'there is nothing to close');
        const again = await put(orderText(1, 'CLOSED', ',"b":2'), orderText(2));
        assert.deepEqual(
          again.map(({ closing }) => closing !== undefined),
          [false, true],
        );
        const order = await store.order(venue.id, '1');
        assert.equal(order?.details, orderText(1, 'CLOSED', ',"b":2'));
        assert.equal(order?.removedAt, undefined);
        assert.equal((await store.closeOrder(venue.id, '1', NOW))?.alreadyClosed, true);
      });

      test('what waits or is owed of a removed order is read without details', async () => {
        const one = await createInterface();
        await put(orderText(1), orderText(2));
        const [first] = await waiting(one);
        const owed = [{ closingId: first?.closingId as number, orderId: '1', attempts: 1, dueAt: 0 }];
        await commit(progress(one, { cursor: first?.position as Position, owed }));
        for (const id of ['1', '2']) await store.removeOrder(venue.id, id, NOW);
        const seen = await store.waiting(venue.id, await cursorOf(one), { limit: 9, withDetails: true });
        const listed = await store.owed(venue.id, one.id, { limit: 9, withDetails: true });
        assert.deepEqual(
          [...seen, ...listed].map(({ orderId, details }) => [orderId, details]),
          [
            ['2', undefined],
            ['1', undefined],
          ],
        );
      });

      test('an order of another institution is unknown', async () => {
        await put(orderText(1));
        const other = await store.createInstitution({
          code: 'OTHER',
          name: 'x',
          timeZone: 'UTC',
          createdAt: NOW,
        });
        assert.equal(await store.order(other.id, '1'), undefined);
        assert.equal(await store.closeOrder(other.id, '1', NOW), undefined);
        assert.deepEqual((await store.orders(other.id, { limit: 9 })).items, []);
        assert.deepEqual(await store.closingsOf(other.id, '1', 9), []);
      });

      test('a commit with closings tells of them, one without does not', async () => {
        await put(orderText(1, 'OPEN'));
        assert.deepEqual(changes, []);
        await put(orderText(1));
        assert.deepEqual(changes, [{ kind: 'closings', institutionIds: [venue.id] }]);
      });
    });

    describe('the log and the cursor', () => {
      test('a new interface sees the closings after its creation, oldest first, with details when asked', async () => {
        await put(orderText(1));
        const one = await createInterface();
        await put(orderText(9), orderText(LARGE_ID), orderText(2));
        const seen = await waiting(one);
        assert.deepEqual(
          seen.map(({ orderId }) => orderId),
          ['9', LARGE_ID, '2'],
        );
        assert.equal(seen[0]?.details, undefined);
        const [first] = await store.waiting(venue.id, await cursorOf(one), { limit: 1, withDetails: true });
        assert.equal(first?.details, orderText(9));
        const rest = await store.waiting(venue.id, first?.position as Position, {
          limit: 9,
          withDetails: true,
        });
        assert.deepEqual(
          rest.map(({ orderId }) => orderId),
          [LARGE_ID, '2'],
        );
      });

      test('a read of large orders ends early, and the next goes on from there', async () => {
        const one = await createInterface();
        const filler = `,"filler":"${'x'.repeat(1_000_000)}"`;
        for (const id of [1, 2, 3, 4, 5, 6]) await put(orderText(id, 'CLOSED', filler));
        const found: string[] = [];
        for (let from = await cursorOf(one); ; ) {
          const page = await store.waiting(venue.id, from, { limit: 9, withDetails: true });
          assert.ok(page.length < 6, `${page.length}`);
          found.push(...page.map(({ orderId }) => orderId));
          const last = page[page.length - 1];
          if (!last) break;
          from = last.position;
        }
        assert.deepEqual(found, ['1', '2', '3', '4', '5', '6']);
      });

      test('progress moves the cursor, fills and empties the owed list, and the figures follow', async () => {
        const one = await createInterface();
        await put(orderText(1), orderText(2), orderText(3), orderText(4));
        const seen = await waiting(one);
        assert.deepEqual(await store.queueFigures(venue.id, one.id), {
          waiting: 4,
          owed: 0,
          abandoned: 0,
          oldestWaitingAt: NOW,
        });
        const [a, b, c] = seen.map(({ closingId, orderId }) => ({ closingId, orderId }));
        assert.ok(a && b && c);
        await commit(
          progress(one, {
            cursor: seen[2]?.position as Position,
            owed: [
              { ...a, attempts: 1, dueAt: 50 },
              { ...b, attempts: 0, dueAt: 0 },
            ],
            abandoned: [{ ...c, attempts: 12 }],
            heldUntil: NOW + 5,
          }),
        );
        assert.deepEqual(await store.queueFigures(venue.id, one.id), {
          waiting: 1,
          owed: 2,
          abandoned: 1,
          oldestWaitingAt: NOW,
          oldestOwedAt: NOW,
          heldUntil: NOW + 5,
        });
        const owed = await store.owed(venue.id, one.id, { limit: 9, withDetails: true });
        assert.deepEqual(owed, [
          { ...b, attempts: 0, dueAt: 0, details: orderText(2) },
          { ...a, attempts: 1, dueAt: 50, details: orderText(1) },
        ]);
        assert.equal(
          (await store.owed(venue.id, one.id, { limit: 9, withDetails: false, dueBy: 49 })).length,
          1,
        );
        const after = await store.owed(venue.id, one.id, {
          limit: 9,
          withDetails: false,
          after: { dueAt: 0, closingId: b.closingId },
        });
        assert.deepEqual(after, [{ ...a, attempts: 1, dueAt: 50 }]);

        await commit(
          progress(one, {
            settled: [b.closingId],
            owed: [{ ...a, attempts: 2, dueAt: 70 }],
            heldUntil: null,
          }),
        );
        assert.deepEqual(await store.queueFigures(venue.id, one.id), {
          waiting: 1,
          owed: 1,
          abandoned: 1,
          oldestWaitingAt: NOW,
          oldestOwedAt: NOW,
        });
        const engineView = await store.engineInterface(venue.id, one.id);
        assert.equal(engineView?.owed, 1);
        assert.equal(engineView?.owedDueAt, 70);
      });

      test('nothing holds the log back while nobody writes', async () => {
        await until('what the server does by itself is over', async () => (await store.horizonLagMs()) === 0);
      });

      test('a cursor never goes back', async () => {
        const one = await createInterface();
        await put(orderText(1), orderText(2));
        const seen = await waiting(one);
        await commit(progress(one, { cursor: seen[1]?.position as Position }));
        await commit(progress(one, { cursor: seen[0]?.position as Position }));
        assert.deepEqual(await waiting(one), []);
      });

      test('progress of an interface that was deleted keeps the call log and leaves no owed orders', async () => {
        const one = await createInterface();
        await put(orderText(1));
        const callTemplateId = await templateOf(one);
        assert.equal(await store.deleteInterface(venue.id, one.id, NOW), true);
        await commit(
          progress(one, {
            owed: [{ closingId: 1, orderId: '1', attempts: 1, dueAt: 0 }],
            attempts: [{ ...attempt('1', { outcome: 'FAILED', reason: 'refused' }), callTemplateId }],
          }),
        );
        assert.deepEqual(await store.owed(venue.id, one.id, { limit: 9, withDetails: false }), []);
        assert.equal((await store.calls(venue.id, one.id, { limit: 9 }))?.items.length, 1);
        assert.deepEqual(await store.engineInterfaces(), []);
        assert.equal(await store.interfaceById(venue.id, one.id), undefined);
        assert.equal(await store.queueFigures(venue.id, one.id), undefined);
        assert.equal(await store.deleteInterface(venue.id, one.id, NOW), false);
      });

      test('how far each interface is with a closing can be told', async () => {
        const early = await createInterface();
        await put(orderText(1), orderText(2), orderText(3), orderText(4), orderText(5), orderText(6));
        const late = await createInterface();
        const seen = await waiting(early);
        const callTemplateId = await templateOf(early);
        const pick = (index: number) => {
          const { closingId, orderId } = seen[index] as (typeof seen)[number];
          return { closingId, orderId };
        };
        const failed = (reason: FailureReason, detail?: string) =>
          ({ outcome: 'FAILED', reason, detail }) as const;
        await commit(
          progress(early, {
            cursor: seen[4]?.position as Position,
            owed: [{ ...pick(1), attempts: 3, dueAt: 99 }],
            abandoned: [{ ...pick(2), attempts: 12 }],
            attempts: [
              { ...attempt('1', { closingId: pick(0).closingId }), callTemplateId },
              { ...attempt('2', { closingId: pick(1).closingId, ...failed('dns', 'x') }), callTemplateId },
              { ...attempt('2', { closingId: pick(1).closingId, ...failed('status', 'y') }), callTemplateId },
              { ...attempt('3', { closingId: pick(2).closingId, ...failed('refused') }), callTemplateId },
              { ...attempt('4', { closingId: pick(3).closingId, outcome: 'SIMULATED' }), callTemplateId },
            ],
          }),
        );
        const states: unknown[] = [];
        const reasons: unknown[] = [];
        for (const id of ['1', '2', '3', '4', '5', '6']) {
          const closings = await store.closingsOf(venue.id, id, 1);
          const deliveries = await store.deliveriesOf(venue.id, closings);
          assert.ok(deliveries.every(({ interfaceId }) => interfaceId !== late.id));
          states.push(...deliveries.map(({ state, attempts }) => `${state} ${attempts}`));
          reasons.push(...deliveries.map(({ because }) => because));
        }
        assert.deepEqual(reasons, [undefined, 'status: y', 'refused', undefined, undefined, undefined]);
        assert.deepEqual(states, [
          'DELIVERED 1',
          'OWED 3',
          'ABANDONED 12',
          'SIMULATED 1',
          'FILTERED_OUT 0',
          'WAITING 0',
        ]);
      });
    });

    describe('interfaces, openings and schedules', () => {
      test('settings are kept, replaced as a whole, and seen by the engine with the open opening', async () => {
        const one = await createInterface({ payload: '{"id": ${orderId}}', method: 'POST', filter: 'a=1' });
        assert.deepEqual(await store.interfaceById(venue.id, one.id), one);
        const changed = await store.updateInterface(
          venue.id,
          one.id,
          () => ({ ...INTERFACE, active: false }),
          NOW + 1,
        );
        assert.equal(changed?.payload, undefined);
        assert.equal(changed?.filter, undefined);
        assert.equal(changed?.active, false);
        assert.equal(changed?.createdAt, NOW);
        assert.equal(changed?.updatedAt, NOW + 1);
        assert.equal((await store.engineInterface(venue.id, one.id))?.opening, undefined);

        const asked = { destination: INTERFACE.destination, requestedAt: NOW, requestedBy: 'Ann' };
        const opening = await store.requestOpening(venue.id, asked);
        assert.equal(opening.state, 'REQUESTED');
        await assert.rejects(store.requestOpening(venue.id, asked), isCode('conflict'));
        const given = { allowPrivate: true, decidedBy: 'Root', decidedAt: NOW };
        const opened = await store.decideOpening(venue.id, opening.id, 'open', given);
        assert.equal(opened?.state, 'OPEN');
        assert.deepEqual(await store.openOpening(venue.id, INTERFACE.destination), opened);
        assert.deepEqual((await store.engineInterface(venue.id, one.id))?.opening, { allowPrivate: true });
        await assert.rejects(store.decideOpening(venue.id, opening.id, 'refuse', given), isCode('conflict'));
        await store.decideOpening(venue.id, opening.id, 'revoke', given);
        assert.equal((await store.engineInterface(venue.id, one.id))?.opening, undefined);
        assert.equal((await store.requestOpening(venue.id, asked)).state, 'REQUESTED');
        assert.equal(await store.decideOpening(venue.id, 999, 'open', given), undefined);
        assert.equal((await store.openings(venue.id, { limit: 9 })).items.length, 2);
      });

      test('a schedule is kept, changed and deleted, and a run that was asked for is made or ended with it', async () => {
        const one = await createInterface();
        const settings = {
          name: 'Nightly',
          launch: 'AUTOMATIC',
          frequencyMinutes: 60,
          start: NOW,
          batchSize: 60,
        } as const;
        const schedule = await store.createSchedule(venue.id, one.id, settings, NOW);
        assert.ok(schedule);
        assert.equal(await store.createSchedule(venue.id, 999, settings, NOW), undefined);
        assert.deepEqual(await store.scheduleById(venue.id, schedule.id), schedule);
        assert.deepEqual((await store.schedules(venue.id, undefined, { limit: 9 })).items, [schedule]);
        assert.deepEqual((await store.schedules(venue.id, one.id, { limit: 9 })).items, [schedule]);
        const manual = { name: 'By hand', launch: 'MANUAL', batchSize: 5 } as const;
        const updated = await store.updateSchedule(venue.id, schedule.id, () => manual, NOW + 1);
        assert.equal(updated?.frequencyMinutes, undefined);
        const requested = await store.requestRun(venue.id, schedule.id, NOW);
        assert.equal(requested?.status, 'RUNNING');
        assert.deepEqual((await store.engineInterface(venue.id, one.id))?.requestedRuns, [
          { executionId: requested?.id, scheduleId: schedule.id },
        ]);
        assert.equal(await store.requestRun(venue.id, 999, NOW), undefined);
        assert.equal(await store.deleteSchedule(venue.id, schedule.id), true);
        assert.equal((await store.executionById(venue.id, requested?.id as number))?.status, 'ERROR');
        assert.equal(await store.deleteSchedule(venue.id, schedule.id), false);
      });

      test('changes by a function all last, however many are made at once', async () => {
        const one = await createInterface({ name: '' });
        const schedule = await store.createSchedule(
          venue.id,
          one.id,
          { name: '', launch: 'MANUAL', batchSize: 1 },
          NOW,
        );
        const scheduleId = schedule?.id as number;
        const letters = [...'abcdefghijklmnopqrst'];
        const changes = await Promise.all(
          letters.flatMap((letter) => [
            store.updateInterface(venue.id, one.id, (now) => ({ ...now, name: now.name + letter }), NOW),
            store.updateSchedule(venue.id, scheduleId, (now) => ({ ...now, name: now.name + letter }), NOW),
          ]),
        );
        const after = [
          await store.interfaceById(venue.id, one.id),
          await store.scheduleById(venue.id, scheduleId),
        ];
        for (const last of after) assert.deepEqual([...(last?.name ?? '')].sort(), letters);
        assert.equal(new Set(changes.map((changed) => changed?.revision)).size, letters.length);
        assert.ok(changes.every((changed) => (changed?.revision ?? 0) > one.revision));
        assert.equal(await store.updateInterface(venue.id, 999, (now) => now, NOW), undefined);
        assert.equal(await store.updateSchedule(venue.id, 999, (now) => now, NOW), undefined);
      });

      test('what a change or the check of a deletion throws is thrown, and nothing has changed', async () => {
        const one = await createInterface();
        const settings = { name: 'x', launch: 'MANUAL', batchSize: 1 } as const;
        const schedule = (await store.createSchedule(venue.id, one.id, settings, NOW)) ?? assert.fail();
        const refuse = () => {
          throw new AppError('precondition_failed', 'no');
        };
        const refused = isCode('precondition_failed');
        await assert.rejects(store.updateInterface(venue.id, one.id, refuse, NOW), refused);
        await assert.rejects(store.deleteInterface(venue.id, one.id, NOW, refuse), refused);
        await assert.rejects(store.updateSchedule(venue.id, schedule.id, refuse, NOW), refused);
        await assert.rejects(store.deleteSchedule(venue.id, schedule.id, refuse), refused);
        assert.deepEqual(await store.interfaceById(venue.id, one.id), one);
        assert.deepEqual(await store.scheduleById(venue.id, schedule.id), schedule);
        const seen: number[] = [];
        assert.equal(
          await store.deleteSchedule(venue.id, schedule.id, (now) => seen.push(now.revision)),
          true,
        );
        assert.equal(
          await store.deleteInterface(venue.id, one.id, NOW, (now) => seen.push(now.revision)),
          true,
        );
        assert.deepEqual(seen, [schedule.revision, one.revision]);
        assert.equal(await store.deleteInterface(venue.id, one.id, NOW, refuse), false);
        assert.equal(await store.deleteSchedule(venue.id, schedule.id, refuse), false);
      });

      test('a hold ends when it is lifted, and with the URL or method that asked for it', async () => {
        const one = await createInterface();
        const heldUntil = NOW + 60_000;
        const isHeld = async () =>
          (await store.queueFigures(venue.id, one.id))?.heldUntil === heldUntil &&
          (await store.engineInterface(venue.id, one.id))?.heldUntil === heldUntil;
        const hold = async () => {
          await commit(progress(one, { heldUntil }));
          assert.ok(await isHeld());
          changes.length = 0;
        };
        await hold();
        await store.updateInterface(venue.id, one.id, (now) => ({ ...now, name: 'Renamed' }), NOW);
        assert.ok(await isHeld());
        for (const more of [{ url: 'https://other.example/${orderId}' }, { method: 'POST' }] as const) {
          await hold();
          await store.updateInterface(venue.id, one.id, (now) => ({ ...now, ...more }), NOW);
          assert.equal((await store.queueFigures(venue.id, one.id))?.heldUntil, undefined);
        }
        await hold();
        assert.equal(await store.liftHold(venue.id, one.id, NOW), true);
        assert.equal((await store.engineInterface(venue.id, one.id))?.heldUntil, undefined);
        assert.deepEqual(changes, [{ kind: 'configuration', institutionId: venue.id }]);
        assert.equal(await store.liftHold(venue.id, one.id, NOW + 5), true);
        assert.equal((await store.engineInterface(venue.id, one.id))?.holdLiftedAt, NOW + 5);
        assert.equal(await store.liftHold(venue.id, 999, NOW), false);
        await store.deleteInterface(venue.id, one.id, NOW);
        assert.equal(await store.liftHold(venue.id, one.id, NOW), false);
      });

      test('what is owed is called no sooner than a hold ends, and the call log and the order say so', async () => {
        const one = await createInterface();
        await put(orderText(1), orderText(2), orderText(3));
        const seen = await waiting(one);
        const callTemplateId = await templateOf(one);
        const failed = (index: number, more: Partial<Attempt>) => ({
          ...attempt(String(index + 1), {
            closingId: seen[index]?.closingId as number,
            outcome: 'FAILED',
            ...more,
          }),
          callTemplateId,
        });
        const owed = (index: number, attempts: number, dueAt: number) => ({
          closingId: seen[index]?.closingId as number,
          orderId: String(index + 1),
          attempts,
          dueAt,
        });
        await commit(
          progress(one, {
            cursor: seen[2]?.position as Position,
            owed: [owed(0, 2, NOW + 30), owed(1, 1, NOW + 900)],
            attempts: [
              failed(0, { attempt: 1, nextAttemptAt: NOW + 10 }),
              failed(0, { attempt: 2, nextAttemptAt: NOW + 30 }),
              failed(1, { attempt: 1, nextAttemptAt: NOW + 900 }),
              failed(2, { attempt: 1, nextAttemptAt: NOW + 20 }),
            ],
          }),
        );
        const logged = async () => {
          const calls = await store.calls(venue.id, one.id, { limit: 9 });
          const log = calls?.items.map((call) => [
            call.orderId,
            call.attempt,
            (call.nextAttemptAt ?? 0) - NOW,
          ]);
          const next: unknown[] = [];
          for (const id of ['1', '2']) {
            const [delivery] = await store.deliveriesOf(venue.id, await store.closingsOf(venue.id, id, 1));
            next.push((delivery?.nextAttemptAt ?? 0) - NOW);
          }
          return [...(log ?? []), ...next];
        };
        const settled = ['3', 1, 20]; // it was delivered, or abandoned, since
        assert.deepEqual(await logged(), [settled, ['2', 1, 900], ['1', 2, 30], ['1', 1, 10], 30, 900]);
        await commit(progress(one, { heldUntil: NOW + 600 }));
        assert.deepEqual(await logged(), [settled, ['2', 1, 900], ['1', 2, 600], ['1', 1, 10], 600, 900]);
        await store.liftHold(venue.id, one.id, NOW);
        assert.deepEqual(await logged(), [settled, ['2', 1, 900], ['1', 2, 30], ['1', 1, 10], 30, 900]);
      });

      test('executions are kept as they stand, listed newest first, and ended after a crash', async () => {
        const one = await createInterface();
        const schedule = await store.createSchedule(
          venue.id,
          one.id,
          { name: 'x', launch: 'MANUAL', batchSize: 1 },
          NOW,
        );
        const scheduleId = schedule?.id as number;
        const first = await store.reserveExecutionIds(3);
        const requested = await store.requestRun(venue.id, scheduleId, NOW);
        assert.ok((requested?.id ?? 0) >= first + 3, 'ids are given once');
        const counts = { looked: 5, filteredOut: 1, called: 4, delivered: 3, failed: 1, abandoned: 1 };
        await commit(
          progress(one, {
            executions: [
              execution(one, first, { scheduleId, startedAt: NOW + 1 }),
              execution(one, first + 1, {
                scheduleId,
                startedAt: NOW + 2,
                endedAt: NOW + 3,
                status: 'WARNING',
                message: 'm',
                ...counts,
              }),
            ],
            ranAt: [{ scheduleId, at: NOW + 2, status: 'WARNING' }],
          }),
        );
        assert.deepEqual(changes.at(-1), { kind: 'executions_ended', executionIds: [first + 1] });
        const ran = await store.scheduleById(venue.id, scheduleId);
        assert.deepEqual([ran?.lastRunAt, ran?.lastStatus], [NOW + 2, 'WARNING']);
        const page = await store.executions(venue.id, scheduleId, { limit: 2 });
        assert.deepEqual(
          page.items.map(({ id }) => id),
          [first + 1, first],
        );
        const rest = await store.executions(venue.id, scheduleId, { limit: 2, cursor: page.next as string });
        assert.deepEqual(
          rest.items.map(({ id }) => id),
          [requested?.id],
        );
        assert.deepEqual(await store.executionById(venue.id, first + 1), {
          ...execution(one, first + 1),
          scheduleId,
          startedAt: NOW + 2,
          endedAt: NOW + 3,
          status: 'WARNING',
          message: 'm',
          ...counts,
        });
        await store.endInterrupted(venue.id, one.id, 'interrupted', NOW + 9);
        const ended = await store.executionById(venue.id, first);
        assert.equal(ended?.status, 'ERROR');
        assert.equal(ended?.message, 'interrupted');
        assert.equal((await store.executionById(venue.id, requested?.id as number))?.status, 'RUNNING');
      });
    });

    describe('the call log', () => {
      test('an attempt is given back with the request that was sent, newest first, by outcome and order', async () => {
        const one = await createInterface();
        const { id: other } = await createInterface();
        await put(orderText(1), orderText(LARGE_ID));
        const callTemplateId = await templateOf(one);
        assert.equal(await templateOf(one), callTemplateId, 'the same template has the same id');
        const failed = attempt(LARGE_ID, {
          outcome: 'FAILED',
          reason: 'timeout_connect',
          detail: 'd',
          nextAttemptAt: NOW + 9,
        });
        const { answer: _, ...unanswered } = failed;
        const abandoned = attempt('1', { outcome: 'ABANDONED', reason: 'status', attempt: 12 });
        await commit(
          progress(one, {
            attempts: [attempt('1', { executionId: 7 }), unanswered, abandoned].map((each) => ({
              ...each,
              callTemplateId,
            })),
          }),
        );
        const all = await store.calls(venue.id, one.id, { limit: 9 });
        assert.deepEqual(
          all?.items.map(({ orderId, outcome }) => [orderId, outcome]),
          [
            ['1', 'ABANDONED'],
            [LARGE_ID, 'FAILED'],
            ['1', 'DELIVERED'],
          ],
        );
        const {
          id: _id,
          request,
          userAgent,
          ...rest
        } = (all as NonNullable<typeof all>).items[1] as LoggedAttempt;
        assert.deepEqual(rest, unanswered);
        assert.deepEqual(request, { method: 'GET', url: `https://crm.example/${LARGE_ID}` });
        assert.equal(userAgent, 'Orderhook/0');
        const orders = async (query: Parameters<Store['calls']>[2]) =>
          (await store.calls(venue.id, one.id, query))?.items.map(
            ({ attempt: number, orderId }) => `${orderId}#${number}`,
          );
        assert.deepEqual(await orders({ limit: 9, outcome: 'FAILED' }), [`${LARGE_ID}#1`]);
        assert.deepEqual(await orders({ limit: 9, outcome: 'DELIVERED' }), ['1#1']);
        assert.deepEqual(await orders({ limit: 9, orderId: '1' }), ['1#12', '1#1']);
        assert.deepEqual(await orders({ limit: 9, orderId: '1', outcome: 'ABANDONED' }), ['1#12']);
        const page = await store.calls(venue.id, one.id, { limit: 2 });
        assert.deepEqual(await orders({ limit: 2, cursor: page?.next as string }), ['1#1']);
        assert.deepEqual((await store.calls(venue.id, other, { limit: 9 }))?.items, []);
        assert.equal(await store.calls(venue.id, 999, { limit: 9 }), undefined);
      });

      test('each answer is given back with its own headers, though those of one commit that are alike are kept once', async () => {
        const one = await createInterface();
        const other = await createInterface({ name: 'Other' });
        type Headers = Record<string, string> | undefined;
        async function log(of: ExternalInterface, all: Headers[]) {
          const callTemplateId = await templateOf(of);
          const attempts = all.map((headers, index) => {
            const { answer: _, ...unanswered } = attempt(String(index + 1));
            const answer = headers && { answer: { status: 200, headers, bodyStart: '' } };
            return { ...unanswered, ...answer, callTemplateId };
          });
          return progress(of, { attempts });
        }
        const wanted: Headers[] = [
          { date: 'a', 'x-a': '1' },
          { date: 'a', 'x-a': '1' },
          undefined,
          { date: 'a', 'x-a': '1' },
          { date: 'b', 'x-a': '1' },
          { 'x-a': '1', date: 'b' },
          { 'x-a': '1', date: 'b', more: '' },
          { 'x-a': '1', date: 'b' },
        ];
        await commit(await log(one, wanted), await log(other, wanted.toReversed()));
        await commit(await log(one, wanted));
        async function headersOf(of: ExternalInterface) {
          const page = await store.calls(venue.id, of.id, { limit: 50 });
          return page?.items.toReversed().map(({ answer }) => answer && Object.entries(answer.headers));
        }
        const inOrder = wanted.map((headers) => headers && Object.entries(headers));
        assert.deepEqual(await headersOf(one), [...inOrder, ...inOrder]);
        assert.deepEqual(await headersOf(other), inOrder.toReversed());
      });

      test('of a removed order the call log keeps what came of each call, and nothing that the callee said', async () => {
        const [one, deleted] = [await createInterface(), await createInterface()];
        const closed = await put(orderText(1), orderText(2), orderText(3), orderText(4));
        const callTemplateId = await templateOf(one);
        const headers = { date: 'Mon', 'x-name': 'Zoë' };
        const answer = { status: 200, headers, bodyStart: 'of Zoë' };
        const attemptOf = (orderId: string, more: Partial<Attempt> = {}) => ({
          ...attempt(orderId, {
            closingId: closed[Number(orderId) - 1]?.closing?.closingId as number,
            ...more,
          }),
          callTemplateId,
        });
        const said = { ...answer, status: 500, headers: { location: '/zoë' } };
        const log = [
          attemptOf('1', { answer }),
          attemptOf('1', { answer }),
          attemptOf('2', { answer }),
          attemptOf('3', { answer }),
          attemptOf('1', { answer }),
          attemptOf('4', { answer }),
          attemptOf('1', { outcome: 'FAILED', reason: 'status', detail: 'to /zoë', answer: said }),
          attemptOf('1', { outcome: 'FAILED', reason: 'refused', detail: 'not there', answer: undefined }),
        ];
        await commit(progress(one, { attempts: log }));
        const theirs = { ...attemptOf('1', { answer }), callTemplateId: await templateOf(deleted) };
        await commit(progress(deleted, { attempts: [theirs] }));
        await store.deleteInterface(venue.id, deleted.id, NOW);

        await store.removeOrder(venue.id, '1', NOW);
        const logged = (await store.calls(venue.id, one.id, { limit: 9 }))?.items ?? [];
        const nothing = { headers: {}, bodyStart: '' };
        assert.deepEqual(
          logged.map(({ orderId, outcome, detail, answer }) => [orderId, outcome, detail, answer]).reverse(),
          [
            ['1', 'DELIVERED', undefined, { status: 200, ...nothing }],
            ['1', 'DELIVERED', undefined, { status: 200, ...nothing }],
            ['2', 'DELIVERED', undefined, answer],
            ['3', 'DELIVERED', undefined, answer],
            ['1', 'DELIVERED', undefined, { status: 200, ...nothing }],
            ['4', 'DELIVERED', undefined, answer],
            ['1', 'FAILED', undefined, { status: 500, ...nothing }],
            ['1', 'FAILED', 'not there', undefined],
          ],
        );
        const [call] = (await store.calls(venue.id, deleted.id, { limit: 9 }))?.items ?? [];
        assert.deepEqual(call?.answer, { status: 200, ...nothing }, 'in the log of a deleted interface too');
        const [delivery] = await store.deliveriesOf(venue.id, await store.closingsOf(venue.id, '1', 1));
        assert.equal(delivery?.state, 'DELIVERED');
        // The next one that keeps the headers for others goes too.
        await store.removeOrder(venue.id, '2', NOW);
        const left = (await store.calls(venue.id, one.id, { limit: 9 }))?.items ?? [];
        assert.deepEqual(
          left.filter(({ answer }) => answer?.bodyStart).map(({ orderId, answer }) => [orderId, answer]),
          [
            ['4', answer],
            ['3', answer],
          ],
        );
      });

      test('a test call is logged at once', async () => {
        const one = await createInterface();
        const { closingId: _, ...test } = attempt('5', { trigger: 'TEST' });
        const logged = await store.logAttempt(venue.id, one.id, await templateOf(one), test);
        assert.equal(logged.trigger, 'TEST');
        assert.equal(logged.closingId, undefined);
        assert.deepEqual((await store.calls(venue.id, one.id, { limit: 9 }))?.items, [logged]);
      });
    });

    describe('leases', () => {
      test('a node holds the interfaces that are alive, and gives them back', async () => {
        const one = await createInterface();
        const { held } = await store.holdLeases(NODE, LEASE_MS);
        assert.deepEqual(
          held.map(({ institutionId, interfaceId }) => [institutionId, interfaceId]),
          [[venue.id, one.id]],
        );
        await store.deleteInterface(venue.id, one.id, NOW);
        assert.deepEqual((await store.holdLeases(NODE, LEASE_MS)).held, []);
        await store.releaseLeases(NODE);
      });
    });

    describe('resends', () => {
      test('orders that are named are sent again by their newest closing, oldest first, in pages', async () => {
        const one = await createInterface();
        await put(orderText(1), orderText(2), orderText(3, 'OPEN'), orderText(4));
        await put(orderText(1, 'OPEN'));
        await put(orderText(1));
        const selection = { kind: 'orders', orderIds: ['4', '1', '1', '3', '99'] } as const;
        assert.equal(
          await store.countResend(venue.id, one.id, selection),
          0,
          'the queue will call them anyway',
        );
        await passAll(one);
        assert.equal(await store.countResend(venue.id, one.id, selection), 2);
        assert.equal(await store.countResend(venue.id, 999, selection), undefined);
        const requested = await store.requestResend(venue.id, one.id, selection, NOW);
        const id = requested?.execution.id as number;
        assert.equal(requested?.count, 2);
        assert.equal(requested.execution.trigger, 'RESEND');
        assert.equal(await store.resendCount(venue.id, id), 2);
        const view = await store.engineInterface(venue.id, one.id);
        assert.deepEqual(view?.requestedRuns, []);
        const { sentUpTo, ...resend } = (view as EngineInterface).resends[0] as RequestedResend;
        assert.deepEqual(resend, {
          executionId: id,
          isBegun: false,
          isCancelled: false,
          isFiltered: false,
          execution: requested.execution,
        });
        const [first, ...others] = await store.resendDeliveries(venue.id, id, {
          after: sentUpTo,
          limit: 1,
          withDetails: true,
        });
        assert.deepEqual(others, []);
        assert.equal(first?.orderId, '4');
        assert.equal(first.details, orderText(4));
        const rest = await store.resendDeliveries(venue.id, id, {
          after: first.closingId,
          limit: 9,
          withDetails: false,
        });
        assert.deepEqual(
          rest.map(({ orderId, attempts, list, details }) => [orderId, attempts, list, details]),
          [['1', 0, undefined, undefined]],
        );
      });

      test('what was sent is not sent again after a restart, and an ended resend is no longer listed', async () => {
        const one = await createInterface();
        await put(orderText(1), orderText(2));
        await passAll(one);
        const selection = { kind: 'orders', orderIds: ['1', '2'] } as const;
        const requested = await store.requestResend(venue.id, one.id, selection, NOW);
        const running = requested?.execution as Execution;
        const all = { after: 0, limit: 9, withDetails: false };
        const [first] = await store.resendDeliveries(venue.id, running.id, all);
        const sentUpTo = first?.closingId as number;
        await commit(
          progress(one, {
            executions: [{ ...running, looked: 1, called: 1, delivered: 1 }],
            resend: { executionId: running.id, sentUpTo },
          }),
        );
        await store.endInterrupted(venue.id, one.id, 'interrupted', NOW);
        const view = (await store.engineInterface(venue.id, one.id))?.resends[0];
        assert.equal(view?.sentUpTo, sentUpTo);
        assert.equal(view.isBegun, true);
        assert.equal(view.execution.delivered, 1);
        const left = await store.resendDeliveries(venue.id, running.id, all);
        assert.deepEqual(
          left.map(({ orderId }) => orderId),
          ['2'],
        );
        assert.equal(await store.cancelResend(venue.id, running.id), true);
        assert.equal((await store.engineInterface(venue.id, one.id))?.resends[0]?.isCancelled, true);
        await commit(progress(one, { executions: [{ ...running, status: 'OK', endedAt: NOW }] }));
        assert.deepEqual((await store.engineInterface(venue.id, one.id))?.resends, []);
        assert.equal(await store.cancelResend(venue.id, running.id), false);
        assert.equal(await store.cancelResend(venue.id, 999), false);
      });

      test('all abandoned deliveries can be sent again, and leave their list when they were', async () => {
        const one = await createInterface();
        await put(orderText(1), orderText(2), orderText(3));
        const seen = await waiting(one);
        const abandoned = seen
          .slice(0, 2)
          .map(({ closingId, orderId }) => ({ closingId, orderId, attempts: 12 }));
        await commit(progress(one, { cursor: seen[2]?.position as Position, abandoned }));
        assert.equal(await store.countResend(venue.id, one.id, { kind: 'abandoned' }), 2);
        const requested = await store.requestResend(venue.id, one.id, { kind: 'abandoned' }, NOW);
        const found = await store.resendDeliveries(venue.id, requested?.execution.id as number, {
          after: 0,
          limit: 9,
          withDetails: false,
        });
        assert.deepEqual(
          found,
          abandoned.map((each) => ({ ...each, list: 'abandoned' })),
        );
        const [first, second] = abandoned.map(({ closingId, orderId }) => ({ closingId, orderId }));
        assert.ok(first && second);
        await commit(
          progress(one, {
            resent: [first.closingId, second.closingId],
            owed: [{ ...second, attempts: 1, dueAt: 0 }],
          }),
        );
        const figures = { waiting: 0, owed: 1, abandoned: 0, oldestOwedAt: NOW };
        assert.deepEqual(await store.queueFigures(venue.id, one.id), figures);
      });

      test('all that is owed can be sent again, whenever it is due, and what is owed later is no part of it', async () => {
        const one = await createInterface();
        for (const [index, id] of [1, 2, 3].entries()) {
          await store.putOrders(
            [{ ...readOrderDetails(orderText(id)), institutionId: venue.id }],
            NOW + index,
          );
        }
        const seen = await waiting(one);
        const owed = seen.map(({ closingId, orderId }) => ({
          closingId,
          orderId,
          attempts: 3,
          dueAt: NOW + 1e9,
        }));
        const [first, second, later] = owed;
        assert.ok(first && second && later);
        await commit(progress(one, { cursor: seen[1]?.position as Position, owed: [second, first] }));
        assert.equal((await store.queueFigures(venue.id, one.id))?.oldestOwedAt, NOW);
        assert.equal(await store.countResend(venue.id, one.id, { kind: 'owed' }), 2);
        assert.equal(await store.countResend(venue.id, 999, { kind: 'owed' }), undefined);
        const requested = await store.requestResend(venue.id, one.id, { kind: 'owed' }, NOW);
        assert.equal(requested?.count, 2);
        await commit(progress(one, { cursor: seen[2]?.position as Position, owed: [later] }));
        const view = (await store.engineInterface(venue.id, one.id))?.resends[0];
        assert.equal(view?.isFiltered, false);
        const query = { after: view.sentUpTo, limit: 9, withDetails: true };
        const found = await store.resendDeliveries(venue.id, view.executionId, query);
        assert.deepEqual(
          found,
          [first, second].map(({ closingId, orderId, attempts }) => ({
            closingId,
            orderId,
            attempts,
            list: 'owed',
            details: orderText(orderId),
          })),
        );
        await commit(progress(one, { settled: [first.closingId] }));
        assert.equal((await store.queueFigures(venue.id, one.id))?.oldestOwedAt, NOW + 1);
        const left = await store.resendDeliveries(venue.id, view.executionId, {
          ...query,
          withDetails: false,
        });
        assert.deepEqual(
          left.map(({ orderId }) => orderId),
          ['2'],
        );
      });

      test('closings of a time span are sent again as far as the queue has passed them', async () => {
        const early = { ...readOrderDetails(orderText(1)), institutionId: venue.id };
        await store.putOrders([early], NOW - 10);
        const one = await createInterface();
        await put(orderText(2), orderText(3));
        const seen = await waiting(one);
        await commit(progress(one, { cursor: seen[0]?.position as Position }));
        const selection = { kind: 'closed_between', from: NOW - 10, to: NOW + 1 } as const;
        assert.equal(await store.countResend(venue.id, one.id, selection), 2);
        assert.equal(await store.countResend(venue.id, one.id, { ...selection, from: NOW - 9 }), 1);
        assert.equal(await store.countResend(venue.id, one.id, { ...selection, to: NOW }), 1);
        const requested = await store.requestResend(venue.id, one.id, selection, NOW);
        const view = await store.engineInterface(venue.id, one.id);
        assert.equal(view?.resends[0]?.isFiltered, true);
        const query = { after: view.resends[0].sentUpTo, limit: 9, withDetails: true };
        const found = await store.resendDeliveries(venue.id, requested?.execution.id as number, query);
        assert.deepEqual(
          found.map(({ orderId }) => orderId),
          ['1', '2'],
        );
        const none = await store.requestResend(
          venue.id,
          one.id,
          { kind: 'closed_between', from: 0, to: 1 },
          NOW,
        );
        assert.equal(none?.count, 0);
        assert.deepEqual(
          await store.resendDeliveries(venue.id, none.execution.id, { ...query, after: 0 }),
          [],
        );
      });
    });

    describe('retention', () => {
      test('what is old is removed in steps, and nothing that a queue still needs', async () => {
        const one = await createInterface();
        await put(orderText(1), orderText(2), orderText(3));
        const seen = await waiting(one);
        const callTemplateId = await templateOf(one);
        const firstId = await store.reserveExecutionIds(2);
        const ended = { status: 'OK', endedAt: NOW } as const;
        const [, second] = seen;
        await commit(
          progress(one, {
            cursor: second?.position as Position,
            owed: [{ closingId: second?.closingId as number, orderId: '2', attempts: 1, dueAt: 0 }],
            attempts: [
              { ...attempt('1', { startedAt: NOW - 5 }), callTemplateId },
              { ...attempt('2', { startedAt: NOW + 5 }), callTemplateId },
            ],
            executions: [
              execution(one, firstId, { startedAt: NOW - 5, ...ended }),
              execution(one, firstId + 1, { startedAt: NOW - 5 }),
            ],
          }),
        );
        assert.deepEqual(await store.queueTotals(), { waiting: 1, owed: 1, abandoned: 0 });
        while ((await store.removeOlderThan(NOW + 1)) > 0);
        const calls = await store.calls(venue.id, one.id, { limit: 9 });
        assert.deepEqual(
          calls?.items.map(({ orderId }) => orderId),
          ['2'],
        );
        assert.equal(await store.executionById(venue.id, firstId), undefined);
        assert.equal((await store.executionById(venue.id, firstId + 1))?.status, 'RUNNING');
        assert.equal((await store.owed(venue.id, one.id, { limit: 9, withDetails: true })).length, 1);
        assert.equal((await waiting(one)).length, 1);
        assert.equal((await store.order(venue.id, '1'))?.orderId, '1', 'orders stay');
        assert.equal((await store.closingsOf(venue.id, '2', 9)).length, 1, 'an owed closing stays');
      });

      test('a delivery whose attempts may have been removed is not called filtered out', async () => {
        const one = await createInterface();
        const late = NOW + 30 * DAY_MS;
        // Waits for ever, and so keeps all closings.
        await createInterface();
        await put(orderText(1), orderText(2), orderText(3));
        await store.putOrders([{ ...readOrderDetails(orderText(4)), institutionId: venue.id }], late);
        const seen = await waiting(one);
        const callTemplateId = await templateOf(one);
        const closingIdOf = (index: number) => seen[index]?.closingId as number;
        await commit(
          progress(one, {
            cursor: seen.at(-1)?.position as Position,
            attempts: [
              { ...attempt('1', { closingId: closingIdOf(0) }), callTemplateId },
              { ...attempt('2', { closingId: closingIdOf(1), startedAt: late }), callTemplateId },
            ],
          }),
        );
        const closings: Closing[] = [];
        for (const id of ['1', '2', '3', '4']) closings.push(...(await store.closingsOf(venue.id, id, 1)));
        const states = async () =>
          (await store.deliveriesOf(venue.id, closings))
            .filter(({ interfaceId }) => interfaceId === one.id)
            .map(({ state }) => state);
        assert.deepEqual(await states(), ['DELIVERED', 'DELIVERED', 'FILTERED_OUT', 'FILTERED_OUT']);
        while ((await store.removeOlderThan(NOW + DAY_MS)) > 0);
        assert.equal((await store.calls(venue.id, one.id, { limit: 9 }))?.items.length, 1);
        assert.deepEqual(await states(), ['UNKNOWN', 'DELIVERED', 'UNKNOWN', 'FILTERED_OUT']);
      });

      test('executions that found nothing go whatever their age, when an earlier version left them', async () => {
        const one = await createInterface();
        const ids = await store.reserveExecutionIds(6);
        const ended = { endedAt: NOW, status: 'OK' } as const;
        await commit(
          progress(one, {
            executions: [
              execution(one, ids, ended),
              execution(one, ids + 1, { ...ended, looked: 1 }),
              execution(one, ids + 2, { ...ended, trigger: 'MANUAL' }),
              execution(one, ids + 3, { ...ended, status: 'ERROR' }),
              execution(one, ids + 4, { ...ended, message: 'The interface was paused.' }),
              execution(one, ids + 5),
            ],
          }),
        );
        await pretendEarlierVersion();
        while ((await store.removeOlderThan(0)) > 0);
        const kept: number[] = [];
        for (let id = ids; id < ids + 6; id += 1) {
          if (await store.executionById(venue.id, id)) kept.push(id - ids);
        }
        assert.deepEqual(kept, [1, 2, 3, 4, 5]);
      });

      describe('of orders', () => {
        const removeOld = async (time: number) => {
          let removed = 0;
          for (;;) {
            const step = await store.removeOrdersOlderThan(time, NOW + 1);
            removed += step.removed;
            if (!step.hasMore) return removed;
          }
        };
        const putAt = (at: number, ...texts: string[]) =>
          store.putOrders(
            texts.map((text) => ({ ...readOrderDetails(text), institutionId: venue.id })),
            at,
          );

        test('takes the details of old ones, and nothing that waits, is owed or is abandoned', async () => {
          const one = await createInterface();
          const ids = ['1', '2', '3', '4', '5', '6', '7'];
          await putAt(NOW, orderText(1), orderText(2), orderText(3), orderText(4));
          // The newest closing of it was delivered, an older one is owed.
          await putAt(NOW, orderText(2, 'OPEN'));
          await putAt(NOW, orderText(2));
          await putAt(NOW + 5, orderText(5));
          await putAt(NOW, orderText(6, 'OPEN'), orderText(7));
          const seen = await waiting(one);
          const pick = (index: number) => {
            const { closingId, orderId } = seen[index] as (typeof seen)[number];
            return { closingId, orderId };
          };
          await commit(
            progress(one, {
              cursor: seen.at(-2)?.position as Position,
              owed: [{ ...pick(1), attempts: 1, dueAt: 0 }],
              abandoned: [{ ...pick(2), attempts: 12 }],
            }),
          );
          assert.equal(await removeOld(NOW), 0, 'none is older');
          assert.equal(await removeOld(NOW + ORDER_PASS_EVERY_MS), 4);
          const kept = async () => {
            const found: string[] = [];
            for (const id of ids) {
              const order = await store.order(venue.id, id);
              found.push(order ? (order.details === undefined ? 'removed' : 'whole') : 'gone');
            }
            return found.join(' ');
          };
          assert.equal(await kept(), 'removed whole whole removed removed gone whole');
          assert.equal((await store.order(venue.id, '1'))?.removedAt, NOW + 1);
          const settled = [pick(1).closingId];
          await commit(
            progress(one, {
              cursor: seen.at(-1)?.position as Position,
              settled,
              resent: [pick(2).closingId],
            }),
          );
          assert.equal(await removeOld(NOW + 2 * ORDER_PASS_EVERY_MS), 3);
          assert.equal(await kept(), 'removed removed removed removed removed gone removed');
        });

        test('looks through them again only when time has gone on', async () => {
          await putAt(NOW - 2, orderText(1, 'OPEN'));
          assert.equal(await removeOld(NOW - 1), 1);
          await putAt(NOW - 2, orderText(2, 'OPEN'));
          assert.equal(await removeOld(NOW + 1), 0);
          assert.equal(await removeOld(NOW - 1 + ORDER_PASS_EVERY_MS), 1);
        });

        test('takes the whole order when no closing of it is kept any more, in steps', async () => {
          const one = await createInterface();
          const old = NOW - 60 * DAY_MS;
          const count = 1_200;
          for (let n = 0; n < count; n += 400) {
            await putAt(old, ...Array.from({ length: 400 }, (_, index) => orderText(n + index + 1)));
          }
          await putAt(NOW, orderText(5_000));
          const seen = await store.waiting(venue.id, await cursorOf(one), {
            limit: 2_000,
            withDetails: false,
          });
          await commit(progress(one, { cursor: seen.at(-1)?.position as Position }));
          const first = await store.removeOrdersOlderThan(NOW - DAY_MS, NOW);
          assert.equal(first.hasMore, true);
          assert.ok(first.removed < count / 2, `${first.removed} in one step`);
          assert.equal(first.removed + (await removeOld(NOW - DAY_MS)), count);
          assert.equal((await store.order(venue.id, '1'))?.orderState, 'CLOSED');
          while ((await store.removeOlderThan(NOW - 30 * DAY_MS)) > 0);
          assert.equal(await removeOld(NOW - DAY_MS + ORDER_PASS_EVERY_MS), count);
          assert.equal(await store.order(venue.id, '1'), undefined);
          assert.equal((await store.order(venue.id, '5000'))?.details, orderText(5_000));
        });
      });
    });

    describe('partners and keys', () => {
      test('a partner is known by name and operator across institutions and ends when deleted', async () => {
        const given = {
          institutionId: venue.id,
          partner: 'P',
          operator: 'O',
          sealedSecret: 's',
          createdAt: NOW,
        };
        const partner = await store.createPartner(given);
        await assert.rejects(store.createPartner(given), isCode('conflict'));
        assert.deepEqual(await store.partnersNamed('P', 'O'), [partner]);
        assert.deepEqual(await store.partnersNamed('P', 'X'), []);
        assert.deepEqual((await store.partners(venue.id, { limit: 9 })).items, [partner]);
        assert.equal(await store.anySealedSecret(), partner.sealedSecret);
        assert.equal(await store.deletePartner(venue.id + 1, partner.id), false);
        assert.equal(await store.deletePartner(venue.id, partner.id), true);
        assert.deepEqual(await store.partnersNamed('P', 'O'), []);
        assert.equal(await store.anySealedSecret(), undefined);
      });

      test('a key is found by its hash and ends when deleted', async () => {
        const keyHash = new Uint8Array(32).fill(7);
        assert.equal(await store.hasAdministrator(), false);
        const operator = {
          name: 'k',
          role: 'OPERATOR',
          institutionId: venue.id,
          createdAt: NOW,
          expiresAt: NOW + 1,
        } as const;
        const key = await store.createApiKey({ ...operator, keyHash });
        assert.equal(await store.hasAdministrator(), false);
        assert.deepEqual(await store.apiKeyByHash(keyHash), key);
        assert.equal(await store.apiKeyByHash(new Uint8Array(32)), undefined);
        const root = await store.createApiKey({
          name: 'r',
          role: 'ADMINISTRATOR',
          createdAt: NOW,
          keyHash: new Uint8Array(32),
        });
        assert.equal(await store.hasAdministrator(), true);
        assert.deepEqual((await store.apiKeys({ limit: 9 })).items, [root, key]);
        assert.equal(await store.deleteApiKey(key.id), true);
        assert.equal(await store.apiKeyByHash(keyHash), undefined);
        assert.equal(await store.deleteApiKey(key.id), false);
      });
    });
  });
}
