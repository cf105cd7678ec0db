/** What machines ask: does the process live, can it work, and its metrics. */
import { Type } from 'typebox';
import { AppError } from '../model/app-error.ts';
import type { Store } from '../store/store.ts';
import { type Route, route } from './route.ts';

const TAG = 'System';

export type Readiness = { readonly ready: boolean; readonly because?: string };

export function systemRoutes(parts: {
  store: Pick<Store, 'check'>;
  engineReadiness: () => Readiness | Promise<Readiness>;
  metrics: () => Promise<string>;
}): Route[] {
  const { store, engineReadiness, metrics } = parts;
  return [
    route({
      method: 'GET',
      path: '/healthz',
      role: 'ANYONE',
      tag: TAG,
      summary: 'Whether the process lives',
      answers: { 200: Type.Object({ status: Type.Enum(['ok']) }) },
      handle: async () => ({ status: 'ok' }),
    }),
    route({
      method: 'GET',
      path: '/readyz',
      role: 'ANYONE',
      tag: TAG,
      summary: 'Whether it can do its work: the database answers and the engine runs; 503 otherwise',
      answers: { 200: Type.Object({ status: Type.Enum(['ready']) }) },
      async handle() {
        await store.check();
        const { ready, because } = await engineReadiness();
        if (!ready) throw new AppError('store_unavailable', because ?? 'The engine is not ready.');
        return { status: 'ready' };
      },
    }),
    route({
      method: 'GET',
      path: '/metrics',
      role: 'KEY_OR_LOOPBACK',
      tag: TAG,
      summary: 'Metrics for Prometheus; needs a key, or a request from this machine',
      answers: { 200: Type.String() },
      answerType: 'text/plain',
      async handle({ reply }) {
        reply.type('text/plain; version=0.0.4; charset=utf-8');
        return metrics();
      },
    }),
  ];
}
