import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  checkDestinationText,
  describeAddress,
  destinationOf,
  type Resolve,
  resolveDestination,
} from '../src/caller/destination.ts';
import { createNames } from '../src/caller/names.ts';
import { compileTemplate } from '../src/template/template.ts';

/**
 * What must be refused, written down a second time and read by other code than the one under test: numbers instead of a
 * library. Entries of the IANA registries that are not globally reachable, multicast, and metadata services.
 */
const REFUSED_IPV4 = (
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 ' +
  '192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 ' +
  '255.255.255.255/32 168.63.129.16/32 169.254.169.254/32 100.100.100.200/32'
).split(' ');
const REFUSED_IPV6 = (
  '::/128 ::1/128 ::/96 ::ffff:0:0:0/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/32 2001:2::/48 2001:10::/28 ' +
  '2001:20::/28 2001::/23 2001:db8::/32 3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8 fd00:ec2::254/128'
).split(' ');

type NumberRange = { cidr: string; first: bigint; last: bigint };

function ipv4Number(text: string): bigint {
  return text.split('.').reduce((number, part) => number * 256n + BigInt(part), 0n);
}

function ipv4Text(number: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => (number >> shift) & 255n).join('.');
}

function ipv6Number(text: string): bigint {
  const [head = '', tail] = text.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':').map((group) => BigInt(`0x${group}`)));
  const [before, after] = [groups(head), groups(tail ?? '')];
  const all = [...before, ...Array<bigint>(8 - before.length - after.length).fill(0n), ...after];
  return all.reduce((number, group) => number * 65_536n + group, 0n);
}

/** Without `::`, so that reading it needs no shortcuts. */
function ipv6Text(number: bigint): string {
  return [7n, 6n, 5n, 4n, 3n, 2n, 1n, 0n]
    .map((at) => ((number >> (at * 16n)) & 0xffffn).toString(16))
    .join(':');
}

function rangeOf(cidr: string, bits: bigint, read: (text: string) => bigint): NumberRange {
  const [address = '', prefix = ''] = cidr.split('/');
  const size = 1n << (bits - BigInt(prefix));
  return { cidr, first: read(address), last: read(address) + size - 1n };
}

const ipv4Ranges = REFUSED_IPV4.map((cidr) => rangeOf(cidr, 32n, ipv4Number));
const ipv6Ranges = REFUSED_IPV6.map((cidr) => rangeOf(cidr, 128n, ipv6Number));
const within = (ranges: NumberRange[], number: bigint) =>
  ranges.some(({ first, last }) => first <= number && number <= last);

function isPublicIpv4(number: bigint): boolean {
  return !within(ipv4Ranges, number);
}

function isPublicIpv6(number: bigint): boolean {
  if (within(ipv6Ranges, number)) return false;
  const low = number & 0xffff_ffffn;
  if (number >> 32n === 0xffffn || number >> 32n === ipv6Number('64:ff9b::') >> 32n) return isPublicIpv4(low);
  if (number >> 125n !== 1n) return false;
  if (number >> 112n === 0x2002n && !isPublicIpv4((number >> 80n) & 0xffff_ffffn)) return false;
  const identifier = (number >> 32n) & 0xffff_ffffn;
  return identifier === 0x5efen || identifier === 0x0200_5efen ? isPublicIpv4(low) : true;
}

const isAllowed = (address: string) => describeAddress(address).allowed;
const ipv4 = fc.bigInt({ min: 0n, max: (1n << 32n) - 1n });
const ipv6 = fc.bigInt({ min: 0n, max: (1n << 128n) - 1n });

describe('which addresses are public unicast', () => {
  for (const { cidr, first, last } of ipv4Ranges) {
    it(`${cidr} is refused from its first to its last address, and what is beside it is judged by itself`, () => {
      assert.equal(isAllowed(ipv4Text(first)), false);
      assert.equal(isAllowed(ipv4Text(last)), false);
      for (const beside of [first - 1n, last + 1n]) {
        if (beside < 0n || beside >= 1n << 32n) continue;
        assert.equal(isAllowed(ipv4Text(beside)), isPublicIpv4(beside), ipv4Text(beside));
      }
      const inside = fc.property(
        fc.bigInt({ min: first, max: last }),
        (number) => !isAllowed(ipv4Text(number)),
      );
      fc.assert(inside, { numRuns: 20 });
    });
  }

  for (const { cidr, first, last } of ipv6Ranges) {
    it(`${cidr} is refused from its first to its last address, and what is beside it is judged by itself`, () => {
      assert.equal(isAllowed(ipv6Text(first)), false);
      assert.equal(isAllowed(ipv6Text(last)), false);
      for (const beside of [first - 1n, last + 1n]) {
        if (beside < 0n || beside >= 1n << 128n) continue;
        assert.equal(isAllowed(ipv6Text(beside)), isPublicIpv6(beside), ipv6Text(beside));
      }
      const inside = fc.property(
        fc.bigInt({ min: first, max: last }),
        (number) => !isAllowed(ipv6Text(number)),
      );
      fc.assert(inside, { numRuns: 20 });
    });
  }

  it('any IPv4 and any IPv6 address is judged as the registries say', () => {
    fc.assert(
      fc.property(ipv4, (number) => isAllowed(ipv4Text(number)) === isPublicIpv4(number)),
      { numRuns: 2_000 },
    );
    const globalUnicast = ipv6.map((number) => (number & ((1n << 125n) - 1n)) | (1n << 125n));
    const nearRange = fc
      .tuple(fc.constantFrom(...ipv6Ranges), fc.bigInt({ min: -70_000n, max: 70_000n }), fc.boolean())
      .map(([{ first, last }, shift, atEnd]) => (atEnd ? last : first) + shift)
      .filter((number) => number >= 0n && number < 1n << 128n);
    const any = fc.oneof(ipv6, globalUnicast, nearRange);
    fc.assert(
      fc.property(any, (number) => isAllowed(ipv6Text(number)) === isPublicIpv6(number)),
      { numRuns: 2_000 },
    );
  });

  it('only 2000::/3 is global unicast', () => {
    for (const address of ['1fff:ffff::1', '4000::1', '8000::', 'f000::1', '64:ff9c::1']) {
      assert.deepEqual(describeAddress(address), { allowed: false, because: 'reserved' });
    }
    for (const address of [
      '2000::',
      '2606:4700::1111',
      '3ffe:ffff::',
      '2001:200::1',
      '2001:4860:4860::8888',
    ]) {
      assert.deepEqual(describeAddress(address), { allowed: true });
    }
  });

  const FORMS: Record<string, (embedded: bigint) => bigint> = {
    'IPv4-mapped': (embedded) => (0xffffn << 32n) | embedded,
    NAT64: (embedded) => ipv6Number('64:ff9b::') | embedded,
    '6to4': (embedded) => (0x2002n << 112n) | (embedded << 80n) | 1n,
    'ISATAP, local': (embedded) => ipv6Number('2606:4700::5efe:0:0') | embedded,
    'ISATAP, global': (embedded) => ipv6Number('2606:4700::200:5efe:0:0') | embedded,
  };
  for (const [form, embed] of Object.entries(FORMS)) {
    it(`an IPv6 address of the form ${form} is as public as the IPv4 address in it`, () => {
      const boundary = fc.constantFrom(
        ...ipv4Ranges.flatMap(({ first, last }) => [first, last, last + 1n, first - 1n]),
      );
      const embedded = fc.oneof(
        ipv4,
        boundary.filter((number) => number >= 0n && number < 1n << 32n),
      );
      const property = fc.property(
        embedded,
        (number) => isAllowed(ipv6Text(embed(number))) === isPublicIpv4(number),
      );
      fc.assert(property, { numRuns: 500 });
      assert.equal(isAllowed(ipv6Text(embed(ipv4Number('8.8.8.8')))), true);
      assert.equal(isAllowed(ipv6Text(embed(ipv4Number('169.254.169.254')))), false);
    });
  }

  const ALWAYS_REFUSED: Record<string, (embedded: bigint) => bigint> = {
    'IPv4-compatible': (embedded) => embedded,
    'IPv4-translated': (embedded) => (0xffff_0000n << 32n) | embedded,
    'local-use NAT64': (embedded) => ipv6Number('64:ff9b:1::') | embedded,
    'Teredo server': (embedded) => (0x2001_0000n << 96n) | (embedded << 64n),
    'Teredo client': (embedded) => (0x2001_0000n << 96n) | (embedded ^ 0xffff_ffffn),
  };
  for (const [form, embed] of Object.entries(ALWAYS_REFUSED)) {
    it(`an IPv6 address of the form ${form} is refused whatever is in it`, () => {
      fc.assert(
        fc.property(ipv4, (number) => !isAllowed(ipv6Text(embed(number)))),
        { numRuns: 200 },
      );
    });
  }

  it('a public 6to4 prefix does not cover for what ISATAP embeds behind it', () => {
    const within6to4 = (last: string) => ipv6Text(ipv6Number('2002:808:808:0:0:5efe::') | ipv4Number(last));
    assert.equal(isAllowed(within6to4('10.0.0.1')), false);
    assert.equal(isAllowed(within6to4('8.8.8.8')), true);
  });

  it('is not misled by the way an address is written', () => {
    for (const address of [
      '::8.8.8.8',
      '::FFFF:127.0.0.1',
      '0:0:0:0:0:ffff:7f00:1',
      'fe80::1%eth0',
      '64:ff9b::10.0.0.1',
    ]) {
      assert.equal(isAllowed(address), false, address);
    }
    assert.equal(isAllowed('::ffff:8.8.8.8'), true);
  });

  it('what is no address is not allowed', () => {
    for (const text of ['', 'example.com', '1.2.3', '0x7f.0.0.1', '::1::', '8.8.8.8 ', '[::1]']) {
      assert.deepEqual(describeAddress(text), { allowed: false, because: 'no IP address' });
    }
  });

  it('says why', () => {
    const why = (address: string) => {
      const verdict = describeAddress(address);
      return verdict.allowed ? undefined : verdict.because;
    };
    assert.equal(why('127.0.0.1'), 'loopback');
    assert.equal(why('169.254.169.254'), 'metadata service');
    assert.equal(why('169.254.1.1'), 'link-local');
    assert.equal(why('168.63.129.16'), 'metadata service');
    assert.equal(why('fd00:ec2::254'), 'metadata service');
    assert.equal(why('::ffff:10.0.0.1'), 'IPv4-mapped of 10.0.0.1, private');
    assert.equal(why('2002:7f00:1::1'), '6to4 of 127.0.0.1, loopback');
  });
});

describe('resolving a destination', () => {
  const answer =
    (...addresses: string[]): Resolve =>
    async () =>
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  const never: Resolve = () => Promise.reject(new Error('asked DNS for a literal'));

  it('a name with public answers only may be called at these', async () => {
    const addresses = ['93.184.216.34', '2606:4700::1111'];
    assert.deepEqual(
      await resolveDestination({ host: 'example.com', allowPrivate: false, resolve: answer(...addresses) }),
      {
        allowed: true,
        addresses: [
          { address: '93.184.216.34', family: 4 },
          { address: '2606:4700::1111', family: 6 },
        ],
      },
    );
  });

  it('one bad answer refuses all, wherever it stands', async () => {
    const property = fc.asyncProperty(
      fc.nat(4),
      fc.constantFrom('10.0.0.1', '::1', '64:ff9b::7f00:1'),
      async (at, bad) => {
        const addresses = Array<string>(5).fill('93.184.216.34').with(at, bad);
        const question = { host: 'mixed.example', resolve: answer(...addresses) };
        const verdict = await resolveDestination({ ...question, allowPrivate: false });
        assert.ok(!verdict.allowed);
        assert.equal(verdict.reason, 'destination_not_allowed');
        assert.match(
          verdict.detail,
          new RegExp(`^mixed\\.example resolves to ${bad}, which is not public: `),
        );
        assert.equal((await resolveDestination({ ...question, allowPrivate: true })).allowed, true);
      },
    );
    await fc.assert(property);
  });

  it('a chain of aliases is judged by the addresses at its end', async () => {
    const aliases: Record<string, string> = { 'a.example': 'b.example', 'b.example': 'c.example' };
    const resolve: Resolve = async (host) => {
      const next = aliases[host];
      return next === undefined ? answer('192.168.1.1')(host) : resolve(next);
    };
    const verdict = await resolveDestination({ host: 'a.example', allowPrivate: false, resolve });
    assert.ok(!verdict.allowed);
    assert.match(verdict.detail, /^a\.example resolves to 192\.168\.1\.1/);
  });

  it('a literal is judged without asking DNS, in every notation that the URL parser takes', async () => {
    for (const host of [
      '127.0.0.1',
      '127.1',
      '0x7f.1',
      '0177.0.0.1',
      '2130706433',
      '0x7f000001',
      '１２７.0.0.1',
      '127.0.0.1.',
      '[::1]',
      '[0:0:0:0:0:0:0:1]',
      '[::ffff:127.0.0.1]',
      '[::FFFF:7f00:1]',
      '0',
      '[::]',
      '%31%32%37.0.0.1',
    ]) {
      const hostname = new URL(`http://${host}/`).hostname;
      const verdict = await resolveDestination({ host: hostname, allowPrivate: false, resolve: never });
      assert.ok(!verdict.allowed && verdict.reason === 'destination_not_allowed', host);
      assert.equal(
        (await resolveDestination({ host: hostname, allowPrivate: true, resolve: never })).allowed,
        true,
      );
    }
    assert.deepEqual(await resolveDestination({ host: '8.8.8.8', allowPrivate: false, resolve: never }), {
      allowed: true,
      addresses: [{ address: '8.8.8.8', family: 4 }],
    });
  });

  it('a name that does not resolve is a matter of DNS', async () => {
    const failing: Resolve = () => Promise.reject(Object.assign(new Error('queryA'), { code: 'ENOTFOUND' }));
    for (const [resolve, says] of [
      [failing, /^gone\.example does not resolve: no such name/],
      [answer(), /^gone\.example does not resolve: it has no address$/],
    ] as const) {
      for (const allowPrivate of [true, false]) {
        const verdict = await resolveDestination({ host: 'gone.example', allowPrivate, resolve });
        assert.ok(!verdict.allowed);
        assert.equal(verdict.reason, 'dns');
        assert.match(verdict.detail, says);
      }
    }
  });

  it('a shortage of this machine is not the name’s fault', async () => {
    for (const code of ['EMFILE', 'ENFILE', 'ENOMEM', 'EAI_MEMORY']) {
      const resolve: Resolve = () => Promise.reject(Object.assign(new Error(`${code}: none left`), { code }));
      const verdict = await resolveDestination({ host: 'good.example', allowPrivate: false, resolve });
      assert.ok(!verdict.allowed);
      assert.equal(verdict.reason, 'local');
      assert.equal(verdict.detail, `good.example does not resolve: ${code}: none left`);
    }
  });

  it('behind an egress proxy no name is resolved, and that is said', async () => {
    const question = { host: 'partner.example', allowPrivate: false, resolve: never, hasEgressProxy: true };
    assert.deepEqual(await resolveDestination(question), {
      allowed: true,
      addresses: [],
      detail:
        'the egress proxy resolves partner.example, and decides by its own rules whether it may be called',
    });
  });

  it('behind an egress proxy an address, and what is one by definition, is judged all the same', async () => {
    const behindProxy = { resolve: never, hasEgressProxy: true };
    for (const host of ['10.0.0.1', '[::1]', 'localhost', 'localhost.', 'db.localhost']) {
      const verdict = await resolveDestination({ host, allowPrivate: false, ...behindProxy });
      assert.ok(!verdict.allowed, host);
      assert.equal(verdict.reason, 'destination_not_allowed');
      assert.ok((await resolveDestination({ host, allowPrivate: true, ...behindProxy })).allowed);
    }
    assert.deepEqual(await resolveDestination({ host: '8.8.8.8', allowPrivate: false, ...behindProxy }), {
      allowed: true,
      addresses: [{ address: '8.8.8.8', family: 4 }],
    });
  });

  it('localhost is refused', async () => {
    const { resolve } = createNames({ limitMs: 5_000 });
    const verdict = await resolveDestination({ host: 'localhost', allowPrivate: false, resolve });
    assert.ok(!verdict.allowed);
    assert.equal(verdict.reason, 'destination_not_allowed');
  });
});

describe('the text of a destination', () => {
  it('is host and port of a URL, always with the port', () => {
    assert.equal(destinationOf('https://Example.COM/${orderId}'), 'example.com:443');
    assert.equal(destinationOf('http://example.com?${orderId}'), 'example.com:80');
    assert.equal(destinationOf('http://example.com:443/'), 'example.com:443');
    assert.equal(destinationOf('https://[0:0::1]/'), '[::1]:443');
    assert.equal(destinationOf('http://0x7f.1:8080/'), '127.0.0.1:8080');
    assert.equal(destinationOf('https://BÜCHER.example/'), 'xn--bcher-kva.example:443');
  });

  it('is the same for a template and for what is filled from it', () => {
    for (const url of ['https://Example.COM:443/${orderId}', 'http://[::1]:8080/?a=${orderId}']) {
      const { destination, fill } = compileTemplate({ url, method: 'GET' });
      assert.equal(destinationOf(fill('7').url), destinationOf(url));
      assert.ok(destinationOf(url).endsWith(`:${destination.port}`));
    }
  });

  for (const [text, destination] of [
    ['example.com:443', 'example.com:443'],
    ['  Example.COM:0443 ', 'example.com:443'],
    ['https://example.com', 'example.com:443'],
    ['http://example.com/orders/${orderId}?a=b#c', 'example.com:80'],
    ['HTTPS://example.com:8443/x', 'example.com:8443'],
    ['[::1]:80', '[::1]:80'],
    ['http://[0::1]', '[::1]:80'],
    ['127.1:80', '127.0.0.1:80'],
    ['bücher.example:80', 'xn--bcher-kva.example:80'],
  ] as const) {
    it(`${JSON.stringify(text)} is ${destination}`, () => {
      assert.deepEqual(checkDestinationText(text), { destination });
      assert.deepEqual(checkDestinationText(destination), { destination });
    });
  }

  for (const [text, code, says] of [
    ['example.com', 'destination_port_missing', /write it too, such as example\.com:443/],
    ['[::1]', 'destination_port_missing', /\[::1\]:443/],
    ['2606:4700::1111', 'destination_brackets', /\[2606:4700::1111\]:443/],
    ['example.com:0', 'destination_port', /1 to 65535/],
    ['example.com:65536', 'destination_port', /1 to 65535/],
    ['example.com:https', 'destination_port', /"https" is wrong/],
    ['example.com:80/path', 'destination_port', /wrong/],
    ['https://example.com:/', 'destination_port', /1 to 65535/],
    ['*.example.com:443', 'destination_pattern', /not a pattern/],
    ['${orderId}.example.com:443', 'destination_pattern', /not a pattern/],
    ['me@example.com:443', 'destination_credentials', /without what is before the @/],
    ['ftp://example.com:21', 'destination_scheme', /ftp: cannot be called/],
    ['a b:80', 'destination_host', /wrong/],
    ['', 'destination_host', /wrong/],
    ['http://', 'destination_host', /wrong/],
    ['1.2.3.256:80', 'destination_host', /wrong/],
  ] as const) {
    it(`${JSON.stringify(text)} is refused: ${code}`, () => {
      const checked = checkDestinationText(text);
      assert.ok('problems' in checked);
      assert.deepEqual(
        checked.problems.map((problem) => [problem.path, problem.code]),
        [['destination', code]],
      );
      assert.match(checked.problems[0]?.message ?? '', says);
    });
  }

  it('no text whatever makes the check throw, and what it takes it takes again', () => {
    const property = fc.property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.webUrl(),
        fc.domain().map((d) => `${d}:1`),
      ),
      (text) => {
        const checked = checkDestinationText(text);
        if ('destination' in checked) {
          assert.deepEqual(checkDestinationText(checked.destination), checked);
          assert.equal(destinationOf(`http://${checked.destination}/`), checked.destination);
        }
      },
    );
    fc.assert(property);
  });
});
