/** Waits until an execution has ended: told by the store, and looked up now and then in case that was lost. */
import type { Execution, ExecutionId, InstitutionId } from '../model/entities.ts';
import type { Store } from '../store/store.ts';

const LOOK_AGAIN_MS = 1_000;

/** Undefined when one of `until` comes first. */
export async function waitForEnd(given: {
  readonly store: Pick<Store, 'subscribe' | 'executionById'>;
  readonly institutionId: InstitutionId;
  readonly id: ExecutionId;
  readonly until: readonly AbortSignal[];
}): Promise<Execution | undefined> {
  const { store, institutionId, id } = given;
  const until = AbortSignal.any([...given.until]);
  /** Resolved by whatever makes it worth looking again. */
  let wake = Promise.withResolvers<void>();
  const unsubscribe = store.subscribe((change) => {
    if (change.kind === 'executions_ended' && change.executionIds.includes(id)) wake.resolve();
  });
  const onAbort = () => wake.resolve();
  until.addEventListener('abort', onAbort);
  const timer = setInterval(() => wake.resolve(), LOOK_AGAIN_MS);
  try {
    while (!until.aborted) {
      const execution = await store.executionById(institutionId, id);
      if (execution === undefined || execution.endedAt !== undefined) return execution;
      await wake.promise;
      wake = Promise.withResolvers<void>();
    }
    return undefined;
  } finally {
    clearInterval(timer);
    until.removeEventListener('abort', onAbort);
    unsubscribe();
  }
}
