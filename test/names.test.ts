/** How names get their addresses, with DNS and time in the hands of the test. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { ResolvedAddress } from '../src/caller/destination.ts';
import { describeNameError } from '../src/caller/name-error.ts';
import { createNames } from '../src/caller/names.ts';
import { FakeClock, settle } from './support/fake-clock.ts';
import { FakeDns } from './support/fake-dns.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

const LIMIT_MS = 5_000;
const PUBLIC = '93.184.216.34';

type Given = { hosts?: string; resolver?: string; hasIpv6?: boolean };

/** Names that have read both files already, so that from here on nothing takes time but what the test makes wait. */
async function start(t: TestContext, given: Given = {}) {
  const folder = temporaryFolder();
  t.after(() => folder.remove());
  const [hostsFile, resolverFile] = [join(folder.path, 'hosts'), join(folder.path, 'resolv.conf')];
  writeFileSync(hostsFile, given.hosts ?? '');
  writeFileSync(resolverFile, given.resolver ?? 'nameserver 10.0.0.53\nsearch .\n');
  const [clock, dns] = [new FakeClock(), new FakeDns()];
  const names = createNames({
    limitMs: LIMIT_MS,
    clock,
    hostsFile,
    resolverFile,
    askers: dns,
    hasIpv6: () => given.hasIpv6 ?? true,
  });
  t.after(() => names.close());
  dns.onQuestion = (question) => question.answer('8.8.8.8');
  await names.resolve('read-both-files.example');
  await settle();
  dns.onQuestion = undefined;
  dns.questions.length = 0;
  return {
    clock,
    dns,
    names,
    hostsFile,
    resolverFile,
    /** What came of a lookup, as a text: addresses, or why there are none. */
    look: (host: string) =>
      names.resolve(host).then(written, (error) => describeNameError(host, error).detail),
  };
}

const written = (addresses: readonly ResolvedAddress[]) => addresses.map(({ address }) => address).join(' ');

/** What a promise came to, while it may have come to nothing yet. */
function watch<T>(promise: Promise<T>): { value?: T } {
  const seen: { value?: T } = {};
  promise.then((value) => {
    seen.value = value;
  });
  return seen;
}

describe('a name that is never answered for', () => {
  it('delays no other name, whatever their number, and fails when its own time is over', async (t) => {
    const { clock, dns, look } = await start(t);
    dns.onQuestion = (question) => question.name === 'good.example' && question.answer(PUBLIC);
    const silent = Array.from({ length: 1_000 }, (_, n) => look(`silent${n}.example`));
    assert.equal(await look('good.example'), PUBLIC);
    await clock.advance(LIMIT_MS - 1);
    assert.equal(await look('good.example'), PUBLIC);
    const [first, last] = [watch(silent[0] as Promise<string>), watch(silent[999] as Promise<string>)];
    await settle();
    assert.deepEqual([first, last], [{}, {}]);
    await clock.advance(1);
    for (const [n, detail] of (await Promise.all(silent)).entries()) {
      assert.equal(detail, `silent${n}.example was not resolved within 5000 ms`);
    }
    assert.equal(dns.inUse, 0);
  });

  it('is asked for again by whoever asks next, and found once it is answered for', async (t) => {
    const { clock, dns, look } = await start(t);
    const first = look('silent.example');
    await clock.advance(LIMIT_MS);
    assert.match(await first, /not resolved within/);
    dns.onQuestion = (question) => question.answer(PUBLIC);
    assert.equal(await look('silent.example'), PUBLIC);
  });

  it('does not fail somebody who asked late in the time of somebody else', async (t) => {
    const { clock, dns, look } = await start(t);
    const first = watch(look('late.example'));
    await clock.advance(LIMIT_MS - 100);
    const [second, third] = [look('late.example'), look('late.example')];
    await clock.advance(100);
    assert.match(first.value ?? '', /not resolved within/);
    assert.equal(dns.inUse, 1);
    for (const question of dns.questions.slice(-2)) question.answer('2606:4700::1111', PUBLIC);
    assert.deepEqual(await Promise.all([second, third]), Array(2).fill(`2606:4700::1111 ${PUBLIC}`));
  });

  it('fails somebody who asked a moment later together with the first', async (t) => {
    const { clock, dns, look } = await start(t);
    const first = watch(look('silent.example'));
    await clock.advance(100);
    const second = watch(look('silent.example'));
    await clock.advance(LIMIT_MS);
    assert.deepEqual(
      [first, second],
      Array(2).fill({ value: 'silent.example was not resolved within 5000 ms' }),
    );
    assert.equal(dns.inUse, 0);
  });

  it('fails sooner where resolv.conf has less patience', async (t) => {
    const { clock, look } = await start(t, {
      resolver: 'nameserver 10.0.0.53\nnameserver 10.0.0.54\nsearch .\noptions timeout:1 attempts:1\n',
    });
    const seen = watch(look('silent.example'));
    await clock.advance(1_999);
    assert.deepEqual(seen, {});
    await clock.advance(1);
    assert.equal(seen.value, 'silent.example was not resolved within 2000 ms');
  });

  it('fails at once when names are closed, and so does what is asked after that', async (t) => {
    const { dns, names, look } = await start(t);
    const silent = look('silent.example');
    await settle();
    names.close();
    assert.match(await silent, /not resolved any more/);
    assert.match(await look('other.example'), /not resolved any more/);
    assert.equal(dns.inUse, 0);
  });
});

describe('an answer', () => {
  it('is shared by all who ask while it is on its way: one question for 64 calls', async (t) => {
    const { dns, look } = await start(t);
    dns.ttl = 0;
    const all = Array.from({ length: 64 }, (_, n) =>
      look(n % 2 === 0 ? 'partner.example' : 'PARTNER.example'),
    );
    await settle();
    assert.deepEqual(dns.asked, ['partner.example']);
    for (const question of dns.questions) question.answer(PUBLIC);
    assert.deepEqual(await Promise.all(all), Array(64).fill(PUBLIC));
  });

  it('is kept for its time to live, and no longer', async (t) => {
    const { clock, dns, look } = await start(t);
    dns.answerFrom({ 'partner.example': [PUBLIC] });
    dns.ttl = 7;
    await look('partner.example');
    await clock.advance(6_999);
    assert.equal(await look('partner.example'), PUBLIC);
    assert.equal(dns.asked.length, 1);
    await clock.advance(1);
    await look('partner.example');
    assert.equal(dns.asked.length, 2);
  });

  it('is kept for 30 s at most, and not at all with a time to live of 0', async (t) => {
    const { clock, dns, look } = await start(t);
    dns.answerFrom({ 'long.example': [PUBLIC], 'short.example': [PUBLIC] });
    dns.ttl = 86_400;
    await look('long.example');
    await clock.advance(29_999);
    await look('long.example');
    assert.equal(dns.asked.length, 1);
    await clock.advance(1);
    await look('long.example');
    assert.equal(dns.asked.length, 2);
    dns.ttl = 0;
    for (let n = 1; n <= 3; n++) {
      await look('short.example');
      assert.equal(dns.asked.length, 2 + n);
    }
  });

  it('that a name does not exist is not kept', async (t) => {
    const { dns, look } = await start(t);
    dns.answerFrom({});
    assert.equal(await look('new.example'), 'new.example does not resolve: no such name (ENOTFOUND)');
    dns.answerFrom({ 'new.example': [PUBLIC] });
    assert.equal(await look('new.example'), PUBLIC);
  });

  it('is kept of 10,000 names, and forgotten first where it was used longest ago', async (t) => {
    const { dns, look } = await start(t);
    dns.onQuestion = (question) => question.answer(PUBLIC);
    for (let n = 0; n < 10_000; n++) await look(`n${n}.example`);
    await look('n0.example');
    assert.equal(dns.asked.length, 10_000);
    await look('one-more.example');
    for (const name of ['n0.example', 'n9999.example']) await look(name);
    assert.equal(dns.asked.length, 10_001);
    await look('n1.example');
    assert.equal(dns.asked.length, 10_002);
  });

  it('has both families in turn, IPv6 first where the machine has it', async (t) => {
    const table = { 'two.example': ['1.1.1.1', '2606::1', '1.1.1.2', '1.1.1.3', '2606::2'] };
    for (const [hasIpv6, expected] of [
      [true, '2606::1 1.1.1.1 2606::2 1.1.1.2 1.1.1.3'],
      [false, '1.1.1.1 2606::1 1.1.1.2 2606::2 1.1.1.3'],
    ] as const) {
      const { dns, names, look } = await start(t, { hasIpv6 });
      dns.answerFrom(table);
      assert.equal(await look('two.example'), expected);
      for (const { address, family } of await names.resolve('two.example')) {
        assert.equal(family, address.includes(':') ? 6 : 4);
      }
    }
  });

  it('with more addresses than anybody needs is refused: each would be checked for each call', async (t) => {
    const { dns, look } = await start(t);
    const many = (count: number) => Array.from({ length: count }, (_, n) => `1.1.${n >> 8}.${n & 255}`);
    dns.answerFrom({ 'many.example': many(256), 'more.example': [...many(256), '2606::1'] });
    assert.equal((await look('many.example')).split(' ').length, 256);
    assert.equal(
      await look('more.example'),
      'more.example does not resolve: it has 257 addresses, more than 256',
    );
  });
});

describe('the two families', () => {
  it('are asked for at the same time, and neither is waited for long when the other is there', async (t) => {
    for (const silent of [4, 6]) {
      const { clock, dns, look } = await start(t);
      const seen = watch(look('half.example'));
      await settle();
      assert.deepEqual(
        dns.questions.map(({ family }) => family),
        [4, 6],
      );
      const address = silent === 4 ? '2606::1' : '1.1.1.1';
      dns.questions.find(({ family }) => family !== silent)?.answer(address);
      await clock.advance(499);
      assert.deepEqual(seen, {});
      await clock.advance(1);
      assert.equal(seen.value, address);
      assert.equal(dns.inUse, 0);
    }
  });

  it('count together when both come in time', async (t) => {
    const { clock, dns, look } = await start(t);
    const seen = watch(look('both.example'));
    await settle();
    dns.questions[1]?.answer('2606::1');
    await clock.advance(499);
    dns.questions[0]?.answer('1.1.1.1');
    await settle();
    assert.equal(seen.value, '2606::1 1.1.1.1');
  });

  for (const [what, ofIpv4, ofIpv6, expected] of [
    ['one has no address', '1.1.1.1', 'ENODATA', '1.1.1.1'],
    ['the server denies the name for IPv6 only', '1.1.1.1', 'ENOTFOUND', '1.1.1.1'],
    ['the server fails for one', 'ESERVFAIL', '2606::1', '2606::1'],
    ['both have none', 'ENODATA', 'ENODATA', 'x.example does not resolve: it has no address (ENODATA)'],
    [
      'the name does not exist',
      'ENODATA',
      'ENOTFOUND',
      'x.example does not resolve: no such name (ENOTFOUND)',
    ],
    ['one has none and the other fails', 'ENODATA', 'EREFUSED', /refused to look it up \(EREFUSED\)$/],
    ['both are refused by c-ares', 'EBADNAME', 'EBADNAME', /no name that DNS can have \(EBADNAME\)$/],
  ] as const) {
    it(`are taken as they are: ${what}`, async (t) => {
      const { dns, look } = await start(t);
      dns.onQuestion = (question) => {
        const said = question.family === 4 ? ofIpv4 : ofIpv6;
        if (said.startsWith('E')) question.fail(said);
        else question.answer(said);
      };
      const outcome = await look('x.example');
      if (typeof expected === 'string') assert.equal(outcome, expected);
      else assert.match(outcome, expected);
    });
  }
});

describe('of several servers', () => {
  const resolver = 'nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch .\n';
  const answering = (dns: FakeDns, silent: string) => {
    dns.onQuestion = (question) => question.nameserver !== silent && question.answer('1.1.1.1');
  };

  it('one that stays silent costs a second, and then the others are asked first', async (t) => {
    const { clock, dns, look } = await start(t, { resolver });
    answering(dns, '10.0.0.1');
    const first = watch(look('a.example'));
    await clock.advance(999);
    assert.deepEqual(first, {});
    await clock.advance(1);
    assert.equal(first.value, '1.1.1.1');
    assert.equal(await look('b.example'), '1.1.1.1');
    assert.equal(dns.questions.at(-1)?.nameserver, '10.0.0.2');
    // The order of the file is tried again from time to time.
    answering(dns, '');
    await clock.advance(30_000);
    await look('c.example');
    assert.equal(dns.questions.at(-1)?.nameserver, '10.0.0.1');
  });

  it('one that fails is passed over at once', async (t) => {
    for (const code of ['ESERVFAIL', 'EREFUSED', 'ECONNREFUSED', 'EBADRESP']) {
      const { dns, look } = await start(t, { resolver });
      dns.onQuestion = (question) => {
        if (question.nameserver === '10.0.0.1') question.fail(code);
        else question.answer('1.1.1.1');
      };
      assert.equal(await look('a.example'), '1.1.1.1');
    }
  });

  it('one that says that the name does not exist is believed', async (t) => {
    const { dns, look } = await start(t, { resolver });
    dns.onQuestion = (question) => {
      if (question.nameserver === '10.0.0.1') question.fail('ENOTFOUND');
      else question.answer('1.1.1.1');
    };
    assert.match(await look('a.example'), /no such name/);
  });

  it('all failing is a failure at once, and each was asked as often as resolv.conf says', async (t) => {
    const { dns, look } = await start(t, { resolver: `${resolver}options attempts:3\n` });
    dns.onQuestion = (question) => question.fail('ESERVFAIL');
    assert.equal(await look('a.example'), 'a.example does not resolve: its DNS servers failed (ESERVFAIL)');
    assert.equal(dns.asked.length, 6);
  });

  it('one that answers late is listened to, while others are asked', async (t) => {
    const { clock, dns, look } = await start(t, { resolver });
    const seen = watch(look('slow.example'));
    await clock.advance(4_000);
    assert.deepEqual(
      dns.questions.filter(({ family }) => family === 4).map(({ nameserver }) => nameserver),
      ['10.0.0.1', '10.0.0.2', '10.0.0.1', '10.0.0.2'],
    );
    for (const question of dns.questions.slice(0, 2)) question.answer('1.1.1.1');
    await settle();
    assert.equal(seen.value, '1.1.1.1');
  });

  it('one that stays silent is listened to after the others have failed', async (t) => {
    const { clock, dns, look } = await start(t, { resolver: `${resolver}options attempts:1\n` });
    dns.onQuestion = (question) => question.nameserver === '10.0.0.2' && question.fail('ESERVFAIL');
    const seen = watch(look('slow.example'));
    await clock.advance(1_500);
    assert.deepEqual([dns.asked.length, seen], [2, {}]);
    for (const question of dns.questions.slice(0, 2)) question.answer('1.1.1.1');
    await settle();
    assert.equal(seen.value, '1.1.1.1');
  });

  it('a shortage of this machine is its own, whichever is asked', async (t) => {
    const { dns, names } = await start(t, { resolver });
    dns.onQuestion = (question) => question.fail('EMFILE');
    const isLocal = (error: Error) => describeNameError('a.example', error).reason === 'local';
    await assert.rejects(names.resolve('a.example'), isLocal);
  });
});

describe('the files', () => {
  it('of hosts is asked before DNS, in any case and with a dot at the end', async (t) => {
    const hosts = '10.0.0.7 Partner.Example\n::1 localhost\n';
    const { dns, look } = await start(t, { hosts });
    for (const name of ['partner.example', 'PARTNER.example', 'partner.example.']) {
      assert.equal(await look(name), '10.0.0.7');
    }
    assert.equal(await look('localhost'), '::1');
    assert.equal(dns.questions.length, 0);
  });

  it('need not have localhost', async (t) => {
    const { dns, look } = await start(t);
    for (const name of ['localhost', 'LocalHost.', 'db.localhost'])
      assert.equal(await look(name), '::1 127.0.0.1');
    assert.equal(dns.questions.length, 0);
  });

  it('of hosts that changes counts within a second, also for what was kept', async (t) => {
    const { clock, dns, look, hostsFile } = await start(t);
    dns.answerFrom({ 'partner.example': [PUBLIC], 'other.example': [PUBLIC] });
    assert.equal(await look('partner.example'), PUBLIC);
    await look('other.example');
    writeFileSync(hostsFile, '10.0.0.7 partner.example\n');
    await clock.advance(1_000);
    assert.equal(await look('partner.example'), '10.0.0.7');
    await look('other.example');
    assert.equal(dns.asked.length, 3);
  });

  it('of servers that changes counts within a second, and what runs goes on', async (t) => {
    const { clock, dns, look, resolverFile } = await start(t);
    const running = look('running.example');
    await settle();
    writeFileSync(resolverFile, 'nameserver 10.0.0.99\nsearch .\n');
    await clock.advance(900);
    dns.onQuestion = ({ name, answer }) => name === 'next.example' && answer('1.1.1.1');
    await clock.advance(100);
    assert.equal(await look('next.example'), '1.1.1.1');
    assert.equal(dns.questions.at(-1)?.nameserver, '10.0.0.99');
    assert.equal(dns.questions[0]?.nameserver, '10.0.0.53');
    for (const question of dns.questions.slice(0, 2)) question.answer('2.2.2.2');
    assert.equal(await running, '2.2.2.2');
    // It was asked for under rules that do not hold any more.
    dns.answerFrom({});
    assert.match(await look('running.example'), /no such name/);
  });

  it('without a server leave it to c-ares to find one', async (t) => {
    const { dns, look } = await start(t, { resolver: 'search .\n' });
    dns.answerFrom({ 'a.example': ['1.1.1.1'] });
    await look('a.example');
    assert.equal(dns.questions[0]?.nameserver, undefined);
  });

  const search = 'nameserver 10.0.0.53\nsearch shop.example corp.example\noptions ndots:2\n';

  it('with domains to search: a short name is looked up in each until it is found', async (t) => {
    const { dns, look } = await start(t, { resolver: search });
    dns.answerFrom({ 'hook.corp.example': ['10.0.0.7'], hook: ['1.1.1.1'] });
    assert.equal(await look('hook'), '10.0.0.7');
    assert.deepEqual(dns.asked, ['hook.shop.example', 'hook.corp.example']);
  });

  it('with domains to search: a name that exists without an address is passed over, and so is a server’s failure', async (t) => {
    const { dns, look } = await start(t, { resolver: search });
    dns.onQuestion = ({ name, answer, fail }) => {
      if (name === 'hook.shop.example') fail('ENODATA');
      else if (name === 'hook.corp.example') fail('ESERVFAIL');
      else answer('1.1.1.1');
    };
    assert.equal(await look('hook'), '1.1.1.1');
  });

  it('with domains to search: the failure that is told is that of the name itself', async (t) => {
    const { dns, look } = await start(t, { resolver: search });
    dns.onQuestion = ({ name, fail }) => fail(name === 'partner.example' ? 'ESERVFAIL' : 'ENOTFOUND');
    assert.match(await look('partner.example'), /^partner\.example does not resolve: its DNS servers failed/);
    assert.match(await look('hook'), /no such name/);
  });

  it('with domains to search: silence ends the search, within the time of one lookup', async (t) => {
    const { clock, dns, look } = await start(t, { resolver: search });
    dns.onQuestion = ({ name, fail }) => name === 'hook.shop.example' && fail('ENOTFOUND');
    const seen = watch(look('hook'));
    await clock.advance(LIMIT_MS);
    assert.equal(seen.value, 'hook was not resolved within 5000 ms');
    assert.ok(!dns.asked.includes('hook'));
    assert.equal(dns.inUse, 0);
  });

  it('with domains to search: a dot at the end means the name itself and nothing else', async (t) => {
    const { dns, look } = await start(t, { resolver: search });
    dns.answerFrom({});
    await look('partner.example.');
    assert.deepEqual(dns.asked, ['partner.example']);
  });
});
