import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { heldUntil } from '../src/engine/retry.ts';
import { answered } from './support/fake-callee.ts';

const NOW = Date.UTC(2026, 10, 28, 12, 0, 0);

/** How long a 503 with this header holds an interface back, in seconds; undefined: not at all. */
function holdOf(retryAfter: string, status = 503): number | undefined {
  const until = heldUntil(answered(status, { 'retry-after': retryAfter }), NOW);
  return until === undefined ? undefined : (until - NOW) / 1_000;
}

describe('Retry-After', () => {
  const zone = process.env.TZ;
  after(() => {
    // Assigning undefined would make it the text "undefined".
    if (zone === undefined) delete process.env.TZ;
    else process.env.TZ = zone;
  });

  for (const TZ of ['UTC', 'America/Los_Angeles', 'Asia/Kathmandu']) {
    test(`is read as RFC 9110 says, where the machine's zone is ${TZ}`, () => {
      process.env.TZ = TZ;
      const cases: readonly (readonly [string, number | undefined])[] = [
        ['120', 120],
        ['600.0', 600],
        ['0.5', 0.5],
        ['1.', 1],
        [' 120 ', 120],
        ['Sat, 28 Nov 2026 12:01:30 GMT', 90],
        ['Saturday, 28-Nov-26 12:01:30 GMT', 90],
        ['Sat Nov 28 12:01:30 2026', 90],
        ['Sat Dec  5 12:01:30 2026', 3_600],
        // Several headers, of one value or of many.
        ['120, 120', 120],
        ['120, 300', 300],
        ['300,120', 300],
        ['Sat, 28 Nov 2026 12:01:30 GMT, 120', 120],
        ['60, Sat, 28 Nov 2026 12:01:30 GMT', 90],
        ['Sat Nov 28 12:01:30 2026, Sat, 28 Nov 2026 12:02:00 GMT', 120],
        ['soon, 120', 120],
        // An hour at most.
        ['86400', 3_600],
        ['99999999999999999999999', 3_600],
        ['Sun, 28 Nov 2027 12:00:00 GMT', 3_600],
        // Nothing to wait for.
        ['0', undefined],
        ['', undefined],
        ['-5', undefined],
        ['1e3', undefined],
        ['0x10', undefined],
        ['soon', undefined],
        ['2026-11-28T12:10:00Z', undefined],
        ['Sat, 28 Nov 2026 11:59:59 GMT', undefined],
        ['Sat, 28 Nix 2026 12:01:30 GMT', undefined],
        // Two digits of a year that seem to lie far ahead are those of the past.
        ['Saturday, 28-Nov-94 12:01:30 GMT', undefined],
      ];
      for (const [header, seconds] of cases) assert.equal(holdOf(header), seconds, header);
    });
  }

  test('holds on 429 and 503 only', () => {
    assert.equal(holdOf('120', 429), 120);
    for (const status of [200, 301, 400, 500, 502]) assert.equal(holdOf('120', status), undefined);
  });

  test('a text of any length takes a moment', () => {
    assert.equal(holdOf(`${'soon, '.repeat(10_000)}30`), 30);
  });
});
