/**
 * Reads a body into one piece of memory: no more than it may have, within its time. A body of a million chunks costs what
 * one of a single chunk does.
 */
import type { IncomingMessage } from 'node:http';
import { AppError } from '../model/app-error.ts';

export type BodyLimits = {
  readonly bytesMax: number;
  /** What is told when the time of the body is over; undefined: nobody any more. */
  readonly tellLate: (onLate: (() => void) | undefined) => void;
};

/**
 * Calls back with the body, or with AppError `body_too_large`, `request_too_slow`, or `invalid_json` when the connection was
 * lost. At once, if all of it came with the head, as most bodies do.
 */
export function readBody(
  payload: IncomingMessage,
  { bytesMax, tellLate }: BodyLimits,
  done: (error: AppError | null, body?: Buffer) => void,
): void {
  if (payload.complete) {
    const body: Buffer = payload.read() ?? Buffer.alloc(0);
    return body.length > bytesMax ? done(isTooLarge(bytesMax)) : done(null, body);
  }
  let bytes = 0;
  let kept: Buffer = Buffer.alloc(0);

  function end(error?: AppError): void {
    tellLate(undefined);
    payload.off('data', take).off('end', finish).off('close', lose).off('error', lose);
    if (error === undefined) return done(null, bytes === kept.length ? kept : kept.subarray(0, bytes));
    // Whoever is told goes on sending for a moment.
    payload.on('error', () => {}).resume();
    done(error);
  }
  function take(chunk: Buffer): void {
    const start = bytes;
    bytes += chunk.length;
    if (bytes > bytesMax) return end(isTooLarge(bytesMax));
    if (start === 0) {
      kept = chunk;
      return;
    }
    if (bytes > kept.length) {
      const larger = Buffer.allocUnsafe(Math.min(Math.max(bytes, 2 * start), bytesMax));
      kept.copy(larger, 0, 0, start);
      kept = larger;
    }
    chunk.copy(kept, start);
  }
  function finish(): void {
    end();
  }
  function lose(): void {
    end(new AppError('invalid_json', 'The connection was lost before the body had ended.'));
  }

  const told = Number(payload.headers['content-length']);
  if (told > bytesMax) return end(isTooLarge(bytesMax));
  tellLate(() => end(isLate()));
  payload.on('data', take).on('end', finish).on('close', lose).on('error', lose);
}

function isTooLarge(bytesMax: number): AppError {
  return new AppError('body_too_large', `The body may have ${bytesMax} bytes at most.`);
}

function isLate(): AppError {
  return new AppError('request_too_slow', 'The body did not come in time.');
}
