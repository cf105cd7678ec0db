/** An interface made ready to be called: compiled once per change of it, not per order. */

import { compileFilter, type Filter } from '../filter/filter.ts';
import type { Method } from '../model/entities.ts';
import type { CallRequest } from '../model/outcome.ts';
import type { EngineInterface, QueueStore } from '../store/store.ts';
import { compileTemplate } from '../template/template.ts';

export type CallTarget = {
  readonly fill: (orderId: string) => CallRequest;
  readonly filter: (Filter & { readonly text: string }) | undefined;
  /** Under which the call log keeps what is sent. */
  readonly callTemplateId: number;
  readonly concurrency: number;
  readonly simulation: boolean;
  readonly active: boolean;
  /** Undefined: there is no open proxy opening, so nothing may be called. */
  readonly opening: { readonly allowPrivate: boolean } | undefined;
  readonly destination: string;
  /** Attempts of one delivery, after which it is abandoned. */
  readonly attemptsMax: number;
  /** Whether the other one calls the same URL with the same method: what a callee asked for holds for that only. */
  isSameDestination(other: CallTarget): boolean;
  readonly method: Method;
  readonly url: string;
};

export async function prepareTarget(
  store: Pick<QueueStore, 'callTemplateId'>,
  { externalInterface, opening }: EngineInterface,
  userAgent: string,
): Promise<CallTarget> {
  const { id, institutionId, method, url, payload, filter } = externalInterface;
  const template = { method, url, ...(payload === undefined ? {} : { payload }) };
  const compiled = compileTemplate(template);
  return {
    fill: (orderId) => compiled.fill(orderId),
    filter: filter === undefined ? undefined : { text: filter, ...compileFilter(filter) },
    callTemplateId: await store.callTemplateId(institutionId, id, { ...template, userAgent }),
    concurrency: externalInterface.concurrency,
    simulation: externalInterface.simulation,
    active: externalInterface.active,
    opening,
    destination: externalInterface.destination,
    attemptsMax: externalInterface.attemptsMax,
    isSameDestination: (other) => other.url === url && other.method === method,
    method,
    url,
  };
}
