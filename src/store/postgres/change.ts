/**
 * A change by a function, without a transaction that stays open between two round trips: what was read is replaced only if
 * nobody has changed it since, and is read again otherwise. Of any number that change it at once one succeeds in each round.
 */
import { unavailable } from './trouble.ts';

const ROUNDS_MAX = 1_000;

/**
 * @param replace resolves to undefined when `current` is not what is there any more
 * @returns what `replace` resolved to; undefined when there is nothing to change
 */
export async function changeByFunction<Current, Changed>(
  read: () => Promise<Current | undefined>,
  replace: (current: Current) => Promise<Changed | undefined>,
): Promise<Changed | undefined> {
  for (let rounds = 0; rounds < ROUNDS_MAX; rounds += 1) {
    const current = await read();
    if (current === undefined) return undefined;
    const changed = await replace(current);
    if (changed !== undefined) return changed;
  }
  throw unavailable('It is changed by too many at once.');
}
