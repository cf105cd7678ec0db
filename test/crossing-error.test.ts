import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fromCrossed, toCrossed } from '../src/crossing-error.ts';
import { AppError } from '../src/model/app-error.ts';

/** As it arrives in another thread. */
function crossed(error: unknown): Error {
  return fromCrossed(structuredClone(toCrossed(error)));
}

describe('an error that crosses between threads', () => {
  test('keeps what a client and what the log is told: code, problems, wait, stack and every cause', () => {
    const deepest = Object.assign(new TypeError('disk I/O error'), { code: 'ERR_SQLITE_ERROR' });
    const cause = new Error('the statement failed', { cause: deepest });
    const problems = [{ path: 'a', code: 'b', message: 'c', position: 4 }];
    const error = new AppError('store_unavailable', 'Not now.', { problems, retryAfterSeconds: 2, cause });
    const arrived = crossed(error);
    assert.ok(arrived instanceof AppError);
    assert.equal(arrived.message, 'Not now.');
    assert.equal(arrived.code, 'store_unavailable');
    assert.deepEqual(arrived.problems, problems);
    assert.equal(arrived.retryAfterSeconds, 2);
    assert.equal(arrived.stack, error.stack);
    const middle = arrived.cause as Error;
    assert.equal(middle.message, 'the statement failed');
    assert.equal(middle.stack, cause.stack);
    const last = middle.cause as Error & { code?: string };
    assert.deepEqual(
      [last.name, last.message, last.code],
      ['TypeError', 'disk I/O error', 'ERR_SQLITE_ERROR'],
    );
    assert.equal(last.stack, deepest.stack);
  });

  test('without a code, a cause or problems has none there either', () => {
    const arrived = crossed(new RangeError('too far'));
    assert.equal(arrived instanceof AppError, false);
    assert.deepEqual([arrived.name, arrived.message], ['RangeError', 'too far']);
    assert.equal('code' in arrived, false);
    assert.equal(arrived.cause, undefined);
    const app = crossed(new AppError('conflict', 'no')) as AppError;
    assert.deepEqual([app.problems, app.retryAfterSeconds], [[], undefined]);
  });

  test('may be anything that was thrown, and its causes may go in a circle', () => {
    assert.equal(crossed('a text').message, 'a text');
    assert.equal(crossed(undefined).message, 'undefined');
    const one = new Error('one');
    one.cause = new Error('other', { cause: one });
    assert.equal((crossed(one).cause as Error).message, 'other');
  });
});
