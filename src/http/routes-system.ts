/** What machines ask: does the process live, can it work, and its metrics. */
import { Type } from 'typebox';
import { AppError } from '../model/app-error.ts';
import type { Store } from '../store/store.ts';
import { type Route, route } from './route.ts';

const TAG = 'System';

export type Readiness = { readonly ready: boolean; readonly because?: string };

export function systemRoutes(parts: {
  store: Pick<Store, 'check' | 'horizonLagMs'>;
  engineReadiness: () => Readiness | Promise<Readiness>;
  metrics: () => Promise<string>;
  /** Aborted when the process is asked to end. */
  ending?: AbortSignal | undefined;
}): Route[] {
  const { store, engineReadiness, metrics, ending } = parts;
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
      answers: {
        200: Type.Object({
          status: Type.Enum(['ready']),
          horizonLagMs: Type.Integer({
            description:
              'For how long a transaction elsewhere in the database has held back new closings, at least. They are called when it ends.',
          }),
        }),
      },
      async handle() {
        if (ending?.aborted) throw new AppError('store_unavailable', 'The service is stopping.');
        await store.check();
        const { ready, because } = await engineReadiness();
        if (!ready) throw new AppError('store_unavailable', because ?? 'The engine is not ready.');
        // Somebody else's long transaction is no reason to take a node out of use: the others wait for it too.
        return { status: 'ready', horizonLagMs: await store.horizonLagMs() };
      },
    }),
    route({
      method: 'GET',
      path: '/metrics',
      role: 'KEY_OR_LOOPBACK',
      tag: TAG,
      summary: 'Metrics for Prometheus; needs a key, or a request from this machine',
      description:
        'From this machine means: over a loopback address and through no proxy. The host of the request must be an address of ' +
        'this service, `localhost`, or in ORDERHOOK_HOSTS.',
      refusesOtherHosts: true,
      answers: { 200: Type.String() },
      answerType: 'text/plain',
      async handle({ reply }) {
        reply.type('text/plain; version=0.0.4; charset=utf-8');
        return metrics();
      },
    }),
  ];
}
