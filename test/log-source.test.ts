import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogPage, LogQuestion } from '../src/engine/log-reader.ts';
import { LogSource } from '../src/engine/log-source.ts';
import type { Position } from '../src/store/store.ts';
import { settle } from './support/fake-clock.ts';

const LEDGER = { institutionId: 1, interfaceId: 1 };
const at = (closingId: number) => closingId as unknown as Position;

/** A log of closings 1 … `length`, read in pages of at most `pageMax`. */
function logOf(length: number, pageMax = 1_000) {
  const log = {
    length,
    reads: [] as number[],
    failing: false,
    async read({ after, limit }: LogQuestion): Promise<LogPage> {
      log.reads.push(Number(after));
      if (log.failing) throw new Error('the database is away');
      const count = Math.min(limit, pageMax, log.length - Number(after));
      const closingIds = Array.from({ length: Math.max(count, 0) }, (_, index) => Number(after) + index + 1);
      return {
        closingIds,
        orderIds: closingIds.map(String),
        positions: closingIds.map(at),
        passes: closingIds.map(() => true),
      };
    },
  };
  return log;
}

async function takeAll(source: LogSource): Promise<number[]> {
  const taken: number[] = [];
  while (!source.isExhausted) {
    await source.refill();
    for (let one = source.take(); one; one = source.take()) taken.push(one.closingId);
  }
  return taken;
}

for (const pageMax of [1_000, 3]) {
  test(`every closing is taken once, in order, from pages of at most ${pageMax}`, async () => {
    const source = new LogSource(logOf(1_003, pageMax), LEDGER, at(2));
    source.begin(undefined);
    assert.deepEqual(
      await takeAll(source),
      Array.from({ length: 1_001 }, (_, index) => index + 3),
    );
    assert.ok(source.isExhausted);
  });
}

test('what follows is read while a page is taken, and taken without waiting', async () => {
  const log = logOf(10_000);
  const source = new LogSource(log, LEDGER, at(0));
  source.begin(undefined);
  await source.refill();
  assert.equal(source.take()?.closingId, 1);
  assert.equal(log.reads.length, 2, 'nothing was read with the first of a page');
  await settle();
  const next = log.reads[1] as number;
  for (let taken = 1; taken < next; taken++) assert.ok(source.take(), 'the page ended early');
  assert.ok(source.isReady);
  assert.equal(source.take()?.closingId, next + 1);
  assert.equal(log.reads.length, 3);
});

test('closings that arrive while the end of the log is read are not forgotten', async () => {
  const log = logOf(5);
  const source = new LogSource(log, LEDGER, at(5));
  source.begin(undefined);
  const refilled = source.refill();
  await settle(1);
  log.length = 6;
  source.nudge();
  await refilled;
  assert.ok(!source.isExhausted);
  assert.deepEqual(await takeAll(source), [6]);
});

test('a read ahead that failed is made again when it is needed; one that fails then is told', async () => {
  const log = logOf(10_000);
  const source = new LogSource(log, LEDGER, at(0));
  source.begin(undefined);
  await source.refill();
  log.failing = true;
  let last = 0;
  for (let one = source.take(); one; one = source.take()) last = one.closingId;
  await settle();
  assert.equal(log.reads.length, 2);
  await assert.rejects(source.refill(), /database is away/);
  log.failing = false;
  await source.refill();
  assert.equal(source.take()?.closingId, last + 1);
});

test('what was read and not taken is read again after it was dropped, also what was on its way', async () => {
  const log = logOf(1_000);
  const source = new LogSource(log, LEDGER, at(0));
  source.begin(undefined);
  await source.refill();
  while (log.reads.length === 1) source.take();
  source.dropReadAhead();
  const next = log.reads[1] as number;
  await settle();
  assert.ok(!source.isExhausted);
  const rest = await takeAll(source);
  assert.ok((rest[0] as number) <= next);
  assert.deepEqual(
    rest,
    Array.from({ length: 1_000 - (rest[0] as number) + 1 }, (_, i) => (rest[0] as number) + i),
  );
});
