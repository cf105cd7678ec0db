/** Text from outside. */

/**
 * Whether a database keeps it as it is: PostgreSQL takes no NUL, and half of a surrogate pair (which JSON may have as an
 * escape) is no character in UTF-8 and would come back as another one.
 */
export function isKeepable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}
