/** What `names-network.test.ts` runs in a network of its own: a DNS server, a callee and a `serve`, all on its loopback. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { type DnsRecord, DnsServer } from './dns-server.ts';
import { ServiceProcess } from './service-process.ts';
import { temporaryFolder } from './temporary-folder.ts';
import { until } from './until.ts';

/** Every call needs a lookup: the callee keeps no connection, and DNS lets nobody keep an answer. */
const CALLEE: DnsRecord = { a: ['127.0.0.1'], ttl: 0 };
/** Far less than a lookup that fails takes, and time enough for a busy machine. */
const PROMPT_MS = 2_500;
const ORDERS = 25;

const folder = temporaryFolder();
const callee = createServer((request, response) => {
  called.push(`${request.headers.host?.replace(/:\d+$/, '')}${request.url}`);
  response.setHeader('connection', 'close').end('ok');
});
const called: string[] = [];
let dns: DnsServer;
let service: ServiceProcess;
let port: number;

before(async () => {
  dns = await DnsServer.start({}, { port: 53 });
  callee.listen(0, '127.0.0.1');
  await once(callee, 'listening');
  ({ port } = callee.address() as AddressInfo);
  service = await ServiceProcess.start(folder.path);
});

after(async () => {
  await service.stop();
  callee.close();
  await dns.close();
  folder.remove();
});

/** An institution with a continuous interface for each host. */
async function institution(code: string, hosts: readonly string[], settings: object = {}) {
  const path = `/institutions/${code}`;
  await service.call('POST', '/institutions', { code, name: code });
  const openings = hosts.map(async (host) => {
    const opening = await service.call('POST', `${path}/proxy-openings`, { destination: `${host}:${port}` });
    await service.call('POST', `${path}/proxy-openings/${opening.id}/open`, { allowPrivate: true });
  });
  await Promise.all(openings);
  const save = async (host: string) => {
    const saved = await service.call('POST', `${path}/interfaces`, {
      name: host,
      type: 'ORDER_WEBHOOK_V1',
      url: `http://${host}:${port}/${code}/\${orderId}`,
      method: 'GET',
      ...settings,
    });
    const schedule = { name: 'Always', launch: 'AUTOMATIC', frequencyMinutes: 0 };
    await service.call('POST', `${path}/interfaces/${saved.id}/schedules`, schedule);
    return saved as { id: string; warnings: { message: string }[] };
  };
  return {
    save,
    close: (count: number) =>
      Promise.all(
        Array.from({ length: count }, (_, n) =>
          service.call('PUT', `${path}/orders/${n + 1}`, { orderId: n + 1, orderState: 'CLOSED' }),
        ),
      ),
    calls: async (id: string) =>
      (await service.call('GET', `${path}/interfaces/${id}/calls?limit=200`)).items as {
        orderId: string;
        outcome: string;
        attempt: number;
        durationMs: number;
        reason?: string;
        detail?: string;
      }[],
  };
}

async function takes(what: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await what();
  return performance.now() - startedAt;
}

for (const count of [3, 4, 50]) {
  test(`${count} names of one institution that stay silent cost another no attempt and no time`, async (t) => {
    const silent = Array.from({ length: count }, (_, n) => `silent${n}.a${count}.example`);
    for (const name of silent) dns.zone.set(name, { silent: 'both' });
    dns.zone.set(`b${count}.example`, CALLEE);
    const troubled = await institution(`A${count}`, silent);
    const healthy = await institution(`B${count}`, [`b${count}.example`]);

    // Saving is enough: each looks its name up.
    const saves = Promise.all(silent.map(troubled.save));
    await until('all of them are asked for', () => silent.every((name) => dns.asked(name) > 0));
    const healthMs = await takes(() => fetch(`${service.address}/healthz`));
    let saved = { id: '', warnings: [{ message: '' }] };
    const saveMs = await takes(async () => {
      saved = await healthy.save(`b${count}.example`);
    });
    assert.deepEqual(saved.warnings, [], 'the healthy name resolves meanwhile');
    assert.ok(healthMs < PROMPT_MS && saveMs < PROMPT_MS, `health ${healthMs} ms, save ${saveMs} ms`);
    const interfaces = await saves;
    for (const { warnings } of interfaces)
      assert.match(warnings[0]?.message ?? '', /did not resolve within 3 s/);

    await troubled.close(10);
    const asked = dns.queries.length;
    await until('the engine asks for them', () =>
      silent.every((name) => dns.queries.slice(asked).some((query) => query.name === name)),
    );
    await healthy.close(ORDERS);
    const isLogged = async () => (await healthy.calls(saved.id)).length >= ORDERS;
    const deliveredMs = await takes(() => until('all of the healthy one are called', isLogged));
    const log = await healthy.calls(saved.id);
    assert.equal(log.length, ORDERS);
    for (const { outcome, attempt } of log) assert.deepEqual([outcome, attempt], ['DELIVERED', 1]);
    assert.equal(new Set(log.map(({ orderId }) => orderId)).size, ORDERS);
    const longestMs = Math.max(...log.map(({ durationMs }) => durationMs));
    assert.ok(longestMs < PROMPT_MS, `the longest call took ${longestMs} ms`);
    t.diagnostic(
      `health ${healthMs.toFixed(0)} ms, save ${saveMs.toFixed(0)} ms, ${ORDERS} calls ${deliveredMs.toFixed(0)} ms, longest ${longestMs.toFixed(0)} ms`,
    );

    const first = interfaces[0]?.id ?? '';
    await until('the silent ones fail', async () => (await troubled.calls(first)).length > 0);
    for (const { outcome, reason, detail } of await troubled.calls(first)) {
      assert.deepEqual([outcome, reason], ['FAILED', 'dns']);
      assert.equal(detail, `${silent[0]} was not resolved within 5000 ms`);
    }
  });
}

test('64 calls at once ask once, and so do those after them', async () => {
  dns.zone.set('many.example', { a: ['127.0.0.1'], ttl: 60, delayMs: 200 });
  const many = await institution('MANY', ['many.example'], { concurrency: 64 });
  const { id } = await many.save('many.example');
  await many.close(64);
  await until('all are called', async () => (await many.calls(id)).length >= 64);
  for (const { outcome } of await many.calls(id)) assert.equal(outcome, 'DELIVERED');
  // Once for the save, by the server's thread, and once for all calls, by the engine's.
  assert.deepEqual([dns.asked('many.example', 'A'), dns.asked('many.example', 'AAAA')], [2, 2]);
});

test('the hosts file and the search domains are honoured', async () => {
  dns.zone.set('hook.corp.example', CALLEE);
  const local = await institution('LOCAL', ['listed.example', 'hook', 'localhost']);
  for (const host of ['listed.example', 'hook', 'localhost']) {
    assert.deepEqual((await local.save(host)).warnings, [], host);
  }
  await local.close(1);
  await until('all three are called', () =>
    ['listed.example', 'hook', 'localhost'].every((host) => called.includes(`${host}/LOCAL/1`)),
  );
  assert.equal(dns.asked('listed.example') + dns.asked('localhost') + dns.asked('hook'), 0);
});

test('files that change are honoured without a restart, in both threads', async (t) => {
  const second = await DnsServer.start({ 'moved.example': CALLEE }, { host: '127.0.0.2', port: 53 });
  t.after(() => second.close());
  const moving = await institution('MOVING', ['moved.example', 'new.example']);
  assert.match((await moving.save('moved.example')).warnings[0]?.message ?? '', /no such name \(ENOTFOUND\)/);
  assert.match((await moving.save('new.example')).warnings[0]?.message ?? '', /no such name \(ENOTFOUND\)/);
  writeFileSync('/etc/resolv.conf', 'nameserver 127.0.0.2\n');
  writeFileSync('/etc/hosts', '127.0.0.1 new.example\n');
  for (const host of ['moved.example', 'new.example']) {
    await until(`${host} is found`, async () => (await moving.save(host)).warnings.length === 0);
  }
  await moving.close(1);
  await until('both are called', () =>
    ['moved.example', 'new.example'].every((host) => called.includes(`${host}/MOVING/1`)),
  );
});
