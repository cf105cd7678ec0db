/** Names that are aliases of others (CNAME): what counts is the addresses at the end of the chain. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Resolve, resolveDestination } from '../src/caller/destination.ts';

const ZONE: Record<string, { alias: string } | { addresses: string[] }> = {
  'hook.partner.example': { alias: 'edge.cdn.example' },
  'edge.cdn.example': { alias: 'node.cdn.example' },
  'node.cdn.example': { addresses: ['93.184.216.34'] },
  'sly.partner.example': { alias: 'inner.partner.example' },
  'inner.partner.example': { alias: 'metadata.partner.example' },
  'metadata.partner.example': { addresses: ['93.184.216.34', '169.254.169.254'] },
  'one.loop.example': { alias: 'two.loop.example' },
  'two.loop.example': { alias: 'one.loop.example' },
};

/** As a resolver follows a chain, to its end or until it has seen enough. */
const resolve: Resolve = async (host) => {
  let record = ZONE[host];
  for (let links = 0; record && 'alias' in record && links < 8; links += 1) record = ZONE[record.alias];
  if (!record || 'alias' in record)
    throw Object.assign(new Error(`queryA ESERVFAIL ${host}`), { code: 'ESERVFAIL' });
  return record.addresses.map((address) => ({ address, family: 4 as const }));
};

test('a chain of aliases that ends at a public address is allowed, and that address is the one', async () => {
  const verdict = await resolveDestination({ host: 'hook.partner.example', allowPrivate: false, resolve });
  assert.ok(verdict.allowed);
  assert.deepEqual(
    verdict.addresses.map(({ address }) => address),
    ['93.184.216.34'],
  );
});

test('a chain that ends at one bad address among good ones is refused whole', async () => {
  const verdict = await resolveDestination({ host: 'sly.partner.example', allowPrivate: false, resolve });
  assert.ok(!verdict.allowed);
  assert.equal(verdict.reason, 'destination_not_allowed');
  assert.match(verdict.detail, /169\.254\.169\.254/);
});

test('a chain that goes in a circle is a failure of DNS', async () => {
  const verdict = await resolveDestination({ host: 'one.loop.example', allowPrivate: false, resolve });
  assert.ok(!verdict.allowed);
  assert.equal(verdict.reason, 'dns');
});
