/** What is told at once of a proxy opening that would let no call through. */
import { isIP } from 'node:net';
import { type Resolve, resolveDestination } from '../caller/destination.ts';
import { isLocalhost } from '../caller/hosts-file.ts';
import type { ProxyOpening } from '../model/entities.ts';
import type { Warning } from '../model/problem.ts';

/** Somebody waits for the answer: a slow DNS must not hold it for longer. */
const RESOLVE_MS_MAX = 3_000;

/**
 * Names are asked for only when an administrator has opened the destination: whoever may request one could otherwise find
 * out by names what there is in the network of the service. With an egress proxy it is the proxy that resolves them.
 */
export async function openingWarnings(
  { destination, state, allowPrivate }: Pick<ProxyOpening, 'destination' | 'state' | 'allowPrivate'>,
  { resolve, hasEgressProxy }: { resolve: Resolve; hasEgressProxy: boolean },
): Promise<Warning[]> {
  if (allowPrivate || (state !== 'REQUESTED' && state !== 'OPEN')) return [];
  const host = destination.slice(0, destination.lastIndexOf(':'));
  const isKnownAtOnce = isIP(host.replace(/^\[(.*)\]$/, '$1')) !== 0 || isLocalhost(host);
  if (!isKnownAtOnce && (state !== 'OPEN' || hasEgressProxy)) return [];
  const question = isLocalhost(host) ? { host: '127.0.0.1' } : { host };
  const verdict = await inTime(resolveDestination({ ...question, allowPrivate, resolve }));
  if (verdict === undefined || verdict.allowed || verdict.reason !== 'destination_not_allowed') return [];
  const opened =
    state === 'OPEN' ? 'is open, and yet every call is refused' : 'is to be opened with allowPrivate';
  const path = state === 'OPEN' ? 'allowPrivate' : 'destination';
  return [{ path, message: `${destination} ${opened}: ${verdict.detail}.` }];
}

async function inTime<T>(answer: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(late.resolve, RESOLVE_MS_MAX, undefined);
  try {
    return await Promise.race([answer, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
