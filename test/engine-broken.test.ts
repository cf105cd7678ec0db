/** A fault of ours, which no repetition mends, stops the one interface that it belongs to, visibly (contract, section 9). */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { ExternalInterface, Schedule } from '../src/model/entities.ts';
import type { Outcome } from '../src/model/outcome.ts';
import type { Store } from '../src/store/store.ts';
import { EngineFixture } from './support/engine-fixture.ts';
import { answered } from './support/fake-callee.ts';

const MINUTE = 60_000;
const CONTINUOUS = { launch: 'AUTOMATIC', frequencyMinutes: 0 } as const;

describe('a fault that is not the database’s', () => {
  let fixture: EngineFixture;
  let sound: ExternalInterface;
  let faulty: ExternalInterface;
  let schedule: Schedule;
  const lines: Record<string, unknown>[] = [];
  const log = {
    debug: () => {},
    info: () => {},
    warn: () => {},
    fatal: () => {},
    error: (line: Record<string, unknown>) => lines.push(line),
  };

  beforeEach(async () => {
    lines.length = 0;
    fixture = await EngineFixture.start();
    sound = await fixture.createInterface({ url: 'https://crm.example/sound/${orderId}' });
    faulty = await fixture.createInterface({ url: 'https://crm.example/faulty/${orderId}' });
    await fixture.createSchedule(sound, CONTINUOUS);
    schedule = await fixture.createSchedule(faulty, CONTINUOUS);
    await fixture.engine.stop();
  });
  afterEach(() => fixture.stop());

  const callsOf = (name: string) => fixture.callee.calls.filter(({ url }) => url.includes(`/${name}/`));
  const restart = (store: Store = fixture.store) =>
    // Its log is cut down to what the engine uses.
    fixture.restart({ store, log: log as never });

  /** A store that refuses the progress of one interface as long as `isRefused` says so. */
  function refusing(isRefused: () => boolean): Store {
    return {
      ...fixture.store,
      async commitProgress(progress, nodeId) {
        if (
          isRefused() &&
          progress.some(({ interfaceId, attempts }) => interfaceId === faulty.id && attempts.length > 0)
        )
          throw new Error('no such column', { cause: new TypeError('the deeper cause') });
        return fixture.store.commitProgress(progress, nodeId);
      },
    };
  }

  test('an outcome that the store refuses stops its interface; all others are called and committed', async () => {
    await restart(refusing(() => true));
    await fixture.close(300);
    await fixture.until(() => callsOf('sound').length === 300);
    await fixture.clock.advance(200);
    assert.equal((await fixture.queue(sound))?.waiting, 0);
    assert.equal((await fixture.queue(faulty))?.waiting, 300, 'nothing of it is lost');
    assert.deepEqual(fixture.engine.readiness(), { ready: true });
    const execution = (await fixture.executions(schedule)).find(({ status }) => status === 'ERROR');
    assert.match(execution?.message ?? '', /fault of Orderhook itself/);
    const [line] = lines;
    assert.equal(line?.event, 'interface.broken');
    assert.equal(line.interfaceId, faulty.id);
    assert.equal(((line.err as Error).cause as Error).message, 'the deeper cause');
  });

  test('it rests, twice as long each time, and goes on when the fault is gone', async () => {
    let isFaulty = true;
    await restart(refusing(() => isFaulty));
    await fixture.close(1);
    await fixture.clock.advance(10 * MINUTE);
    assert.equal(callsOf('faulty').length, 4, 'at once, and after 1, 3 and 7 minutes');
    isFaulty = false;
    await fixture.clock.advance(10 * MINUTE);
    assert.equal(callsOf('faulty').length, 5);
    assert.deepEqual(await fixture.queue(faulty), { waiting: 0, owed: 0, abandoned: 0 });
  });

  test('a change of its settings ends the rest', async () => {
    let isFaulty = true;
    await restart(refusing(() => isFaulty));
    await fixture.close(1);
    await fixture.clock.advance(MINUTE / 2);
    isFaulty = false;
    await fixture.changeInterface(faulty, { ...faulty, name: 'mended' });
    await fixture.clock.advance(100);
    assert.equal((await fixture.queue(faulty))?.waiting, 0);
  });

  test('a stop takes no longer than usual', async () => {
    await restart(refusing(() => true));
    await fixture.close(100);
    await fixture.clock.advance(100);
    let isStopped = false;
    void fixture.engine.stop().then(() => {
      isStopped = true;
    });
    await fixture.clock.advance(50);
    assert.ok(isStopped);
  });

  test('settings that cannot be made ready stop one interface, not the reading of all', async () => {
    const store: Store = {
      ...fixture.store,
      async callTemplateId(institutionId, interfaceId, template) {
        if (interfaceId === faulty.id) throw new Error('a template of another version');
        return fixture.store.callTemplateId(institutionId, interfaceId, template);
      },
    };
    await restart(store);
    await fixture.close(3);
    await fixture.clock.advance(100);
    assert.equal((await fixture.queue(sound))?.waiting, 0);
    assert.equal((await fixture.queue(faulty))?.waiting, 3);
    assert.equal(lines[0]?.event, 'interface.broken');
  });

  test('a call that cannot even be asked for, and an outcome that nobody can read, stop one interface', async () => {
    const unreadable = {
      ...answered(500),
      get reason(): string {
        throw new Error('a fault in the outcome');
      },
    } as unknown as Outcome;
    for (const outcome of [
      () => {
        throw new Error('a fault in the caller');
      },
      () => unreadable,
    ]) {
      fixture.callee.outcome = ({ url }) => (url.includes('/faulty/') ? outcome() : answered());
      lines.length = 0;
      await restart();
      await fixture.close([fixture.callee.calls.length + 1]);
      await fixture.clock.advance(100);
      assert.equal((await fixture.queue(sound))?.waiting, 0);
      assert.equal(lines[0]?.event, 'interface.broken');
      assert.ok((await fixture.executions(schedule)).some(({ status }) => status === 'ERROR'));
    }
  });
});
