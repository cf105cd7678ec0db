/** Bytes of a request's body as JSON text: UTF-8 and nothing else (RFC 8259, section 8.1), so that nothing is replaced unseen. */
import { isUtf8 } from 'node:buffer';
import { AppError } from '../model/app-error.ts';
import { type JsonSyntaxProblem, jsonSyntaxProblem } from '../model/lossless-json.ts';

const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/** Undefined when it is not UTF-8. */
export function utf8Text(bytes: Buffer): string | undefined {
  if (!isUtf8(bytes)) return undefined;
  const hasMark = bytes[0] === BYTE_ORDER_MARK[0] && bytes.subarray(0, 3).equals(BYTE_ORDER_MARK);
  return bytes.toString('utf8', hasMark ? 3 : 0);
}

export function notUtf8(): AppError {
  return new AppError('invalid_json', 'The text is not UTF-8.', {
    problems: [{ path: '', code: 'not_utf8', message: 'Send the text in UTF-8.' }],
  });
}

/**
 * `parse` is `JSON.parse` or `parseLossless`.
 * @throws AppError `invalid_json` with the position
 */
export function parseBody<T>(text: string, parse: (text: string) => T): T {
  return refuseEndlessNesting(() => {
    try {
      return parse(text);
    } catch (error) {
      const problem = jsonSyntaxProblem(text);
      if (problem === undefined) throw error;
      throw notJson(problem);
    }
  });
}

export function notJson({ message, position, line, column }: JsonSyntaxProblem): AppError {
  return new AppError('invalid_json', `The body is not JSON: ${message} (line ${line}, column ${column}).`, {
    problems: [{ path: '', code: 'json_syntax', message, position }],
  });
}

/**
 * Text nested so deep that whoever walks it leaves the stack is the sender's mistake, not a bug of ours.
 * @throws AppError `invalid_json`
 */
export function refuseEndlessNesting<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw tooDeep(error);
  }
}

export function tooDeep(cause?: unknown): AppError {
  return new AppError('invalid_json', 'The JSON is nested too deep.', { cause });
}
