/**
 * The engine through thousands of short random histories, each judged by `History`. A failing one names its seed; to
 * see it alone, write the seed into ONLY.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openSqliteStore } from '../src/store/sqlite/sqlite-store.ts';
import { History, type HistoryCounts } from './support/crash-simulation.ts';

/** Seeds of histories to run and nothing else. */
const ONLY: readonly number[] = [];
const FOR_MS = 15_000;
const HISTORIES_MAX = 10_000;
/** Institutions of the histories before slow the store down. */
const HISTORIES_PER_STORE = 50;

test('no promise is broken in thousands of random histories of crashes, outages and callees', async (t) => {
  const first = Math.floor(Math.random() * 1_000_000_000);
  const totals: HistoryCounts = {
    closings: 0,
    calls: 0,
    crashes: 0,
    stops: 0,
    outages: 0,
    resends: 0,
    repeated: 0,
    abandoned: 0,
  };
  const seeds = ONLY.length > 0 ? ONLY : Array.from({ length: HISTORIES_MAX }, (_, index) => first + index);
  const startedAt = performance.now();
  let histories = 0;
  while (histories < seeds.length && performance.now() - startedAt < FOR_MS) {
    const store = openSqliteStore({ file: ':memory:' });
    try {
      for (const seed of seeds.slice(histories, histories + HISTORIES_PER_STORE)) {
        const history = new History(seed, store);
        await history.run();
        histories += 1;
        for (const name of Object.keys(totals) as (keyof HistoryCounts)[])
          totals[name] += history.counts[name];
      }
    } finally {
      await store.close();
    }
  }
  t.diagnostic(`${histories} histories with the seeds from ${seeds[0]} on: ${JSON.stringify(totals)}`);
  if (ONLY.length > 0) return;
  for (const [name, count] of Object.entries(totals)) assert.ok(count > 0, `there was nothing of ${name}`);
});
