/** Metrics in the text format of Prometheus. Labels never name an order, and an institution's names stay out. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Execution } from '../model/entities.ts';

export type EngineMetrics = {
  executionEnded(end: { readonly record: Execution }): void;
  shortageChanged(isShort: boolean): void;
  text(): Promise<string>;
};

/** Of the engine; the process's own are with `createServiceMetrics`. */
export function createEngineMetrics(): EngineMetrics {
  const registers = [new Registry()];
  const executions = new Counter({
    name: 'orderhook_executions_total',
    help: 'Executions that ended, by status.',
    labelNames: ['status'],
    registers,
  });
  const deliveries = new Counter({
    name: 'orderhook_calls_total',
    help: 'Calls, by what they came to; an abandoned call is counted as failed too.',
    labelNames: ['outcome'],
    registers,
  });
  const looked = new Counter({
    name: 'orderhook_closings_looked_at_total',
    help: 'Closings and owed orders that executions took from the queue.',
    registers,
  });
  const filteredOut = new Counter({
    name: 'orderhook_closings_filtered_out_total',
    help: 'Closings that a filter did not let pass.',
    registers,
  });
  const duration = new Histogram({
    name: 'orderhook_execution_duration_seconds',
    help: 'From the start of an execution to its end.',
    buckets: [0.005, 0.025, 0.1, 0.5, 1, 5, 30, 120, 600],
    registers,
  });
  const shortage = new Gauge({
    name: 'orderhook_calls_short',
    help: '1 while calls wait because this machine is short of file descriptors, ports or memory.',
    registers,
  });
  return {
    shortageChanged(isShort) {
      shortage.set(isShort ? 1 : 0);
    },
    executionEnded({ record }) {
      executions.inc({ status: record.status });
      deliveries.inc({ outcome: 'delivered' }, record.delivered);
      deliveries.inc({ outcome: 'failed' }, record.failed);
      deliveries.inc({ outcome: 'abandoned' }, record.abandoned);
      looked.inc(record.looked);
      filteredOut.inc(record.filteredOut);
      duration.observe(((record.endedAt ?? record.startedAt) - record.startedAt) / 1_000);
    },
    text: () => (registers[0] as Registry).metrics(),
  };
}

export type QueueTotals = { readonly waiting: number; readonly owed: number; readonly abandoned: number };

/** What the store says of itself. */
export type StoreFigures = {
  check(): Promise<void>;
  queueTotals(): Promise<QueueTotals>;
  horizonLagMs(): Promise<number>;
};

/** What takes longer is left out: whoever scrapes waits some seconds, and would have nothing of the rest either. */
const FIGURE_WITHIN_MS = 1_000;

/**
 * Memory, processor time and the event loop of this process, whether the store answers, and the queues of all interfaces
 * together. What the store cannot say, or not in time, is left out.
 */
export function createServiceMetrics(
  store: StoreFigures,
  withinMs = FIGURE_WITHIN_MS,
): { text(): Promise<string> } {
  const register = new Registry();
  const registers = [register];
  collectDefaultMetrics({ register });
  const answers = figure(() => store.check().then(() => true), withinMs);
  const queueTotals = figure(() => store.queueTotals(), withinMs);
  const horizonLagMs = figure(() => store.horizonLagMs(), withinMs);
  new Gauge({
    name: 'orderhook_store_up',
    help: 'Whether the database answered just now: 1 or 0. What it could not say is left out.',
    registers,
    async collect() {
      this.set((await answers()) ? 1 : 0);
    },
  });
  new Gauge({
    name: 'orderhook_deliveries',
    help: 'Deliveries that are not made, over all interfaces, by state.',
    labelNames: ['state'],
    registers,
    async collect() {
      const totals = await queueTotals();
      this.reset();
      for (const [state, count] of Object.entries(totals ?? {})) this.set({ state }, count);
    },
  });
  new Gauge({
    name: 'orderhook_log_horizon_lag_seconds',
    help: 'For how long an older transaction in the database has held back the reading of new closings, at least.',
    registers,
    async collect() {
      const lagMs = await horizonLagMs();
      if (lagMs === undefined) this.remove();
      else this.set(lagMs / 1_000);
    },
  });
  return { text: () => register.metrics() };
}

/**
 * A figure that may not be had: undefined when asking fails or takes too long. Asked again meanwhile, nothing is asked anew:
 * a database that stands still must not have more to do when it wakes, the more it was looked at.
 */
export function figure<T>(ask: () => Promise<T>, withinMs: number): () => Promise<T | undefined> {
  let asking: Promise<T | undefined> | undefined;
  return async () => {
    asking ??= ask()
      .catch(() => undefined)
      .finally(() => {
        asking = undefined;
      });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, withinMs, undefined);
    });
    try {
      return await Promise.race([asking, late]);
    } finally {
      clearTimeout(timer);
    }
  };
}
