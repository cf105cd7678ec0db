import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { startServer, type TestServer } from './support/http-server.ts';

describe('the root', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server.close());

  const get = (accept?: string) =>
    server.get('/', { key: null, ...(accept !== undefined && { headers: { accept } }) });

  it('tells programs where everything is', async () => {
    for (const accept of [undefined, '*/*', 'application/json', 'text/html;q=0, */*', 'text/htmlx']) {
      const { status, json, headers } = await get(accept);
      assert.equal(status, 200);
      assert.match(String(headers['content-type']), /^application\/json/, accept);
      assert.equal(headers.vary, 'accept');
      assert.deepEqual(json, {
        name: 'Orderhook',
        version: '1.2.3',
        docs: '/docs',
        openapi: '/openapi.json',
        api: '/api/v1',
        health: '/healthz',
        readiness: '/readyz',
        metrics: '/metrics',
      });
    }
  });

  it('shows browsers a page, whose links lead somewhere', async () => {
    const { status, text, headers } = await get('text/html,application/xhtml+xml,*/*;q=0.8');
    assert.equal(status, 200);
    assert.equal(headers['content-type'], 'text/html; charset=utf-8');
    assert.match(String(headers['content-security-policy']), /default-src 'none'/);
    const links = [...text.matchAll(/href="([^"]+)"/g)].map(([, path]) => path as string);
    assert.equal(links.length, 6);
    for (const path of links.filter((one) => one !== '/api/v1')) {
      assert.equal((await server.get(path)).status, 200, path);
    }
  });
});
