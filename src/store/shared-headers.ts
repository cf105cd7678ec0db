/**
 * The headers of answers as the call log keeps them. A callee mostly answers with the same ones, within a second even
 * with the same `Date`, so of the attempts of one commit the first keeps them and those after it name that one.
 *
 *     attempt   headers      headers_in
 *       41      {"date":…}
 *       42                       41
 *       43                       41
 */
import type { Attempt } from '../model/delivery.ts';
import { type Answer, haveSameHeaders } from '../model/outcome.ts';

/** An attempt that names another one comes at most so many after it: more do not enter the log of an interface together. */
export const COMMIT_SPAN_ATTEMPTS = 4_096;

export type SharedHeaders = {
  /** JSON text, for the first of those that share it. */
  readonly texts: readonly (string | null)[];
  /** The place, from 0 among these attempts, of the one that keeps them. */
  readonly keptBy: readonly (number | null)[];
};

/** Attempts of one interface that enter the log together. */
export function shareHeaders(attempts: readonly Pick<Attempt, 'answer'>[]): SharedHeaders {
  const texts: (string | null)[] = [];
  const keptBy: (number | null)[] = [];
  let kept: { readonly headers: Answer['headers']; readonly place: number } | undefined;
  for (const [place, { answer }] of attempts.entries()) {
    const isShared =
      answer !== undefined && kept !== undefined && haveSameHeaders(answer.headers, kept.headers);
    texts.push(answer === undefined || isShared ? null : JSON.stringify(answer.headers));
    keptBy.push(isShared ? (kept?.place as number) : null);
    if (answer !== undefined && !isShared) kept = { headers: answer.headers, place };
  }
  return { texts, keptBy };
}
