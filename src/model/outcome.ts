/**
 * What one HTTP request to a callee came to (contract, section 2.3). A failed call is a value, never an exception.
 */

/** Why a call failed. `status` means that the callee answered, and not with 2xx. */
export const FAILURE_REASONS = [
  'status',
  'timeout_connect',
  'timeout_response',
  'refused',
  'reset',
  'dns',
  'tls',
  'destination_not_allowed',
  'proxy',
  'protocol',
  'local',
] as const;
export type FailureReason = (typeof FAILURE_REASONS)[number];

/** The part of an answer that the call log keeps. */
export type Answer = {
  readonly status: number;
  /** Names in lower case; a header that came twice has its values joined by `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** The first bytes of the decoded body, at most `ANSWER_BYTES_KEPT`, read as UTF-8. */
  readonly bodyStart: string;
};

/** Whether two answers came with the same headers, in the same order: the call log shows them as they came. */
export function haveSameHeaders(some: Answer['headers'], others: Answer['headers']): boolean {
  if (some === others) return true;
  const names = Object.keys(others);
  let index = 0;
  for (const name in some) {
    if (names[index] !== name || some[name] !== others[name]) return false;
    index += 1;
  }
  return index === names.length;
}

export type Outcome =
  | { readonly delivered: true; readonly answer: Answer; readonly durationMs: number }
  | {
      readonly delivered: false;
      readonly reason: FailureReason;
      /** One sentence for people, such as the system's message or the address that was not allowed. */
      readonly detail: string;
      /** Absent when the call failed before any answer. */
      readonly answer?: Answer;
      readonly durationMs: number;
    };

/** The request that is sent for one order: what preview shows, the caller sends and the call log tells. */
export type CallRequest = {
  readonly method: 'GET' | 'POST';
  /** WHATWG-serialised. */
  readonly url: string;
  readonly body?: string;
};
