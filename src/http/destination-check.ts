/** Whether an institution may call a destination right now: its proxy opening, then the addresses. One answer for saving, previewing and test calls. */
import { type Resolve, resolveDestination } from '../caller/destination.ts';
import type { InstitutionId } from '../model/entities.ts';
import type { FailureReason } from '../model/outcome.ts';
import type { Store } from '../store/store.ts';

export type DestinationCheck =
  | { readonly allowed: true }
  | { readonly allowed: false; readonly reason: FailureReason; readonly detail: string };

/** Of somebody's patience: a slow DNS must not hold a save for longer. */
const RESOLVE_MS_MAX = 3_000;

export async function checkDestination(question: {
  readonly store: Pick<Store, 'openOpening'>;
  readonly resolve: Resolve | undefined;
  readonly institutionId: InstitutionId;
  /** `host:port` */
  readonly destination: string;
}): Promise<DestinationCheck> {
  const { store, resolve, institutionId, destination } = question;
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
    const resolved = resolveDestination({ host, allowPrivate: opening.allowPrivate, resolve });
    const verdict = await Promise.race([resolved, timeout.promise]);
    // The addresses that were found are nobody's business here.
    return verdict.allowed ? { allowed: true } : verdict;
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
