/** What runs in the engine's thread: its own store, caller and engine, put together and taken apart again. */
import { parentPort, workerData } from 'node:worker_threads';
import { createCaller } from './caller/caller.ts';
import { toCrossed } from './crossing-error.ts';
import { createEngine, type Engine } from './engine/engine.ts';
import { stopEngine } from './engine-stop.ts';
import type {
  EngineThreadAnswer,
  EngineThreadOptions,
  EngineThreadRequest,
  SlotAnswer,
} from './engine-thread.ts';
import { startLogReaderThread } from './log-reader-thread.ts';
import { systemClock } from './model/clock.ts';
import { Releasers } from './model/releasers.ts';
import { createLog } from './observe/log.ts';
import { createEngineMetrics } from './observe/metrics.ts';
import { leaseTimes, openStore } from './open-store.ts';
import { USER_AGENT } from './version.ts';

const port = parentPort;
if (!port) throw new Error('This module runs in a thread only.');
const options = workerData as EngineThreadOptions;

const log = createLog(options.logLevel);
const metrics = createEngineMetrics();
const releasers = new Releasers();
/** Aborted when the thread is asked to end, which may be while it starts. */
const asked = new AbortController();

async function start(): Promise<{ engine: Engine; caller: ReturnType<typeof createCaller> }> {
  const store = await openStore(options.database, { log, asked: asked.signal });
  releasers.push(() => store.close());
  const caller = createCaller({
    userAgent: USER_AGENT,
    limits: options.limits,
    egressProxy: options.egressProxy,
    ...(options.extraCa === '' ? {} : { extraCa: options.extraCa }),
  });
  releasers.push(() => caller.destroy());
  const reader = await startLogReaderThread(options.database, options.logLevel);
  releasers.push(() => reader.stop());
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
    onShortage: metrics.shortageChanged,
  });
  await engine.start();
  return { engine, caller };
}

const starting = start();

async function stop(callsMs: number): Promise<void> {
  asked.abort();
  // Failing, it has told so already.
  const parts = await starting.catch(() => undefined);
  if (parts) {
    // Pushed last, it runs first: what it commits needs all the others.
    releasers.push(async () => {
      const cutCalls = await stopEngine({ ...parts, clock: systemClock, callsMs });
      if (cutCalls > 0) {
        log.warn(
          { event: 'stop.cut', calls: cutCalls },
          'calls ran longer than a stop may take; their orders stay in the queue',
        );
      }
    });
  }
  await releasers.release();
}

async function answerTo(request: EngineThreadRequest): Promise<unknown> {
  if (request.kind === 'stop') {
    await stop(request.callsMs);
    return metrics.text();
  }
  if (request.kind === 'metrics') return metrics.text();
  const { engine } = await starting;
  if (request.kind === 'reserve_slot') return reserveSlot(engine, request);
  if (request.kind === 'give_back_slot') return giveBackSlot(request.slot);
  return engine.readiness();
}

/** Slots that were taken for whoever asked, by number. */
const slots = new Map<number, () => void>();
let lastSlot = 0;

async function reserveSlot(
  engine: Engine,
  { institutionId, interfaceId }: Extract<EngineThreadRequest, { kind: 'reserve_slot' }>,
): Promise<SlotAnswer> {
  const taken = await engine.reserveSlot(institutionId, interfaceId);
  if (typeof taken === 'string') return taken;
  lastSlot += 1;
  slots.set(lastSlot, taken);
  return lastSlot;
}

function giveBackSlot(slot: number): void {
  slots.get(slot)?.();
  slots.delete(slot);
}

function tell(told: EngineThreadAnswer): void {
  port?.postMessage(told);
}

// A question that fails fails for whoever asked: the engine goes on.
port.on('message', (request: EngineThreadRequest) => {
  const { id } = request;
  answerTo(request).then(
    (value) => tell({ id, value }),
    (error) => tell({ id, error: toCrossed(error) }),
  );
});

try {
  await starting;
} catch (error) {
  // Nothing that was begun stays behind; the first error is the one that whoever started the thread hears of, by its death.
  await releasers.release().catch(() => {});
  throw error;
}
tell({ id: 0, value: undefined });
