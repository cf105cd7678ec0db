/** Which state of something a client has seen: `ETag` and `If-Match` (RFC 9110, 8.8.3 and 13.1.1). Pure. */
import { AppError } from '../model/app-error.ts';

/** A strong tag: each change of the settings makes another one. */
export function entityTag({ revision }: { readonly revision: number }): string {
  return `"${revision}"`;
}

/** A tag of the list; weak ones are read too, so that what is within their quotes is taken for no tag of its own. */
const TAG = /(W\/)?("[\x21\x23-\x7e\x80-\xff]*")/g;

/**
 * @param ifMatch the header as it came; undefined asks for nothing
 * @param what for the message: `interface`
 * @throws AppError `precondition_failed` when none of its tags is that of `current`; a weak one never is
 */
export function checkIfMatch(
  ifMatch: string | undefined,
  current: { readonly revision: number },
  what: string,
): void {
  if (ifMatch === undefined || ifMatch.trim() === '*') return;
  const tag = entityTag(current);
  for (const [, weak, text] of ifMatch.matchAll(TAG)) if (weak === undefined && text === tag) return;
  throw new AppError(
    'precondition_failed',
    `The ${what} is not in the state that If-Match names: read it again, and send the change with its new ETag, ${tag}.`,
  );
}
