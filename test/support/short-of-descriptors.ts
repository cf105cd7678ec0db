/** Makes calls at once, to the URLs given, each so often, and prints what came of them: for a process with few descriptors. */
import { createCaller } from '../../src/caller/caller.ts';
import type { Outcome } from '../../src/model/outcome.ts';

const [times, extraCa, ...urls] = process.argv.slice(2) as [string, string, ...string[]];
const limits = { connectMs: 4_000, firstByteMs: 4_000, exchangeMs: 8_000 };
const caller = createCaller({ userAgent: 'Orderhook/0.0.0-test', limits, extraCa });
const call = (url: string) =>
  new Promise<Outcome>((resolve) => {
    caller.call({ method: 'GET', url }, { allowPrivate: true }, resolve);
  });

const counts = new Map<string, number>();
for (const url of urls) {
  for (const outcome of await Promise.all(Array.from({ length: Number(times) }, () => call(url)))) {
    const what = outcome.delivered ? 'delivered' : `${outcome.reason}: ${outcome.detail.split(':')[0]}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
}
await caller.close();
console.log(JSON.stringify(Object.fromEntries(counts)));
