import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { isFromThisMachine, OwnHosts } from '../src/http/hosts.ts';
import { AppError } from '../src/model/app-error.ts';
import { isHost } from '../src/model/host.ts';
import { ADMIN_KEY, startServer, type TestServer } from './support/http-server.ts';

/** Whether a request to this address that names this host is let in. */
function isOurs(
  host: string | undefined,
  hosts: readonly string[] = [],
  localAddress = '127.0.0.1',
): boolean {
  const request = { headers: { host }, socket: { localAddress } };
  try {
    new OwnHosts(hosts).refuseOthers(request as Parameters<OwnHosts['refuseOthers']>[0]);
    return true;
  } catch (error) {
    assert.ok(error instanceof AppError && error.code === 'wrong_host');
    return false;
  }
}

describe('a host', () => {
  it('is ours when it is localhost, the address of the connection, or one of those that are set', () => {
    for (const host of [
      'localhost',
      'LOCALHOST',
      'localhost:8080',
      '127.0.0.1',
      '127.0.0.1:8080',
      '127.0.0.1:1',
    ]) {
      assert.ok(isOurs(host), host);
    }
    for (const host of ['[::1]', '[::1]:8080', '[0:0::1]:1']) assert.ok(isOurs(host, [], '::1'), host);
    assert.ok(isOurs('10.1.2.3:80', [], '::ffff:10.1.2.3'));
    assert.ok(isOurs('[fe80::1]', [], 'fe80::1%eth0'));
    const set = ['orders.example', '192.0.2.7', '::1', '[2001:db8::2]'];
    for (const host of [
      'orders.example',
      'Orders.Example:443',
      '192.0.2.7:1',
      '[::1]',
      '[2001:db8:0::2]:9',
    ]) {
      assert.ok(isOurs(host, set), host);
    }
  });

  it('is not ours when it is anything else', () => {
    for (const host of [
      undefined,
      '',
      'evil.example',
      'evil.example:8080',
      'localhost.evil.example',
      'evil-localhost',
      'localhost@evil.example',
      'evil.example@localhost',
      'localhost, evil.example',
      'localhost/',
      'localhost:8080:8080',
      '127.0.0.2',
      '10.1.2.3',
      '[::1]',
      '::1',
      'constructor',
    ]) {
      assert.equal(isOurs(host), false, String(host));
    }
  });

  it('stands in a setting without a port', () => {
    for (const host of ['orders.example', '192.0.2.7', '[::1]', 'a_b']) assert.ok(isHost(host), host);
    for (const host of [
      '',
      'orders.example:80',
      '[::1]:80',
      'http://orders.example',
      'a b',
      '::1',
      '*.example',
    ]) {
      assert.equal(isHost(host), false, host);
    }
  });
});

describe('a request from this machine', () => {
  const isLocal = (headers: Record<string, string>, remoteAddress = '127.0.0.1') =>
    isFromThisMachine({ headers, httpVersion: '1.1', socket: { remoteAddress } } as unknown as Parameters<
      typeof isFromThisMachine
    >[0]);

  it('comes from a loopback address', () => {
    for (const address of ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1'])
      assert.ok(isLocal({}, address));
    for (const address of ['10.0.0.1', '::', '::2', '::ffff:10.0.0.1', '1127.0.0.1', '']) {
      assert.equal(isLocal({}, address), false, address);
    }
  });

  it('has what clients send, and nothing that only a proxy adds', () => {
    const usual = ['host', 'user-agent', 'accept', 'accept-encoding', 'x-prometheus-scrape-timeout-seconds'];
    assert.ok(
      isLocal(Object.fromEntries([...usual, 'x-request-id', 'connection'].map((name) => [name, 'x']))),
    );
    for (const name of [
      'via',
      'forwarded',
      'x-forwarded',
      'x-forwarded-for',
      'x-forwarded-host',
      'x-forwarded-proto',
      'x-forwarded-port',
      'x-forwarded-server',
      'x-real-ip',
      'x-client-ip',
      'client-ip',
      'true-client-ip',
      'x-cluster-client-ip',
      'cf-connecting-ip',
      'cf-connecting-ipv6',
      'cf-ray',
      'fastly-client-ip',
      'fly-client-ip',
      'do-connecting-ip',
      'x-azure-clientip',
      'x-appengine-user-ip',
      'x-envoy-external-address',
      'x-envoy-attempt-count',
      'x-original-host',
      'x-originating-ip',
      'x-remote-ip',
      'x-remote-addr',
      'x-arr-ssl',
      'wl-proxy-client-ip',
      'proxy-client-ip',
    ]) {
      assert.equal(isLocal({ [name]: 'x' }), false, name);
      assert.equal(isLocal({ [name]: '' }), false, name);
    }
  });
});

describe('the metrics', () => {
  let server: TestServer;
  before(async () => {
    server = await startServer({ hosts: ['orders.example'] });
  });
  after(() => server.close());

  it('are not for a page that names its own host, with a key or without', async () => {
    for (const key of [null, ADMIN_KEY]) {
      const { status, json } = await server.get('/metrics', { key, headers: { host: 'evil.example' } });
      assert.equal(status, 421);
      assert.equal(json.code, 'wrong_host');
    }
    for (const host of ['localhost:1', 'orders.example', 'orders.example:443']) {
      assert.equal((await server.get('/metrics', { key: null, headers: { host } })).status, 200, host);
    }
  });

  it('ask for a key behind any proxy on this machine', async () => {
    for (const header of ['via', 'x-real-ip', 'x-forwarded-proto', 'forwarded']) {
      const headers = { [header]: 'x' };
      assert.equal((await server.get('/metrics', { key: null, headers })).status, 401, header);
      assert.equal((await server.get('/metrics', { headers })).status, 200, header);
    }
  });

  it('are the only ones that look at the host: sources may call by any name', async () => {
    const headers = { host: 'any.example' };
    assert.equal((await server.get('/api/v1/institutions', { headers })).status, 200);
    assert.equal((await server.get('/healthz', { headers })).status, 200);
  });
});

describe('a request over a socket', () => {
  let server: TestServer;
  let port: number;
  before(async () => {
    server = await startServer();
    port = Number(new URL(await server.app.listen({ host: '127.0.0.1', port: 0 })).port);
  });
  after(() => server.close());

  async function statusOf(...head: string[]): Promise<number> {
    const socket = connect(port, '127.0.0.1');
    let answer = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      answer += text;
    });
    socket.write(`${head.join('\r\n')}\r\nConnection: close\r\n\r\n`);
    await once(socket, 'close');
    return Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1]);
  }

  it('names one host at most', async () => {
    assert.equal(await statusOf('GET /healthz HTTP/1.1', 'Host: localhost'), 200);
    for (const second of ['Host: localhost', 'host: evil.example', 'HOST:']) {
      assert.equal(await statusOf('GET /healthz HTTP/1.1', 'Host: localhost', second), 400, second);
      assert.equal(await statusOf('GET /nowhere HTTP/1.1', 'Host: localhost', 'A: b', second), 400, second);
    }
  });

  it('names none twice by its target', async () => {
    assert.equal(await statusOf('GET http://localhost:1/healthz HTTP/1.1', 'Host: localhost:1'), 200);
    assert.equal(await statusOf('GET http://LOCALHOST/healthz HTTP/1.1', 'Host: localhost'), 200);
    assert.equal(await statusOf('GET http://evil.example/metrics HTTP/1.1', 'Host: localhost'), 400);
    assert.equal(await statusOf('GET http://localhost/metrics HTTP/1.1', 'Host: evil.example'), 400);
    assert.equal(
      await statusOf('GET http://localhost@evil.example/metrics HTTP/1.1', 'Host: localhost'),
      400,
    );
  });

  it('gets the metrics by its own address, and by no other name that leads here', async () => {
    for (const host of [`127.0.0.1:${port}`, '127.0.0.1', 'localhost']) {
      assert.equal(await statusOf('GET /metrics HTTP/1.1', `Host: ${host}`), 200, host);
    }
    for (const host of ['evil.example', '127.0.0.2', 'LOCALHOST.evil']) {
      assert.equal(await statusOf('GET /metrics HTTP/1.1', `Host: ${host}`), 421, host);
    }
    assert.equal(await statusOf('GET /metrics HTTP/1.0'), 421);
    // As nginx does it without any settings of its own.
    assert.equal(await statusOf('GET /metrics HTTP/1.0', `Host: 127.0.0.1:${port}`), 401);
  });
});
