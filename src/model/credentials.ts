/**
 * Keeps passwords out of what people read. A URL may hold a user name and a password before its host; wherever a text from
 * outside is shown or logged that may hold such a URL, it passes through here (contract, section 7).
 */

/** What stands in the place of a secret. */
export const MASK = '********';

/**
 * The text with the user info of every URL in it masked. It masks too much rather than too little: a URL with `@` in its
 * path loses what is before it, since a password may hold any character where somebody forgot to encode it.
 */
export function maskCredentials(text: string): string {
  return text.replace(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s"'<>]*@/gi, `$1${MASK}@`);
}

/**
 * A text that should have been a URL and is none, for a message about it; undefined when it may hold a password. Which
 * part of it would be the password nobody can say, so only a plain scheme, host and port are shown.
 */
export function shownBrokenUrl(text: string): string | undefined {
  return /^([a-z][a-z0-9+.-]*:\/\/)?(\[[\da-f:.]*\]|[\w.-]*)(:\d*)?\/?$/i.test(text) ? text : undefined;
}
