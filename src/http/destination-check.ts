/** Whether an institution may call a destination right now: its proxy opening, then the addresses. One answer for saving and previewing. */
import { type Resolve, resolveDestination } from '../caller/destination.ts';
import type { InstitutionId } from '../model/entities.ts';
import type { FailureReason } from '../model/outcome.ts';
import type { Store } from '../store/store.ts';

export type DestinationCheck =
  /** `detail`: where the egress proxy resolves the name, that it does. One sentence for people. */
  | { readonly allowed: true; readonly detail?: string }
  | { readonly allowed: false; readonly reason: FailureReason; readonly detail: string };

/** Somebody waits for a save: a slow DNS must not hold it for longer. */
const RESOLVE_MS_MAX = 3_000;

export async function checkDestination(question: {
  readonly store: Pick<Store, 'openOpening'>;
  readonly resolve: Resolve;
  readonly hasEgressProxy: boolean;
  readonly institutionId: InstitutionId;
  /** `host:port` */
  readonly destination: string;
}): Promise<DestinationCheck> {
  const { store, resolve, hasEgressProxy, institutionId, destination } = question;
  const opening = await store.openOpening(institutionId, destination);
  if (!opening) return noOpening(destination);
  const host = destination.slice(0, destination.lastIndexOf(':'));
  const timeout = Promise.withResolvers<DestinationCheck>();
  const timer = setTimeout(
    () =>
      timeout.resolve({
        allowed: false,
        reason: 'dns',
        detail: `${host} did not resolve within ${RESOLVE_MS_MAX / 1000} s`,
      }),
    RESOLVE_MS_MAX,
  );
  try {
    const { allowPrivate } = opening;
    const resolved = resolveDestination({ host, allowPrivate, resolve, hasEgressProxy });
    const verdict = await Promise.race([resolved, timeout.promise]);
    // The addresses that were found are nobody's business here.
    if (!verdict.allowed) return verdict;
    return { allowed: true, ...(verdict.detail !== undefined && { detail: verdict.detail }) };
  } finally {
    clearTimeout(timer);
  }
}

export function noOpening(destination: string): DestinationCheck & { allowed: false } {
  return {
    allowed: false,
    reason: 'destination_not_allowed',
    detail: `there is no open proxy opening for ${destination}; request one, which an administrator opens`,
  };
}
