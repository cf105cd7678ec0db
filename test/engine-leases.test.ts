/** One of several nodes: what its engine does when interfaces come, go, and come back. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { MANY_NODES } from '../src/engine/engine.ts';
import type { ExternalInterface } from '../src/model/entities.ts';
import type { Change, Store } from '../src/store/store.ts';
import { EngineFixture } from './support/engine-fixture.ts';
import { answered } from './support/fake-callee.ts';

/** The leases of one interface, as the database has them, in the hands of the test. */
class FakeLeases {
  fence = 1;
  isHeld = true;
  /** Its time was over when the commit came. */
  isOver = false;
  isExcess = false;
  readonly #id: number;

  constructor(one: ExternalInterface) {
    this.#id = one.id;
  }

  over(store: Store): Store {
    return {
      ...store,
      holdLeases: async () => {
        const { held } = await store.holdLeases('', 0);
        const own = held.map((lease) => ({ ...lease, fence: this.fence }));
        return { held: this.isHeld ? own : [], excess: this.isHeld && this.isExcess ? [this.#id] : [] };
      },
      releaseLeases: async () => {
        this.isHeld = false;
      },
      commitProgress: async (progress, nodeId) => {
        const isRefused = (fence: number) => this.isOver || !this.isHeld || fence !== this.fence;
        const refused = progress
          .filter(({ fence }) => isRefused(fence))
          .map(({ interfaceId }) => interfaceId);
        const kept = progress.filter(({ fence }) => !isRefused(fence));
        if (kept.length > 0) await store.commitProgress(kept, nodeId);
        return refused;
      },
    };
  }
}

describe('an engine among others', () => {
  let fixture: EngineFixture;
  let one: ExternalInterface;
  let leases: FakeLeases;
  beforeEach(async () => {
    fixture = await EngineFixture.start();
    one = await fixture.createInterface({ concurrency: 2 });
    await fixture.createSchedule(one, { launch: 'AUTOMATIC', frequencyMinutes: 0 });
    leases = new FakeLeases(one);
  });
  afterEach(async () => {
    fixture.callee.release();
    await fixture.stop();
  });
  const start = (store = leases.over(fixture.store)) => fixture.restart({ store, leases: MANY_NODES });
  const renewed = () => fixture.clock.advance(MANY_NODES.renewMs);
  const isEmpty = async () => assert.equal((await fixture.queue(one))?.waiting, 0);

  test('told of changes while it starts, it works each interface once', async () => {
    await fixture.engine.stop();
    await fixture.close(20);
    const store = leases.over(fixture.store);
    await start({
      ...store,
      subscribe(listener: (change: Change) => void) {
        const unsubscribe = store.subscribe(listener);
        listener({ kind: 'configuration', institutionId: fixture.institution.id });
        listener({ kind: 'configuration', institutionId: fixture.institution.id });
        return unsubscribe;
      },
    });
    await renewed();
    assert.equal(fixture.callee.calls.length, 20);
    await isEmpty();
  });

  test('an interface that is given back is let go when its calls have ended, however often that is asked for', async () => {
    await start();
    fixture.callee.outcome = () => undefined;
    await fixture.close(5);
    leases.isExcess = true;
    await renewed();
    await renewed();
    await renewed();
    assert.ok(leases.isHeld, 'while calls run');
    assert.equal(fixture.callee.calls.length, 2, 'and no call starts');
    leases.isExcess = false;
    fixture.callee.outcome = () => answered();
    fixture.callee.release();
    await renewed();
    assert.ok(!leases.isHeld);
    assert.equal((await fixture.queue(one))?.waiting, 3, 'what the calls came to is committed');
    leases.fence = 3;
    leases.isHeld = true;
    await renewed();
    await renewed();
    assert.deepEqual(
      fixture.callee.orderIds.sort(),
      ['1', '2', '3', '4', '5'],
      'it comes back, and each is called once',
    );
    await isEmpty();
  });

  test('an interface that was lost and comes back is worked again when the calls of before have ended, and not by two', async () => {
    await start();
    fixture.callee.outcome = () => undefined;
    await fixture.close(5);
    leases.fence = 2; // another node had it for a moment
    await renewed();
    await renewed();
    assert.equal(fixture.callee.calls.length, 2);
    fixture.callee.outcome = () => answered();
    fixture.callee.release();
    await renewed();
    assert.equal(fixture.callee.mostRunning, 2);
    assert.deepEqual(
      fixture.callee.orderIds.slice(2),
      ['1', '2', '3', '4', '5'],
      'what came of those calls was refused, so they are made again',
    );
    await isEmpty();
  });

  test('of a lease that was over when it came to commit, nothing later is committed either: no failed order is passed over', async () => {
    await start();
    fixture.callee.outcome = (_request, number) => (number === 0 ? answered(500) : undefined);
    leases.isOver = true;
    await fixture.close(2);
    await fixture.clock.advance(30);
    // It is renewed, under the same fence since nobody else took it, while the second call still runs.
    leases.isOver = false;
    fixture.callee.outcome = () => answered();
    fixture.callee.release();
    await renewed();
    await renewed();
    const delivered = (await fixture.calls(one)).filter(({ outcome }) => outcome === 'DELIVERED');
    assert.deepEqual(delivered.map(({ orderId }) => orderId).sort(), ['1', '2']);
    await isEmpty();
    assert.equal((await fixture.queue(one))?.owed, 0);
  });

  test('without a renewed lease no call starts, and the database that is away is not asked more and more often', async () => {
    const store = leases.over(fixture.store);
    let [isAway, asked] = [false, 0];
    await start({
      ...store,
      async holdLeases(...given) {
        asked += 1;
        if (isAway) throw new Error('away');
        return store.holdLeases(...given);
      },
    });
    isAway = true;
    await fixture.clock.advance(MANY_NODES.ttlMs);
    asked = 0;
    await fixture.clock.advance(30_000);
    assert.ok(asked <= 30 + 30_000 / MANY_NODES.renewMs, `asked ${asked} times in 30 s`);
    assert.equal(fixture.engine.readiness().ready, false);
    await fixture.close(3);
    await fixture.clock.advance(10_000);
    assert.equal(fixture.callee.calls.length, 0);
    isAway = false;
    await fixture.clock.advance(2_000);
    assert.equal(fixture.callee.calls.length, 3);
  });
});
