/** Every fixed limit of the contract, each with its unit. Limits that an operator may change are in settings.ts. */

/** [ours] Section 2.1: characters of a URL template. */
export const URL_CHARACTERS_MAX = 2_048;
/** [ours] Section 2.2: bytes of a payload template in UTF-8. */
export const PAYLOAD_BYTES_MAX = 64 * 1024;
/** [ours] Section 2.3: decoded bytes of an answer's body that are read before the connection is dropped. */
export const ANSWER_BYTES_MAX = 64 * 1024;
/** [ours] Section 2.3: bytes of the heads of one answer: interim ones, blank lines before them and trailers included. */
export const ANSWER_HEAD_BYTES_MAX = 64 * 1024;
/** [ours] Section 2.3: bytes of an answer as they come over the wire that are read before the connection is dropped. */
export const ANSWER_WIRE_BYTES_MAX = 256 * 1024;
/** [ours] Section 2.3: decoded bytes of an answer's body that the call log keeps. */
export const ANSWER_BYTES_KEPT = 1_024;
/** [ours] Section 2.3: `Retry-After` holds an interface back no longer than this. */
export const RETRY_AFTER_MS_MAX = 60 * 60 * 1000;

/** Section 3. */
export const FILTER_CHARACTERS_MAX = 4_096;
export const FILTER_CONDITIONS_MAX = 64;
export const FILTER_SEGMENTS_MAX = 16;

/** Section 4.1: the largest order id, a signed 64-bit integer. */
export const ORDER_ID_MAX = 9_223_372_036_854_775_807n;
/** [ours] Section 4.4: bytes of one order's details. */
export const ORDER_BYTES_MAX = 1024 * 1024;
/** [ours] Levels of lists and objects within one order. */
export const ORDER_LEVELS_MAX = 100;
/** Section 4.3: seconds between `iat` and `exp` of a partner's token, at most. */
export const TOKEN_LIFETIME_SECONDS_MAX = 900;
/** Section 4.3: seconds that a token from the auth call is good for. */
export const TOKEN_LIFETIME_SECONDS = 30;

/** Section 5. */
export const BATCH_SIZE_DEFAULT = 60;
export const BATCH_SIZE_MAX = 10_000;
export const FREQUENCY_MINUTES_DEFAULT = 15;
export const FREQUENCY_MINUTES_MAX = 1_440;
export const CONCURRENCY_DEFAULT = 8;
export const CONCURRENCY_MAX = 64;
/** [ours] Section 5: closings that one execution looks at. */
export const CLOSINGS_LOOKED_AT_MAX = 50_000;
/** [V2] Section 5: attempts of one delivery, unless its interface says otherwise; after the last failed one it is abandoned. */
export const ATTEMPTS_DEFAULT = 12;
/** [ours] Section 5: what an interface may say. */
export const ATTEMPTS_MAX = 200;
/** [ours] Section 5: calls that fail before any answer, first in an execution or in a row, that stop it. */
export const UNANSWERED_CALLS_MAX = 10;

/** Section 7: items of one page of a list. */
export const PAGE_LIMIT_DEFAULT = 50;
export const PAGE_LIMIT_MAX = 200;
/** [ours] Orders that one resend names. */
export const RESEND_ORDERS_MAX = 10_000;
