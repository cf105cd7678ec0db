/** What runs in the engine's thread: its own store, caller and engine, put together and taken apart again. */
import { parentPort, workerData } from 'node:worker_threads';
import { createCaller } from './caller/caller.ts';
import { createEngine } from './engine/engine.ts';
import type { EngineThreadAnswer, EngineThreadOptions, EngineThreadRequest } from './engine-thread.ts';
import { startLogReaderThread } from './log-reader-thread.ts';
import { systemClock } from './model/clock.ts';
import { createLog } from './observe/log.ts';
import { createEngineMetrics } from './observe/metrics.ts';
import { leaseTimes, openStore } from './open-store.ts';
import { USER_AGENT } from './version.ts';

const port = parentPort;
if (!port) throw new Error('This module runs in a thread only.');
const options = workerData as EngineThreadOptions;

const log = createLog(options.logLevel);
const store = await openStore(options.database);
const caller = createCaller({
  userAgent: USER_AGENT,
  limits: options.limits,
  ...(options.egressProxy === '' ? {} : { egressProxy: options.egressProxy }),
  ...(options.extraCa === '' ? {} : { extraCa: options.extraCa }),
});
const reader = await startLogReaderThread(options.database);
const metrics = createEngineMetrics();
const engine = createEngine({
  store,
  reader,
  caller,
  clock: systemClock,
  random: Math.random,
  log,
  userAgent: USER_AGENT,
  leases: leaseTimes(options.database),
  retentionMs: options.retentionMs,
  orderRetentionMs: options.orderRetentionMs,
  onExecutionEnd: metrics.executionEnded,
});

function answer(id: number, value: unknown): void {
  port?.postMessage({ id, value } satisfies EngineThreadAnswer);
}

port.on('message', async ({ kind, id }: EngineThreadRequest) => {
  if (kind === 'metrics') return answer(id, await metrics.text());
  if (kind === 'readiness') return answer(id, engine.readiness());
  await engine.stop();
  await caller.close();
  await reader.stop();
  await store.close();
  answer(id, undefined);
});

await engine.start();
answer(0, undefined);
