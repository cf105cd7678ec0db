/** Metrics in the text format of Prometheus. Labels never name an order, and an institution's names stay out. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Execution } from '../model/entities.ts';

export type EngineMetrics = {
  executionEnded(end: { readonly record: Execution }): void;
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
  return {
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
export type StoreFigures = { queueTotals(): Promise<QueueTotals>; horizonLagMs(): Promise<number> };

/** Memory, processor time and the event loop of this process, and the queues of all interfaces together. */
export function createServiceMetrics(store: StoreFigures): { text(): Promise<string> } {
  const register = new Registry();
  const registers = [register];
  collectDefaultMetrics({ register });
  new Gauge({
    name: 'orderhook_deliveries',
    help: 'Deliveries that are not made, over all interfaces, by state.',
    labelNames: ['state'],
    registers,
    async collect() {
      for (const [state, count] of Object.entries(await store.queueTotals())) this.set({ state }, count);
    },
  });
  new Gauge({
    name: 'orderhook_log_horizon_lag_seconds',
    help: 'For how long an older transaction in the database has held back the reading of new closings, at least.',
    registers,
    async collect() {
      this.set((await store.horizonLagMs()) / 1_000);
    },
  });
  return { text: () => register.metrics() };
}
