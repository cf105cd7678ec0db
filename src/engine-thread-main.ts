/** What runs in the engine's thread: its own store, caller and engine, put together and taken apart again. */
import { parentPort, workerData } from 'node:worker_threads';
import { createCaller } from './caller/caller.ts';
import { toCrossed } from './crossing-error.ts';
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
const store = await openStore(options.database, log);
const caller = createCaller({
  userAgent: USER_AGENT,
  limits: options.limits,
  ...(options.egressProxy === '' ? {} : { egressProxy: options.egressProxy }),
  ...(options.extraCa === '' ? {} : { extraCa: options.extraCa }),
});
const reader = await startLogReaderThread(options.database, options.logLevel);
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

function tell(told: EngineThreadAnswer): void {
  port?.postMessage(told);
}

async function valueFor(kind: EngineThreadRequest['kind']): Promise<unknown> {
  if (kind === 'metrics') return metrics.text();
  if (kind === 'readiness') return engine.readiness();
  await engine.stop();
  await caller.close();
  await reader.stop();
  await store.close();
  return undefined;
}

// A question that fails fails for whoever asked: the engine goes on.
port.on('message', ({ kind, id }: EngineThreadRequest) => {
  valueFor(kind).then(
    (value) => tell({ id, value }),
    (error) => tell({ id, error: toCrossed(error) }),
  );
});

await engine.start();
tell({ id: 0, value: undefined });
