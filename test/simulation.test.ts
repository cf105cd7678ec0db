/**
 * The engine through thousands of short random histories, each judged by `History`. A failing one names its seed; to
 * see it alone, write the seed into ONLY.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { emptyCounts } from './support/crash-simulation.ts';
import { addCounts, simulateInThread } from './support/crash-simulation-thread.ts';

/** Seeds of histories to run, and nothing else. */
const ONLY: readonly number[] = [];
const FOR_MS = 15_000;
const HISTORIES_MAX = 20_000;
const THREADS = 2;

test('no promise is broken in random histories of crashes, outages, settings and callees', async (t) => {
  const first = Math.floor(Math.random() * 1_000_000_000);
  const seeds = ONLY.length > 0 ? ONLY : Array.from({ length: HISTORIES_MAX }, (_, index) => first + index);
  const results = await Promise.all(
    Array.from({ length: THREADS }, (_, thread) =>
      simulateInThread({ seeds: seeds.filter((_seed, index) => index % THREADS === thread), forMs: FOR_MS }),
    ),
  );
  const counts = emptyCounts();
  for (const result of results) addCounts(counts, result.counts);
  const histories = results.reduce((sum, result) => sum + result.histories, 0);
  t.diagnostic(`${histories} histories, seeds from ${seeds[0]} on: ${JSON.stringify(counts)}`);
  for (const { failure } of results) assert.equal(failure, undefined, failure);
  if (ONLY.length > 0) return;
  for (const [name, count] of Object.entries(counts)) assert.ok(count > 0, `there was nothing of ${name}`);
});
