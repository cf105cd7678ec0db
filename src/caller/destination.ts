/**
 * Who may be called (contract, section 6): the one rule behind saving, previewing, test calls and deliveries.
 *
 * Hides the address registries and their IPv6 disguises. Promises that an address is allowed only when it is public unicast,
 * unless the administrator opened the destination with `allowPrivate`, and that one bad DNS answer refuses all. Where an egress
 * proxy resolves names, it says so instead of resolving; what is an address by itself is judged all the same.
 * Never connects, never remembers an answer.
 */
import { isIP, isIPv6 } from 'node:net';
import ipaddr, { type IPv4, type IPv6 } from 'ipaddr.js';
import type { FailureReason } from '../model/outcome.ts';
import type { Problem } from '../model/problem.ts';
import { isLocalhost, LOOPBACK } from './hosts-file.ts';
import { describeNameError } from './name-error.ts';

// -------------------------------------------------------------------------------------------------------- destination

/**
 * `host:port`, the text that a proxy opening names: host as the URL parser writes it (lower case, punycode, dotted quad),
 * IPv6 in brackets, the port always told. `url` is absolute, http or https; it may hold a placeholder after the host.
 * @throws TypeError for a text that is no URL: check it first.
 */
export function destinationOf(url: string): string {
  const { hostname, port, protocol } = new URL(url);
  return `${hostname}:${port === '' ? DEFAULT_PORTS.get(protocol) : port}`;
}

const DEFAULT_PORTS: ReadonlyMap<string, number> = new Map([
  ['http:', 80],
  ['https:', 443],
]);

/**
 * What somebody typed to ask for a proxy opening: `host:port`, or a whole http(s) URL, whose path counts for nothing.
 * A host alone is not enough: an opening is for one port, and a guessed one would be found out at the first call only.
 */
export function checkDestinationText(text: string): { destination: string } | { problems: Problem[] } {
  const typed = text.trim();
  const refuse = (code: string, message: string) => ({ problems: [{ path: 'destination', code, message }] });

  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(typed)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== 'http' && scheme !== 'https') {
    return refuse(
      'destination_scheme',
      `${scheme}: cannot be called: write host:port, or a URL with http or https`,
    );
  }
  const authority =
    scheme === undefined ? typed : (/^[^/?#\\]*/.exec(typed.slice(scheme.length + 3))?.[0] ?? '');
  if (authority.includes('@')) {
    return refuse(
      'destination_credentials',
      'A destination has no user: write host:port without what is before the @',
    );
  }
  if (/[*${}]/.test(authority)) {
    return refuse(
      'destination_pattern',
      'A destination is one host and one port, not a pattern: write each host whole, such as example.com:443',
    );
  }
  if (isIPv6(authority)) {
    return refuse(
      'destination_brackets',
      `Write an IPv6 address in brackets and the port: [${authority}]:443`,
    );
  }
  const [, host, portText] = /^(\[[^\]]*\]|[^:/?#\\[\]\s]+)(?::(.*))?$/s.exec(authority) ?? [];
  const hostname = host === undefined ? undefined : URL.parse(`http://${host}/`)?.hostname;
  if (hostname === undefined) {
    return refuse(
      'destination_host',
      `The host in ${JSON.stringify(typed)} is wrong: write host:port, such as example.com:443 or [2606:4700::1111]:443`,
    );
  }
  const port = portText ?? DEFAULT_PORTS.get(`${scheme}:`);
  if (port === undefined) {
    return refuse('destination_port_missing', `The port is missing: write it too, such as ${hostname}:443`);
  }
  if (!/^\d{1,5}$/.test(String(port)) || Number(port) < 1 || Number(port) > 65_535) {
    return refuse(
      'destination_port',
      `The port ${JSON.stringify(port)} is wrong: write a number from 1 to 65535`,
    );
  }
  return { destination: `${hostname}:${Number(port)}` };
}

// ------------------------------------------------------------------------------------------------------------ address

export type AddressVerdict =
  | { readonly allowed: true }
  /** `because` reads on after “is not public: ”. */
  | { readonly allowed: false; readonly because: string };

type Range = readonly [cidr: string, because: string];

/**
 * Not public unicast, from the IANA IPv4 Special-Purpose Address Registry (entries that are not globally reachable),
 * RFC 5771 (multicast), and the metadata services of clouds. The first that matches gives its name.
 * 192.0.0.0/24 is refused whole, although the registry calls two anycast addresses in it reachable: no callee lives there.
 */
const IPV4_RANGES: readonly Range[] = [
  ['100.100.100.200/32', 'metadata service'],
  ['168.63.129.16/32', 'metadata service'],
  ['169.254.169.254/32', 'metadata service'],
  ['0.0.0.0/8', 'this network'],
  ['10.0.0.0/8', 'private'],
  ['100.64.0.0/10', 'carrier-grade NAT'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['172.16.0.0/12', 'private'],
  ['192.0.0.0/24', 'IETF protocol assignments'],
  ['192.0.2.0/24', 'documentation'],
  ['192.88.99.0/24', '6to4 relay'],
  ['192.168.0.0/16', 'private'],
  ['198.18.0.0/15', 'benchmarking'],
  ['198.51.100.0/24', 'documentation'],
  ['203.0.113.0/24', 'documentation'],
  ['224.0.0.0/4', 'multicast'],
  ['255.255.255.255/32', 'broadcast'],
  ['240.0.0.0/4', 'reserved'],
];

/**
 * The same for IPv6. Global unicast is 2000::/3 (RFC 4291) and nothing else, so the ranges outside of it stand here for
 * their names only. 2001::/23 is refused whole, Teredo and the anycast addresses in it too, for the reason given above.
 */
const IPV6_RANGES: readonly Range[] = [
  ['fd00:ec2::254/128', 'metadata service'],
  ['::/128', 'unspecified'],
  ['::1/128', 'loopback'],
  ['::/96', 'IPv4-compatible'],
  ['::ffff:0:0:0/96', 'IPv4-translated'],
  ['64:ff9b:1::/48', 'local-use NAT64'],
  ['100::/64', 'discard-only'],
  ['100:0:0:1::/64', 'dummy prefix'],
  ['2001::/32', 'Teredo'],
  ['2001:2::/48', 'benchmarking'],
  ['2001:10::/28', 'ORCHID'],
  ['2001:20::/28', 'ORCHIDv2'],
  ['2001::/23', 'IETF protocol assignments'],
  ['2001:db8::/32', 'documentation'],
  ['3fff::/20', 'documentation'],
  ['5f00::/16', 'segment routing'],
  ['fc00::/7', 'private'],
  ['fe80::/10', 'link-local'],
  ['fec0::/10', 'site-local'],
  ['ff00::/8', 'multicast'],
];

/** Forms that reach the IPv4 address inside them: as public as that one is. `at` is its first 16-bit group. */
const IPV6_EMBEDDINGS: readonly (readonly [cidr: string, name: string, at: number])[] = [
  ['::ffff:0:0/96', 'IPv4-mapped', 6],
  ['64:ff9b::/96', 'NAT64', 6],
  ['2002::/16', '6to4', 1],
];

const ipv4Ranges = IPV4_RANGES.map(([cidr, because]) => ({ because, range: ipaddr.IPv4.parseCIDR(cidr) }));
const ipv6Ranges = IPV6_RANGES.map(([cidr, because]) => ({ because, range: ipaddr.IPv6.parseCIDR(cidr) }));
const ipv6Embeddings = IPV6_EMBEDDINGS.map(([cidr, name, at]) => ({
  name,
  at,
  range: ipaddr.IPv6.parseCIDR(cidr),
}));
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3');

/** Whether an address is public unicast. What is no address at all is not. A zone (`%eth0`) changes nothing. */
export function describeAddress(address: string): AddressVerdict {
  const bare = address.replace(/%.*$/, '');
  switch (isIP(bare)) {
    case 4:
      return describeIpv4(ipaddr.IPv4.parse(bare));
    case 6:
      // The URL parser writes the groups out first: ipaddr.js reads `::8.8.8.8` as `::ffff:8.8.8.8`, another address.
      return describeIpv6(ipaddr.IPv6.parse(new URL(`http://[${bare}]`).hostname.slice(1, -1)));
    default:
      return { allowed: false, because: 'no IP address' };
  }
}

function describeIpv4(address: IPv4): AddressVerdict {
  const found = ipv4Ranges.find(({ range }) => address.match(range));
  return found === undefined ? { allowed: true } : { allowed: false, because: found.because };
}

function describeIpv6(address: IPv6): AddressVerdict {
  const found = ipv6Ranges.find(({ range }) => address.match(range));
  if (found !== undefined) return { allowed: false, because: found.because };
  const embedding = ipv6Embeddings.find(({ range }) => address.match(range));
  if (embedding !== undefined) {
    const verdict = describeEmbedded(address, embedding.name, embedding.at);
    if (!verdict.allowed || embedding.at === 6) return verdict;
  }
  if (!address.match(globalUnicast)) return { allowed: false, because: 'reserved' };
  return isIsatap(address) ? describeEmbedded(address, 'ISATAP', 6) : { allowed: true };
}

/** RFC 5214: an interface identifier 0:5efe or 200:5efe, in any prefix, and then the IPv4 address. */
function isIsatap({ parts }: IPv6): boolean {
  return ((parts[4] as number) & ~0x0200) === 0 && parts[5] === 0x5efe;
}

function describeEmbedded({ parts }: IPv6, name: string, at: number): AddressVerdict {
  const [high, low] = [parts[at] as number, parts[at + 1] as number];
  const embedded = new ipaddr.IPv4([high >> 8, high & 0xff, low >> 8, low & 0xff]);
  const verdict = describeIpv4(embedded);
  return verdict.allowed
    ? verdict
    : { allowed: false, because: `${name} of ${embedded.toString()}, ${verdict.because}` };
}

// --------------------------------------------------------------------------------------------------------- resolution

export type ResolvedAddress = { readonly address: string; readonly family: number };

/** Every address of a name, in the order to try them. Rejects when there is none. */
export type Resolve = (host: string) => Promise<readonly ResolvedAddress[]>;

/** With what helps. Reads on after the address. */
export function isNotPublic(because: string): string {
  return `is not public: ${because}; an administrator can open it with allowPrivate`;
}

export type DestinationVerdict =
  | {
      readonly allowed: true;
      /**
       * Call one of these and nothing else: a second answer of the name could be another. Empty where the egress proxy
       * resolves the name, by its own rules.
       */
      readonly addresses: readonly ResolvedAddress[];
      /** Where the egress proxy resolves: that it does. One sentence for people. */
      readonly detail?: string;
    }
  | {
      readonly allowed: false;
      readonly reason: FailureReason;
      /** One sentence for people. */
      readonly detail: string;
    };

/**
 * Resolves and judges one host. `host` is a name or an address as the URL parser writes it, with or without brackets.
 * `allowPrivate` is the proxy opening's; the opening itself is the asker's business. With an egress proxy nothing is resolved
 * here: often only the proxy can, and where we can, what it finds may be something else.
 */
export async function resolveDestination(question: {
  readonly host: string;
  readonly allowPrivate: boolean;
  readonly resolve: Resolve;
  readonly hasEgressProxy?: boolean;
}): Promise<DestinationVerdict> {
  const { allowPrivate, resolve, hasEgressProxy = false } = question;
  const host = question.host.replace(/^\[(.*)\]$/, '$1');
  const literalFamily = isIP(host);
  if (literalFamily !== 0) {
    return judgeAddresses(host, [{ address: host, family: literalFamily }], allowPrivate);
  }
  if (hasEgressProxy) {
    // A name that means the machine itself by definition is as good as an address: the proxy would call its own.
    const verdict = judgeAddresses(host, isLocalhost(host) ? LOOPBACK : [], allowPrivate);
    return verdict.allowed ? { allowed: true, addresses: [], detail: resolvedByProxy(host) } : verdict;
  }
  try {
    const addresses = await resolve(host);
    if (addresses.length > 0) return judgeAddresses(host, addresses, allowPrivate);
    return { allowed: false, reason: 'dns', detail: `${host} does not resolve: it has no address` };
  } catch (error) {
    return { allowed: false, ...describeNameError(host, error as Error) };
  }
}

function resolvedByProxy(host: string): string {
  return `the egress proxy resolves ${host}, and decides by its own rules whether it may be called`;
}

function judgeAddresses(
  host: string,
  addresses: readonly ResolvedAddress[],
  allowPrivate: boolean,
): DestinationVerdict {
  for (const { address } of addresses) {
    const verdict: AddressVerdict = allowPrivate ? { allowed: true } : describeAddress(address);
    if (verdict.allowed) continue;
    const told = address === host ? address : `${host} resolves to ${address}, which`;
    return {
      allowed: false,
      reason: 'destination_not_allowed',
      detail: `${told} ${isNotPublic(verdict.because)}`,
    };
  }
  return { allowed: true, addresses };
}
