import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { PROXY_REFUSALS_MAX, ProxyRefusals } from '../src/caller/proxy-refusals.ts';
import type { CallRequest } from '../src/model/outcome.ts';

const request = (url: string, body?: string): CallRequest =>
  body === undefined ? { method: 'GET', url } : { method: 'POST', url, body };
const MINE = request('http://mine.example/orders/7');

/** Refuses a request so often. */
function refuse(refusals: ProxyRefusals, times: number, refused = MINE): boolean[] {
  return Array.from({ length: times }, () => refusals.isCallees(refused));
}

describe('what looks like the refusal of the egress proxy', () => {
  it('is the proxy’s as long as nothing else goes through it', () => {
    const refusals = new ProxyRefusals();
    assert.deepEqual(new Set(refuse(refusals, 50)), new Set([false]));
  });

  it('is the callee’s after three times, when another destination went through since the first', () => {
    const refusals = new ProxyRefusals();
    assert.deepEqual(refuse(refusals, PROXY_REFUSALS_MAX), [false, false, false]);
    refusals.notePassed('http://other.example/1');
    assert.deepEqual(refuse(refusals, 2), [true, true]);
  });

  it('is the proxy’s when the other destination went through before the first, or is the same', () => {
    const refusals = new ProxyRefusals();
    refusals.notePassed('http://other.example/1');
    refuse(refusals, 10);
    refusals.notePassed('http://mine.example/8');
    assert.deepEqual(refuse(refusals, 2), [false, false]);
    refusals.notePassed('http://other.example/1');
    refusals.notePassed('http://mine.example/8');
    assert.deepEqual(refuse(refusals, 1), [true]);
  });

  it('is counted for each request of its own', () => {
    const refusals = new ProxyRefusals();
    const requests = [
      MINE,
      request('http://mine.example/', '{"id": 7}'),
      request('http://mine.example/', '{"id": 8}'),
    ];
    for (const one of requests) refuse(refusals, 2, one);
    refusals.notePassed('http://other.example/');
    for (const one of requests) assert.deepEqual(refuse(refusals, 2, one), [false, true]);
  });

  it('is forgotten when more than ten thousand others were refused since', () => {
    const refusals = new ProxyRefusals();
    refuse(refusals, 3);
    for (let n = 0; n < 9_999; n++) refuse(refusals, 1, request(`http://mine.example/many/${n}`));
    refusals.notePassed('http://other.example/');
    assert.deepEqual(refuse(refusals, 1), [true]);
    for (let n = 0; n < 10_000; n++) refuse(refusals, 1, request(`http://mine.example/more/${n}`));
    refusals.notePassed('http://other.example/');
    assert.deepEqual(refuse(refusals, 1), [false]);
  });
});
