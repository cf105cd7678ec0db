/** Bytes that HTTP/1.1 is made of, by name, and what kinds of them there are (RFC 9110, section 5). */

export const HTAB = 9;
export const LINE_FEED = 10;
export const CARRIAGE_RETURN = 13;
export const SPACE = 32;
export const ZERO = 48;
export const NINE = 57;
export const COLON = 58;
export const SEMICOLON = 59;
const DELETE = 127;

/** 1 for what a name is made of (RFC 9110, 5.6.2). By byte. */
export const IS_IN_NAMES = tableOf((byte) => /[!#$%&'*+.^_`|~0-9A-Za-z-]/.test(String.fromCharCode(byte)));
/** 1 for control characters but the tab: they end a line, or are wrong in it (RFC 9110, 5.5). By byte. */
export const IS_CONTROL = tableOf((byte) => (byte < SPACE && byte !== HTAB) || byte === DELETE);

/** What may surround names and values (RFC 9110, 5.6.3), and nothing else may: a no-break space belongs to the value. */
export function isBlank(byte: number): boolean {
  return byte === SPACE || byte === HTAB;
}

export function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= NINE;
}

function tableOf(isIn: (byte: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => (isIn(byte) ? 1 : 0));
}
