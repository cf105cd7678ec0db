/** The one place that decides what a crash can lose or repeat: checked against a model of what was called. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Delivery, Ledger } from '../src/engine/ledger.ts';
import type { Attempt } from '../src/model/delivery.ts';
import type { Position } from '../src/store/store.ts';

const CONCURRENCY = 4;
const attempt = { callTemplateId: 1 } as Attempt & { callTemplateId: number };
const toPosition = (id: number) => id as unknown as Position;
const toId = (position: Position | undefined) => position as unknown as number | undefined;

/** What a store would have after some commits: a cursor and the owed closings. */
class Kept {
  cursor = 0;
  readonly owed = new Set<number>();

  commit(ledger: Ledger): void {
    const progress = ledger.take();
    if (!progress) return;
    this.cursor = Math.max(this.cursor, toId(progress.cursor) ?? 0);
    for (const id of progress.settled) this.owed.delete(id);
    for (const { closingId } of progress.owed) this.owed.add(closingId);
  }

  /** Whether a new process would look at the closing. */
  willCall(id: number): boolean {
    return id > this.cursor || this.owed.has(id);
  }
}

const step = fc.oneof(
  { weight: 5, arbitrary: fc.constant({ kind: 'start' } as const) },
  { weight: 1, arbitrary: fc.constant({ kind: 'pass' } as const) },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('end' as const), which: fc.nat(), failed: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'commit' } as const) },
);

function fromLog(closingId: number): Delivery {
  const page = {
    closingIds: [closingId],
    orderIds: [String(closingId)],
    positions: [toPosition(closingId)],
    passes: [true],
  };
  return Delivery.fromLog(page, 0);
}

test('at any moment a crash loses nothing, and repeats only what was not committed', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const ledger = new Ledger(1, 1, 0, 0);
      const kept = new Kept();
      const running: Delivery[] = [];
      const committedDone = new Set<number>();
      const uncommittedDone = new Set<number>();
      const failed = new Set<number>();
      let next = 1;
      for (const one of steps) {
        if (one.kind === 'start' && running.length < CONCURRENCY) {
          const delivery = fromLog(next);
          ledger.started(delivery);
          running.push(delivery);
          next += 1;
        } else if (one.kind === 'pass') {
          ledger.passed(fromLog(next));
          uncommittedDone.add(next);
          next += 1;
        } else if (one.kind === 'end' && running.length > 0) {
          const [delivery] = running.splice(one.which % running.length, 1) as [Delivery];
          if (one.failed) {
            ledger.ended(delivery, attempt, { kind: 'owed', attempts: 1, dueAt: 0 });
            failed.add(delivery.closingId);
          } else {
            ledger.ended(delivery, attempt, { kind: 'settled' });
            uncommittedDone.add(delivery.closingId);
          }
        } else if (one.kind === 'commit') {
          kept.commit(ledger);
          for (const id of uncommittedDone) committedDone.add(id);
          uncommittedDone.clear();
        }
        for (let id = 1; id < next; id += 1) {
          const isDone = committedDone.has(id) || uncommittedDone.has(id);
          if (!isDone) assert.ok(kept.willCall(id), `closing ${id} would be lost`);
          if (committedDone.has(id)) assert.ok(!kept.willCall(id), `closing ${id} would be repeated`);
        }
        assert.equal(ledger.runningCount, running.length);
      }
      kept.commit(ledger);
      assert.equal(ledger.owedCount, kept.owed.size, 'the count of owed closings follows the store');
      for (const id of failed) assert.ok(kept.owed.has(id));
    }),
    { numRuns: 500 },
  );
});
