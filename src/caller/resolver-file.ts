/**
 * `/etc/resolv.conf`, resolv.conf(5): who is asked, and for which names. c-ares reads the file too, but looks up exactly the
 * name that it is given, so `search` and `ndots` are ours to follow; and it reports the failure of the first server that
 * answers, so the servers are asked by us, one after the other. Pure.
 */
import { isIP } from 'node:net';

export const RESOLVER_FILE_BYTES_MAX = 64 * 1024;
/** resolv.conf(5): MAXNS. */
const NAMESERVERS_MAX = 3;
/** The system has no limit any more; Kubernetes has this one. */
const SEARCH_DOMAINS_MAX = 32;
/** RFC 1035, 2.3.4, without the dot at the end. */
const NAME_CHARACTERS_MAX = 253;

/** resolv.conf(5): defaults and upper limits. The system takes a timeout or a number of attempts of 0 for 1. */
const OPTIONS = {
  ndots: { least: 0, default: 1, most: 15 },
  timeout: { least: 1, default: 5, most: 30 },
  attempts: { least: 1, default: 2, most: 5 },
} as const;

export type ResolverConfig = {
  /** In the order to ask them; a port may follow, `127.0.0.1:5353`. Empty: those that the system has otherwise. */
  readonly nameservers: readonly string[];
  readonly searchDomains: readonly string[];
  /** A name with fewer dots is first looked up in the search domains. */
  readonly ndots: number;
  /** How long one server may stay silent before it counts as failed. */
  readonly timeoutMs: number;
  /** How often each server is asked. */
  readonly attempts: number;
};

/** `hostname`: this machine's, whose domain is searched where the file names none. What is not understood says nothing. */
export function parseResolverFile(text: string, hostname: string): ResolverConfig {
  const nameservers: string[] = [];
  let searchDomains: readonly string[] | undefined;
  const options = new Map<string, number>();
  for (const line of text.split(/\r?\n/)) {
    // A comment has the whole line to itself.
    if (/^\s*[#;]/.test(line)) continue;
    const [keyword, ...values] = line.trim().split(/\s+/);
    const [first] = values;
    if (first === undefined) continue;
    if (keyword === 'nameserver' && isNameserver(first)) nameservers.push(first);
    else if (keyword === 'domain') searchDomains = [first];
    else if (keyword === 'search') searchDomains = values;
    else if (keyword === 'options') readOptions(values, options);
  }
  const own = hostname.includes('.') ? [hostname.slice(hostname.indexOf('.') + 1)] : [];
  const option = (name: keyof typeof OPTIONS) => {
    const { least, default: byDefault, most } = OPTIONS[name];
    return Math.min(Math.max(options.get(name) ?? byDefault, least), most);
  };
  return {
    nameservers: nameservers.slice(0, NAMESERVERS_MAX),
    searchDomains: (searchDomains ?? own)
      .map((domain) => domain.replace(/^\.+|\.+$/g, ''))
      .filter((domain) => domain !== '')
      .slice(0, SEARCH_DOMAINS_MAX),
    ndots: option('ndots'),
    timeoutMs: option('timeout') * 1_000,
    attempts: option('attempts'),
  };
}

/**
 * The names to look up for `host`, one after the other until one exists, without a dot at the end. A name that ends in a
 * dot is itself only.
 */
export function candidateNames(
  host: string,
  { searchDomains, ndots }: Pick<ResolverConfig, 'searchDomains' | 'ndots'>,
): readonly string[] {
  if (host.endsWith('.')) return [host.slice(0, -1)];
  const found = searchDomains
    .map((domain) => `${host}.${domain}`)
    .filter((name) => name.length <= NAME_CHARACTERS_MAX);
  const dots = host.split('.').length - 1;
  return dots >= ndots ? [host, ...found] : [...found, host];
}

function readOptions(values: readonly string[], options: Map<string, number>): void {
  for (const value of values) {
    const [, name, number] = /^([a-z]+):(\d{1,6})$/.exec(value) ?? [];
    if (name !== undefined) options.set(name, Number(number));
  }
}

/** As `Resolver.setServers` takes it. */
function isNameserver(text: string): boolean {
  const [, address, port] =
    /^\[([^\]]+)\](?::(\d{1,5}))?$/.exec(text) ?? /^([^:]+):(\d{1,5})$/.exec(text) ?? [];
  if (address === undefined) return isIP(text) !== 0;
  return isIP(address) !== 0 && Number(port ?? 53) <= 65_535;
}
