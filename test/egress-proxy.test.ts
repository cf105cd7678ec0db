/** The egress proxy's setting, with a user and a password: what it may be, that it works, and that nobody reads it. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { parseEgressProxy } from '../src/caller/egress-proxy.ts';
import { StartError } from '../src/model/app-error.ts';
import { printSettings, readSettings } from '../src/settings.ts';
import { assertDelivered, assertFailed, type Calling, withCallee } from './support/callee-calls.ts';
import { findSquid, freePort, type Squid, startSquid } from './support/callee-proxy.ts';
import { ADMIN_KEY, api, NodeProcess } from './support/node-process.ts';
import { RecordingCallee } from './support/recording-callee.ts';
import { answer, type CalleeOptions } from './support/scripted-callee.ts';
import { runCommand } from './support/service-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';
import { createAuthority } from './support/tls-authority.ts';

const USER = 'orderhook';
/** With characters that must be encoded in a URL. */
const PASSWORD = 'hunter2/é';
const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
/** In all forms in which it could get out. */
const SECRETS = [
  'hunter2',
  encodeURIComponent(PASSWORD),
  basic(`${USER}:${PASSWORD}`).slice('Basic '.length),
] as const;

describe('the setting of the egress proxy', () => {
  for (const [text, proxy] of [
    ['http://proxy:3128', { host: 'proxy', port: 3128 }],
    ['http://proxy', { host: 'proxy', port: 80 }],
    ['http://[::1]:3128/', { host: '::1', port: 3128 }],
    ['http://me:secret@proxy:3128', { host: 'proxy', port: 3128, authorization: basic('me:secret') }],
    ['http://me@proxy', { host: 'proxy', port: 80, authorization: basic('me:') }],
    ['http://me:a%3Ab%40c%2Fd@proxy', { host: 'proxy', port: 80, authorization: basic('me:a:b@c/d') }],
    ['http://d%C3%BC:%C3%A9@proxy', { host: 'proxy', port: 80, authorization: basic('dü:é') }],
  ] as const) {
    it(`may be ${text}`, () => assert.deepEqual(parseEgressProxy(text), proxy));
  }

  for (const text of [
    'hunter2:hunter2@proxy:3128',
    'https://me:hunter2@proxy:3128',
    'http://me:hunter2@proxy:3128/path',
    'http://me:hunter2@proxy?a=b',
    'http://me:hunter2@proxy#top',
    'http://me:hunter2@:3128',
    'http://me:hunter2/more@proxy:3128',
    'http://me:hunter2 more@proxy:port',
    'http://me:hunter2%40proxy',
    'http://me:hunter2%@proxy',
    'http://me:hunter2%0d%0a@proxy',
    'http://me%3Ahunter2:hunter2@proxy',
    'proxy:hunter2',
  ]) {
    it(`may not be ${text}, which is told without the password`, () => {
      assert.throws(
        () => readSettings({ ORDERHOOK_EGRESS_PROXY: text }),
        (error) =>
          error instanceof StartError &&
          /^ORDERHOOK_EGRESS_PROXY must .*, not the value given\.$/.test(error.message) &&
          !String(error.stack).includes('hunter2'),
      );
    });
  }

  it('is told as it was given where that can hold no password', () => {
    for (const text of ['proxy:3128', 'https://proxy:3128', 'ftp://[::1]/']) {
      assert.throws(() => readSettings({ ORDERHOOK_EGRESS_PROXY: text }), {
        message: `ORDERHOOK_EGRESS_PROXY must be http://host:port or http://user:password@host:port, not "${text}".`,
      });
    }
  });

  it('is printed with its user and password masked', () => {
    for (const [text, shown] of [
      ['http://me:hunter2@proxy:3128', 'http://********@proxy:3128'],
      ['http://[::1]', 'http://[::1]:80'],
      ['', ''],
    ] as const) {
      const printed = printSettings(readSettings({ ORDERHOOK_EGRESS_PROXY: text }));
      assert.ok(printed.split('\n').includes(`ORDERHOOK_EGRESS_PROXY=${shown}`), printed);
    }
  });
});

const program = findSquid();
if (program === undefined) {
  console.warn(
    'NOT TESTED: a proxy that asks for a password, squid, which is not installed (apt-get install squid)',
  );
}

describe('through a squid that asks for a password', {
  skip: program === undefined && 'squid is not installed',
}, () => {
  const authority = createAuthority();
  const tls = authority.issue(['127.0.0.1']);
  let squid: Squid;
  before(async () => {
    squid = await startSquid(program as string, await freePort(), { user: USER, password: PASSWORD });
  });
  after(() => squid?.close());
  const urlWith = (userInfo: string) => squid.url.replace('http://', `http://${userInfo}@`);
  const given = () => urlWith(`${USER}:${encodeURIComponent(PASSWORD)}`);
  const through = (url: string, callee: CalleeOptions, test: (calling: Calling) => Promise<void>) =>
    withCallee((socket) => socket.write(answer('200 OK', 'ok')), test, {
      egressProxy: parseEgressProxy(url),
      extraCa: authority.certificate,
      callee,
    });

  for (const [scheme, options] of [
    ['http', {}],
    ['https', { tls }],
  ] as const) {
    it(`${scheme} calls are delivered, and the callee sees nothing of it`, () =>
      through(given(), options, async ({ callee, call }) => {
        for (let n = 0; n < 2; n += 1) assertDelivered(await call(`/${n}`), 'ok');
        assertDelivered(await call('/', { method: 'POST', body: '{"id": 7}' }), 'ok');
        assert.equal(callee.requests.length, 3);
        for (const { text } of callee.requests) assert.doesNotMatch(text, /proxy-authorization/i);
      }));

    it(`${scheme} calls without it, or with another, are the proxy's refusal`, async () => {
      for (const url of [squid.url, urlWith(`${USER}:wrong`)]) {
        await through(url, options, async ({ callee, call }) => {
          assertFailed(await call(), 'proxy', /^The egress proxy answered 407/);
          assert.equal(callee.accepted, 0);
        });
      }
    });
  }

  it('nobody reads the password: not from config, the log, the API, an error or the metrics', async (t) => {
    const folder = temporaryFolder();
    const callee = await RecordingCallee.start();
    const settings = { ORDERHOOK_EGRESS_PROXY: given(), ORDERHOOK_LOG_LEVEL: 'debug' };
    const service = new NodeProcess(folder.path, { settings });
    t.after(async () => {
      if (!service.hasEnded) await service.end('SIGKILL');
      await callee.stop();
      folder.remove();
    });
    const address = await service.ready;
    const told: string[] = [];
    const ask = async (method: string, path: string, body?: unknown) => {
      const found = await api<{ id: string }>(address, method, path, body);
      told.push(JSON.stringify(found));
      return found;
    };
    const venue = '/institutions/VENUE';
    await ask('POST', '/institutions', { code: 'VENUE', name: 'Venue' });
    const opening = await ask('POST', `${venue}/proxy-openings`, {
      destination: new URL(callee.address).host,
    });
    await ask('POST', `${venue}/proxy-openings/${opening.id}/open`, { allowPrivate: true });
    const { id } = await ask('POST', `${venue}/interfaces`, {
      name: 'CRM',
      type: 'ORDER_WEBHOOK_V1',
      method: 'GET',
      url: `${callee.address}/\${orderId}`,
    });
    const schedule = await ask('POST', `${venue}/interfaces/${id}/schedules`, {
      name: 'x',
      launch: 'MANUAL',
    });
    for (const orderId of [1, 2]) {
      await ask('PUT', `${venue}/orders/${orderId}`, { orderId, orderState: 'CLOSED' });
    }
    await ask('POST', `${venue}/interfaces/${id}/preview`, { orderId: '1' });
    await ask('POST', `${venue}/interfaces/${id}/test-call`, { orderId: '1' });
    await ask('POST', `${venue}/schedules/${schedule.id}/run?wait=true`);
    await ask('GET', `${venue}/interfaces/${id}/calls`);
    assert.equal(callee.calls.length, 3, 'all of it went through the proxy');
    told.push(await (await fetch(`${address}/metrics`)).text());
    const unknown = await fetch(`${address}/api/v1/x?proxy=${encodeURIComponent(given())}`, {
      headers: { authorization: `Bearer ${ADMIN_KEY}` },
    });
    told.push(await unknown.text());
    assert.equal((await service.end('SIGTERM')).exitCode, 0);
    told.push(service.errors);

    const config = await runCommand(['config'], settings);
    assert.equal(config.code, 0);
    told.push(config.stdout, config.stderr);
    for (const [args, environment] of [
      [['config', '--egress-proxy', `${given()}/path`], {}],
      [['config', '--egress-prox', given()], {}],
      [['config', `--egress-prox=${given()}`], {}],
      [['config', given()], {}],
      [['config'], { ORDERHOOK_EGRESS_PROXY: `${given()}/path` }],
      [['config'], { ORDERHOOK_PORT: given() }],
      [['config'], { ORDERHOOK_URL: given() }],
      [['config'], { ORDERHOOK_LOG_LEVEL: given() }],
      [['import', 'x', '--institution', 'A', '--key', 'k'], { ORDERHOOK_URL: given() }],
    ] as const) {
      const { code, stdout, stderr } = await runCommand(args, environment);
      assert.notEqual(code, 0, args.join(' '));
      assert.doesNotMatch(stderr, /^ {4}at /m);
      told.push(stdout, stderr);
    }
    for (const secret of SECRETS) {
      for (const text of told) assert.ok(!text.includes(secret), `${secret} is in: ${text}`);
    }
  });
});
