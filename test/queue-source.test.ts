import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LogPage, LogQuestion } from '../src/engine/log-reader.ts';
import { QueueSource } from '../src/engine/queue-source.ts';
import type { Position } from '../src/store/store.ts';
import { settle } from './support/fake-clock.ts';

const LEDGER = { institutionId: 1, interfaceId: 1 };
const NOTHING_OWED = { owed: async () => [] };
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

async function takeAll(source: QueueSource): Promise<number[]> {
  const taken: number[] = [];
  do {
    for (let one = source.next(); one; one = source.next()) taken.push(one.closingId);
  } while (await source.refill());
  return taken;
}

for (const pageMax of [1_000, 3]) {
  test(`every closing is taken once, in order, from pages of at most ${pageMax}`, async () => {
    const source = new QueueSource(NOTHING_OWED, logOf(1_003, pageMax), LEDGER, at(2));
    source.begin({ owed: false, filter: undefined });
    assert.deepEqual(
      await takeAll(source),
      Array.from({ length: 1_001 }, (_, index) => index + 3),
    );
    assert.equal(source.mayHaveWaiting, false);
  });
}

test('what follows is read while a page is taken, and taken without waiting', async () => {
  const log = logOf(10_000);
  const source = new QueueSource(NOTHING_OWED, log, LEDGER, at(0));
  source.begin({ owed: false, filter: undefined });
  await source.refill();
  assert.equal(source.next()?.closingId, 1);
  assert.equal(log.reads.length, 2, 'nothing was read with the first of a page');
  await settle();
  const next = log.reads[1] as number;
  for (let taken = 1; taken < next; taken++) assert.ok(source.next(), 'the page ended early');
  assert.ok(source.hasReadAhead);
  assert.equal(source.next()?.closingId, next + 1);
  assert.equal(log.reads.length, 3);
});

test('closings that arrive while the end of the log is read are not forgotten', async () => {
  const log = logOf(5);
  const source = new QueueSource(NOTHING_OWED, log, LEDGER, at(5));
  source.begin({ owed: false, filter: undefined });
  const refilled = source.refill();
  await settle(1);
  log.length = 6;
  source.nudge();
  await refilled;
  assert.ok(source.mayHaveWaiting);
  assert.deepEqual(await takeAll(source), [6]);
});

test('a read ahead that failed is made again when it is needed; one that fails then is told', async () => {
  const log = logOf(10_000);
  const source = new QueueSource(NOTHING_OWED, log, LEDGER, at(0));
  source.begin({ owed: false, filter: undefined });
  await source.refill();
  log.failing = true;
  let last = 0;
  for (let one = source.next(); one; one = source.next()) last = one.closingId;
  await settle();
  assert.equal(log.reads.length, 2);
  await assert.rejects(source.refill(), /database is away/);
  log.failing = false;
  await source.refill();
  assert.equal(source.next()?.closingId, last + 1);
});

test('what was read and not taken is read again after it was dropped, also what was on its way', async () => {
  const log = logOf(1_000);
  const source = new QueueSource(NOTHING_OWED, log, LEDGER, at(0));
  source.begin({ owed: false, filter: undefined });
  await source.refill();
  while (log.reads.length === 1) source.next();
  source.dropReadAhead();
  const next = log.reads[1] as number;
  await settle();
  assert.ok(source.mayHaveWaiting);
  const rest = await takeAll(source);
  assert.ok((rest[0] as number) <= next);
  assert.deepEqual(
    rest,
    Array.from({ length: 1_000 - (rest[0] as number) + 1 }, (_, i) => (rest[0] as number) + i),
  );
});
