/**
 * Runs histories in a thread: the test runner watches every promise of its own thread, which makes a history take twice
 * as long.
 */
import { isMainThread, parentPort, threadId, Worker, workerData } from 'node:worker_threads';
import { openSqliteStore } from '../../src/store/sqlite/sqlite-store.ts';
import { emptyCounts, History, type HistoryCounts } from './crash-simulation.ts';

export type SimulationOrder = {
  /** Seeds, one after the other until the time is over. */
  readonly seeds: readonly number[];
  readonly forMs: number;
};
export type SimulationResult = {
  readonly histories: number;
  readonly counts: HistoryCounts;
  /** Of the first history in which a promise was broken. */
  readonly failure?: string;
};

/** The histories before slow the store down. */
const HISTORIES_PER_STORE = 50;

export function addCounts(to: HistoryCounts, more: HistoryCounts): void {
  for (const name of Object.keys(to) as (keyof HistoryCounts)[]) to[name] += more[name];
}

export function simulateInThread(order: SimulationOrder): Promise<SimulationResult> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: order });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

async function simulate({ seeds, forMs }: SimulationOrder): Promise<SimulationResult> {
  const endsAt = performance.now() + forMs;
  const counts = emptyCounts();
  let histories = 0;
  while (histories < seeds.length && performance.now() < endsAt) {
    // A name of its own: stores of one name tell each other of changes, over the threads.
    const store = openSqliteStore({ file: `file:simulation-${threadId}?mode=memory` });
    try {
      for (const seed of seeds.slice(histories, histories + HISTORIES_PER_STORE)) {
        if (performance.now() > endsAt) break;
        const history = new History(seed, store);
        histories += 1;
        await history.run();
        addCounts(counts, history.counts);
      }
    } catch (error) {
      return { histories, counts, failure: String(error) };
    } finally {
      await store.close();
    }
  }
  return { histories, counts };
}

if (!isMainThread) parentPort?.postMessage(await simulate(workerData as SimulationOrder));
