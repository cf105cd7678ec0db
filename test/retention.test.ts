/** When retention looks, how it pauses, and what it says of a log that cannot be cut. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { keepRetention, type UpkeepStore } from '../src/engine/retention.ts';
import type { Log } from '../src/observe/log.ts';
import type { RoomStep } from '../src/store/store.ts';
import { FakeClock } from './support/fake-clock.ts';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const LOOK_MS = 10_000;

type Line = { level: string; event: string; [field: string]: unknown };

function fixture(given: Partial<UpkeepStore>) {
  const clock = new FakeClock();
  const lines: Line[] = [];
  const tell = (level: string) => (line: object) => void lines.push({ level, ...line } as Line);
  const log = { info: tell('info'), warn: tell('warn') } as unknown as Log;
  const store: UpkeepStore = {
    removeOlderThan: async () => 0,
    removeOrdersOlderThan: async () => ({ removed: 0, hasMore: false }),
    giveRoomBack: async () => ({ hasMore: false }),
    ...given,
  };
  return { clock, lines, log, store, retentionMs: 365 * DAY_MS };
}

describe('retention', () => {
  test('looks each minute, and goes on after a pause while there is something to remove', async () => {
    const times: number[] = [];
    const parts = fixture({
      async removeOlderThan(time) {
        times.push(time);
        return times.length < 3 ? 500 : 0;
      },
    });
    const start = parts.clock.now();
    const end = keepRetention(parts);
    await parts.clock.advance(MINUTE_MS + 1_000);
    assert.deepEqual(
      times.map((time) => time - start + 365 * DAY_MS),
      [MINUTE_MS, MINUTE_MS + 50, MINUTE_MS + 100],
    );
    end();
    await parts.clock.advance(10 * MINUTE_MS);
    assert.equal(times.length, 3);
  });

  test('removes orders only where their time is set, by their own time', async () => {
    const asked: [number, number][] = [];
    const parts = fixture({
      async removeOrdersOlderThan(time, now) {
        asked.push([now - time, now]);
        return { removed: 0, hasMore: asked.length < 2 };
      },
    });
    const start = parts.clock.now();
    keepRetention(parts)();
    keepRetention(parts);
    await parts.clock.advance(2 * MINUTE_MS);
    assert.equal(asked.length, 0);
    const end = keepRetention({ ...parts, orderRetentionMs: 7 * DAY_MS });
    await parts.clock.advance(MINUTE_MS + 1_000);
    end();
    assert.deepEqual(
      asked.map(([age, now]) => [age, now - start]),
      [
        [7 * DAY_MS, 3 * MINUTE_MS],
        [7 * DAY_MS, 3 * MINUTE_MS + 50],
      ],
    );
  });

  test('goes on with the rest when one part fails, and tries that again', async () => {
    let tries = 0;
    let looks = 0;
    const parts = fixture({
      async removeOlderThan() {
        tries += 1;
        throw new Error('away');
      },
      async giveRoomBack() {
        looks += 1;
        return { hasMore: false };
      },
    });
    const end = keepRetention(parts);
    await parts.clock.advance(2 * MINUTE_MS);
    end();
    assert.equal(tries, 2);
    assert.equal(looks, 12);
    assert.deepEqual(
      parts.lines.map(({ event, what }) => [event, what]),
      [
        ['retention.failed', 'log'],
        ['retention.failed', 'log'],
      ],
    );
  });

  test('tells once of a log that somebody holds, since when and how long it is, and once when it is cut', async () => {
    let step: RoomStep = { hasMore: false };
    const parts = fixture({ giveRoomBack: async () => step });
    const { clock, lines } = parts;
    const since = new Date(clock.now() + LOOK_MS).toISOString();
    const end = keepRetention(parts);
    step = { hasMore: false, heldLogBytes: 100 };
    await clock.advance(LOOK_MS);
    assert.deepEqual(lines, [], 'it may be a read of our own');
    step = { hasMore: false, heldLogBytes: 200 };
    await clock.advance(10 * LOOK_MS);
    assert.deepEqual(lines, [{ level: 'warn', event: 'database.log_held', bytes: 200, since }]);
    step = { hasMore: false };
    await clock.advance(5 * LOOK_MS);
    assert.deepEqual(lines.slice(1), [{ level: 'info', event: 'database.log_released' }]);
    step = { hasMore: false, heldLogBytes: 300 };
    await clock.advance(LOOK_MS);
    step = { hasMore: false };
    await clock.advance(LOOK_MS);
    assert.equal(lines.length, 2, 'one that was over at the next look');
    step = { hasMore: false, heldLogBytes: 400 };
    await clock.advance(3 * LOOK_MS);
    assert.equal(lines.length, 3, 'another one');
    end();
  });
});
