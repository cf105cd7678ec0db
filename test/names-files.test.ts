/** The two files that say how names are resolved: what is read in them, and when they are read again. */
import assert from 'node:assert/strict';
import { renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { isLocalhost, parseHosts } from '../src/caller/hosts-file.ts';
import { candidateNames, parseResolverFile } from '../src/caller/resolver-file.ts';
import { WatchedFile } from '../src/caller/watched-file.ts';
import { FakeClock } from './support/fake-clock.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

const label = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/);
const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));

describe('the hosts file', () => {
  it('has addresses of both families, aliases, comments and lines of any ending', async () => {
    const hosts = await parseHosts(
      [
        '# what this machine knows',
        '127.0.0.1\tlocalhost',
        '::1 localhost ip6-localhost',
        '  10.0.0.7   Partner.Example  partner   # the one in the cellar',
        '10.0.0.8 partner.example.',
        '10.0.0.7 partner.example',
        '#10.0.0.9 gone.example',
        'fe80::1%lo0 link.example',
        '10.0.0.300 wrong.example',
        '10.0.0.10',
        'no-address.example',
        '10.0.0.11 __proto__ constructor',
      ].join('\r\n'),
    );
    assert.deepEqual(
      Object.fromEntries([...hosts].map(([name, all]) => [`${name}`, all.map((one) => one.address)])),
      {
        localhost: ['127.0.0.1', '::1'],
        'ip6-localhost': ['::1'],
        'partner.example': ['10.0.0.7', '10.0.0.8'],
        partner: ['10.0.0.7'],
        'link.example': ['fe80::1%lo0'],
        ['__proto__']: ['10.0.0.11'],
        constructor: ['10.0.0.11'],
      },
    );
    assert.equal(hosts.get('link.example')?.[0]?.family, 6);
  });

  it('says the same however it is written', async () => {
    const address = fc.oneof(fc.ipV4(), fc.ipV6());
    const line = fc.record({
      address,
      names: fc.array(name, { minLength: 1, maxLength: 4 }),
      isUpper: fc.boolean(),
      space: fc.constantFrom(' ', '\t', ' \t  '),
      before: fc.constantFrom('', ' ', '# remark\n', '\n', 'not an address at all\n'),
      end: fc.constantFrom('', ' ', ' # remark', '#remark'),
      lineEnd: fc.constantFrom('\n', '\r\n', '\n\n'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 20 }), async (lines) => {
        const text = lines.map(({ address, names, isUpper, space, before, end, lineEnd }) => {
          const written = names.map((one) => (isUpper ? one.toUpperCase() : one));
          return `${before}${[address, ...written].join(space)}${end}${lineEnd}`;
        });
        const expected = new Map<string, Set<string>>();
        for (const { address, names } of lines) {
          for (const one of names) expected.set(one, (expected.get(one) ?? new Set()).add(address));
        }
        const hosts = await parseHosts(text.join(''));
        assert.deepEqual(
          new Map([...hosts].map(([one, all]) => [one, all.map(({ address }) => address)])),
          new Map([...expected].map(([one, all]) => [one, [...all]])),
        );
      }),
    );
  });

  it('gives way to others while a large one is read', async () => {
    const text = Array.from({ length: 50_000 }, (_, n) => `10.0.0.1 n${n}.example\n`).join('');
    let turns = 0;
    let isRead = false;
    const count = () => {
      turns += 1;
      if (!isRead) setImmediate(count);
    };
    setImmediate(count);
    const hosts = await parseHosts(text);
    isRead = true;
    assert.equal(hosts.size, 50_000);
    assert.ok(turns >= 40, `${turns} turns of the event loop`);
  });

  it('is not needed for localhost and what is below it', () => {
    for (const host of ['localhost', 'LOCALHOST.', 'db.localhost', 'a.b.localhost'])
      assert.ok(isLocalhost(host), host);
    for (const host of ['localhost.example', 'notlocalhost', 'my-localhost'])
      assert.ok(!isLocalhost(host), host);
  });
});

describe('resolv.conf', () => {
  const defaults = { nameservers: [], searchDomains: [], ndots: 1, timeoutMs: 5_000, attempts: 2 };

  it('that is empty, or says what nobody understands, says the defaults', () => {
    for (const text of [
      '',
      '# nothing',
      'nameserver',
      'nameserver here',
      'options',
      'options ndots: rotate',
      'sortlist 1.2.3.4',
    ]) {
      assert.deepEqual(parseResolverFile(text, 'machine'), defaults, text);
    }
  });

  it('has three servers at most, the last list of domains, and options within their limits', () => {
    const text = [
      '; comment',
      'nameserver 10.0.0.1',
      'nameserver ::1   # the second',
      'nameserver 127.0.0.1:5353',
      'nameserver 10.0.0.4',
      'domain first.example',
      'search Second.example. .third.example',
      'options ndots:2 edns0 timeout:1',
      'options attempts:9 timeout:0',
    ].join('\r\n');
    assert.deepEqual(parseResolverFile(text, 'machine.own.example'), {
      nameservers: ['10.0.0.1', '::1', '127.0.0.1:5353'],
      searchDomains: ['Second.example', 'third.example'],
      ndots: 2,
      timeoutMs: 1_000,
      attempts: 5,
    });
    assert.deepEqual(parseResolverFile('search a.example\ndomain b.example', 'm').searchDomains, [
      'b.example',
    ]);
    assert.equal(parseResolverFile('options ndots:99', 'm').ndots, 15);
    assert.equal(parseResolverFile('options ndots:0', 'm').ndots, 0);
  });

  it('without a list of domains has the machine’s own, and an empty one is none', () => {
    assert.deepEqual(parseResolverFile('', 'machine.own.example').searchDomains, ['own.example']);
    assert.deepEqual(parseResolverFile('search .', 'machine.own.example').searchDomains, []);
  });

  it('with few dots a name is searched for first, with many it is tried as it is, with the last it is itself only', () => {
    const kubernetes = { searchDomains: ['shop.svc.cluster.local', 'svc.cluster.local'], ndots: 5 };
    assert.deepEqual(candidateNames('hook', kubernetes), [
      'hook.shop.svc.cluster.local',
      'hook.svc.cluster.local',
      'hook',
    ]);
    assert.deepEqual(candidateNames('partner.example.', kubernetes), ['partner.example']);
    assert.deepEqual(candidateNames('partner.example', { ...kubernetes, ndots: 1 }), [
      'partner.example',
      'partner.example.shop.svc.cluster.local',
      'partner.example.svc.cluster.local',
    ]);
    const property = fc.property(
      name,
      fc.array(name, { maxLength: 5 }),
      fc.nat(15),
      (host, searchDomains, ndots) => {
        const candidates = candidateNames(host, { searchDomains, ndots });
        const isFirst = host.split('.').length - 1 >= ndots;
        assert.equal(candidates.at(isFirst ? 0 : -1), host);
        assert.deepEqual(
          isFirst ? candidates.slice(1) : candidates.slice(0, -1),
          searchDomains.map((domain) => `${host}.${domain}`),
        );
        assert.deepEqual(candidateNames(`${host}.`, { searchDomains, ndots }), [host]);
      },
    );
    fc.assert(property);
  });

  it('no candidate is longer than a name can be', () => {
    const long = Array(8).fill('a'.repeat(30)).join('.');
    assert.deepEqual(candidateNames(long, { searchDomains: ['too.long.example', 'x'], ndots: 1 }), [
      long,
      `${long}.x`,
    ]);
  });
});

describe('a watched file', () => {
  function watch(t: { after: (release: () => void) => void }, text?: string) {
    const folder = temporaryFolder();
    t.after(() => folder.remove());
    const path = join(folder.path, 'file');
    if (text !== undefined) writeFileSync(path, text);
    const clock = new FakeClock();
    const parsed: string[] = [];
    let changes = 0;
    const file = new WatchedFile({
      path,
      bytesMax: 20,
      clock,
      parse: (given) => {
        parsed.push(given);
        return given;
      },
      onChange: () => {
        changes += 1;
      },
    });
    return { path, clock, parsed, file, changes: () => changes };
  }

  it('is read once until it changes, and looked at once a second at most', async (t) => {
    const { path, clock, parsed, file, changes } = watch(t, 'one');
    assert.deepEqual(await Promise.all([file.current(), file.current()]), ['one', 'one']);
    writeFileSync(path, 'two');
    assert.equal(await file.current(), 'one');
    clock.jump(1_000);
    assert.deepEqual(await Promise.all([file.current(), file.current()]), ['two', 'two']);
    clock.jump(10_000);
    assert.equal(await file.current(), 'two');
    assert.deepEqual(parsed, ['one', 'two']);
    assert.equal(changes(), 1);
  });

  it('that is replaced by another with the same size and time is another', async (t) => {
    const { path, clock, file } = watch(t, 'one');
    await file.current();
    const { atime, mtime } = statSync(path);
    writeFileSync(`${path}.new`, 'two');
    utimesSync(`${path}.new`, atime, mtime);
    renameSync(`${path}.new`, path);
    clock.jump(1_000);
    assert.equal(await file.current(), 'two');
  });

  it('that is missing is an empty one, comes, and goes', async (t) => {
    const { path, clock, file } = watch(t);
    assert.equal(await file.current(), '');
    writeFileSync(path, 'here');
    clock.jump(1_000);
    assert.equal(await file.current(), 'here');
    rmSync(path);
    clock.jump(1_000);
    assert.equal(await file.current(), '');
  });

  it('that is too large is read as far as whole lines go', async (t) => {
    const { file } = watch(t, 'first line\nsecond line\nthird');
    assert.equal(await file.current(), 'first line\n');
    assert.equal(await watch(t, 'exactly 20 bytes ok\n').file.current(), 'exactly 20 bytes ok\n');
  });

  it('that cannot be read for now says what it said before', async (t) => {
    const { path, clock, file, parsed } = watch(t, 'one');
    await file.current();
    parsed.push = () => {
      throw Object.assign(new Error('none left'), { code: 'EMFILE' });
    };
    writeFileSync(path, 'three');
    clock.jump(1_000);
    assert.equal(await file.current(), 'one');
    Reflect.deleteProperty(parsed, 'push');
    clock.jump(1_000);
    assert.equal(await file.current(), 'three');
  });
});
