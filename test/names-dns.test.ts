/** Names by real questions to real DNS servers, which are the test's own, on loopback. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, it, type TestContext } from 'node:test';
import { describeNameError } from '../src/caller/name-error.ts';
import { createNames } from '../src/caller/names.ts';
import { type DnsRecord, DnsServer } from './support/dns-server.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

async function start(t: TestContext, zones: readonly Record<string, DnsRecord>[]) {
  const servers = await Promise.all(zones.map((zone) => DnsServer.start(zone)));
  for (const server of servers) t.after(() => server.close());
  const folder = temporaryFolder();
  t.after(() => folder.remove());
  const [hostsFile, resolverFile] = [join(folder.path, 'hosts'), join(folder.path, 'resolv.conf')];
  writeFileSync(hostsFile, '');
  const lines = servers.map(({ address }) => `nameserver ${address}\n`);
  writeFileSync(resolverFile, `${lines.join('')}search .\n`);
  const names = createNames({ limitMs: 5_000, hostsFile, resolverFile, hasIpv6: () => false });
  t.after(() => names.close());
  return {
    servers,
    dns: servers[0] as DnsServer,
    hostsFile,
    resolverFile,
    look: (host: string) =>
      names.resolve(host).then(
        (addresses) => addresses.map(({ address }) => address).join(' '),
        (error) => describeNameError(host, error).detail,
      ),
  };
}

const descriptors = () => readdirSync('/proc/self/fd').length;
const missing = process.platform === 'linux' ? undefined : 'descriptors are counted by /proc, of Linux';
if (missing) console.warn(`NOT TESTED: how many descriptors lookups take. ${missing}.`);

const moduleText = (file: string) => JSON.stringify(join(import.meta.dirname, '../src/caller', file));

/** Runs a text in a process of its own, which may have 400 descriptors. */
function program(source: string) {
  const child = spawn(
    'sh',
    ['-c', 'ulimit -n 400; exec "$0" --input-type=module-typescript -e "$1"', process.execPath, source],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  return { child, output: text(child.stdout) };
}

describe('over the network', () => {
  it('addresses of both families are found, and kept for their time to live', async (t) => {
    const { dns, look } = await start(t, [
      {
        'both.example': { a: ['93.184.216.34', '93.184.216.35'], aaaa: ['2606:4700::1111'] },
        'six.example': { aaaa: ['2606:4700::6'] },
        'none.example': {},
        'brief.example': { a: ['93.184.216.34'], ttl: 0 },
      },
    ]);
    for (let n = 0; n < 2; n++) {
      assert.equal(await look('both.example'), '93.184.216.34 2606:4700::1111 93.184.216.35');
      assert.equal(await look('brief.example'), '93.184.216.34');
    }
    assert.deepEqual([dns.asked('both.example', 'A'), dns.asked('both.example', 'AAAA')], [1, 1]);
    assert.equal(dns.asked('brief.example', 'A'), 2);
    assert.equal(await look('six.example'), '2606:4700::6');
    assert.match(await look('none.example'), /it has no address \(ENODATA\)/);
    assert.match(await look('gone.example'), /no such name \(ENOTFOUND\)/);
    assert.match(await look("it's-no-name!.example"), /no name that DNS can have/);
  });

  it('a server that is not there, refuses or fails is passed over', async (t) => {
    for (const zone of [
      { 'a.example': { fails: 'REFUSED' } },
      { 'a.example': { fails: 'SERVFAIL' } },
    ] as const) {
      const { look } = await start(t, [zone, { 'a.example': { a: ['1.1.1.1'] } }]);
      assert.equal(await look('a.example'), '1.1.1.1');
    }
    const { resolverFile, look } = await start(t, [{ 'a.example': { a: ['1.1.1.1'] } }]);
    writeFileSync(resolverFile, `nameserver 127.0.0.1:9\n${readFileSync(resolverFile, 'utf8')}`);
    assert.equal(await look('a.example'), '1.1.1.1');
  });

  it('without any server there, this is said', async (t) => {
    const { resolverFile, look } = await start(t, [{}]);
    writeFileSync(resolverFile, 'nameserver 127.0.0.1:9\nsearch .\n');
    assert.match(await look('a.example'), /^a\.example does not resolve: the DNS server cannot be reached/);
  });

  it('a slow answer is waited for, however fast the server was before', async (t) => {
    const { look } = await start(t, [
      { 'quick.example': { a: ['1.1.1.1'], ttl: 0 }, 'slow.example': { a: ['1.1.1.2'], delayMs: 1_500 } },
    ]);
    for (let n = 0; n < 20; n++) await look('quick.example');
    assert.equal(await look('slow.example'), '1.1.1.2');
  });

  it('each lookup asks from a port of its own, so that no answer is easily forged', async (t) => {
    const { dns, look } = await start(t, [
      { 'a.example': { a: ['1.1.1.1'], ttl: 0 }, 'silent.example': { silent: 'both' } },
    ]);
    const silent = look('silent.example');
    for (let n = 0; n < 20; n++) await look('a.example');
    const ports = dns.queries.filter(({ name }) => name === 'a.example').map(({ fromPort }) => fromPort);
    // The system may give a port again that is free again.
    assert.ok(new Set(ports).size > 10, `${new Set(ports).size} ports`);
    dns.zone.set('silent.example', { a: ['1.1.1.3'] });
    assert.equal(await silent, '1.1.1.3', 'a question that got lost is asked again');
  });

  it('hundreds of names that stay silent take few descriptors, and others are found meanwhile', {
    skip: missing,
  }, async (t) => {
    const silent = Array.from({ length: 350 }, (_, n) => `silent${n}.example`);
    const { look } = await start(t, [
      {
        ...Object.fromEntries(silent.map((name) => [name, { silent: 'both' as const }])),
        'good.example': { a: ['1.1.1.1'], ttl: 0 },
        'slow.example': { a: ['1.1.1.2'], delayMs: 700 },
      },
    ]);
    const before = descriptors();
    const lost: Promise<string>[] = [];
    let most = 0;
    // Not all in one turn: the server, which shares the thread, would not keep up, and questions would get lost.
    for (let n = 0; n < silent.length; n += 25) {
      lost.push(...silent.slice(n, n + 25).map(look));
      assert.equal(await look('good.example'), '1.1.1.1');
      most = Math.max(most, descriptors() - before);
    }
    assert.equal(await look('slow.example'), '1.1.1.2');
    assert.ok(most > 200 && most < 270, `${most} descriptors`);
    for (const detail of await Promise.all(lost)) assert.match(detail, /was not resolved within 5000 ms$/);
    assert.equal(await look('good.example'), '1.1.1.1');
    assert.ok(descriptors() - before < 20, 'they are given back');
  });

  it('names that are closed ask nobody any more, so that a process can end', async (t) => {
    const silent = Array.from({ length: 300 }, (_, n) => `silent${n}.example`);
    const zone = Object.fromEntries(silent.map((name) => [name, { silent: 'both' as const }]));
    const { hostsFile, resolverFile } = await start(t, [zone]);
    const { child, output } = program(`
      import { createNames } from ${moduleText('names.ts')};
      const names = createNames(${JSON.stringify({ limitMs: 60_000, hostsFile, resolverFile })});
      const lost = Array.from({ length: 300 }, (_, n) => names.resolve('silent' + n + '.example'));
      let closedAt = 0;
      setTimeout(() => { closedAt = performance.now(); names.close(); }, 200);
      console.log(new Set((await Promise.allSettled(lost)).map(({ reason }) => reason.message)));
      process.on('exit', () => console.log(performance.now() - closedAt));
    `);
    t.after(() => child.kill('SIGKILL'));
    const [reasons, endMs] = (await output).trim().split('\n');
    assert.equal(reasons, "Set(1) { 'names are not resolved any more' }");
    // A question that nobody ends takes 7 s at least.
    assert.ok(Number(endMs) < 4_000, `it ended ${endMs} ms later`);
  });

  it('no descriptor left is this machine’s own trouble', { skip: missing }, async (t) => {
    const { hostsFile, resolverFile } = await start(t, [{ 'a.example': { a: ['1.1.1.1'], ttl: 0 } }]);
    const { output } = program(`
      import { openSync, closeSync } from 'node:fs';
      import { createNames } from ${moduleText('names.ts')};
      import { describeNameError } from ${moduleText('name-error.ts')};
      const names = createNames(${JSON.stringify({ limitMs: 2_000, hostsFile, resolverFile })});
      const look = () =>
        names.resolve('a.example').then(
          () => 'found',
          (error) => JSON.stringify(describeNameError('a.example', error)),
        );
      const held = [];
      const fill = () => { try { for (;;) held.push(openSync('/dev/null')); } catch {} };
      const free = () => { for (const one of held.splice(0)) closeSync(one); };
      fill();
      console.log(await look());
      free();
      console.log(await look());
      fill();
      console.log(await look());
      free();
      console.log(await look());
    `);
    const lines = (await output).trim().split('\n');
    assert.match(lines[0] ?? '', /"reason":"local".*EMFILE/);
    assert.equal(lines[1], 'found');
    assert.match(lines[2] ?? '', /"reason":"local".*EMFILE/);
    assert.equal(lines[3], 'found');
  });
});
