/**
 * The addresses of names: hosts file, then DNS, as resolv.conf says (contract, section 6). One for each thread that calls.
 *
 * Hides the two files, the servers, and what is kept. Promises that a name costs its own time only: there is no thread
 * and no turn that lookups wait for, one lookup of a name runs at a time, and its answer serves all who ask; that an answer
 * is kept for its time to live, 30 s at most; and that a lookup ends within its limit. Never asks the system's
 * `getaddrinfo`, four calls of which that stay without an answer stop everybody (docs/decisions/0010-names-by-c-ares.md).
 *
 * ```
 *   hosts file ──> localhost ──> kept ──> a lookup under way ──> DNS: each candidate name, each server
 * ```
 */
import { hostname, networkInterfaces } from 'node:os';
import { type Clock, systemClock } from '../model/clock.ts';
import type { Resolve, ResolvedAddress } from './destination.ts';
import { type Askers, createAskers } from './dns-asker.ts';
import { type DnsAnswer, Inquiry } from './dns-inquiry.ts';
import { HOSTS_BYTES_MAX, type Hosts, hostsName, isLocalhost, LOOPBACK, parseHosts } from './hosts-file.ts';
import { NotResolvedInTime, TooManyAddresses } from './name-error.ts';
import {
  candidateNames,
  parseResolverFile,
  RESOLVER_FILE_BYTES_MAX,
  type ResolverConfig,
} from './resolver-file.ts';
import { WatchedFile } from './watched-file.ts';

export type Names = {
  /** Rejects with a code of c-ares, `NotResolvedInTime` or `TooManyAddresses`; `describeNameError` says it for people. */
  readonly resolve: Resolve;
  /** What is under way fails at once, and so does what is asked from now on. */
  close(): void;
};

export type NamesSettings = {
  /** For one lookup. resolv.conf may say less. */
  readonly limitMs: number;
  /** By default one that only ever grows, whatever is done to the time of day. */
  readonly clock?: Clock | undefined;
  readonly hostsFile?: string | undefined;
  readonly resolverFile?: string | undefined;
  readonly askers?: Askers | undefined;
  /** Whether this machine can reach addresses of IPv6. */
  readonly hasIpv6?: (() => boolean) | undefined;
};

/** Section 6: an answer is kept no longer. */
const KEPT_MS_MAX = 30_000;
const KEPT_NAMES_MAX = 10_000;
/** Each is checked for each connection: at 6 µs that takes 1.5 ms from all others. */
const ADDRESSES_MAX = 256;
/** A question or its answer may be lost on the way: another one goes out after so long, if resolv.conf says no less. */
const ASK_AGAIN_MS = 1_000;
/** A server that answered where the ones before it were silent is asked first for so long. */
const PREFERRED_MS = 30_000;
/** Who joined a lookup no later than this had all of its time. */
const JOINED_LATE_MS = 500;
/** Addresses of this machine do not change often. */
const IPV6_KNOWN_MS = 30_000;
/** The search goes on when a candidate has no answer, and ends when there is nobody to ask. */
const SEARCH_GOES_ON: ReadonlySet<string> = new Set(['ENOTFOUND', 'ENODATA', 'ESERVFAIL', 'EBADNAME']);

type NameError = Error & { readonly code?: string };
type Kept = { readonly addresses: readonly ResolvedAddress[]; readonly until: number };
type Lookup = { readonly answer: Promise<readonly ResolvedAddress[]>; readonly startedAt: number };

const MONOTONIC: Clock = { now: () => performance.now(), after: systemClock.after };

/** Nothing is read or asked before the first name is. */
export function createNames(settings: NamesSettings): Names {
  const names = new SharedNames(settings);
  return { resolve: (host) => names.resolve(host), close: () => names.close() };
}

class SharedNames {
  readonly #limitMs: number;
  readonly #clock: Clock;
  readonly #askers: Askers;
  readonly #hasIpv6: () => boolean;
  readonly #hosts: WatchedFile<Hosts>;
  readonly #config: WatchedFile<ResolverConfig>;
  /** Used longest ago first. */
  readonly #kept = new Map<string, Kept>();
  readonly #lookups = new Map<string, Lookup>();
  readonly #aborts = new Set<(error: Error) => void>();
  #preferred: { readonly nameserver: string | undefined; readonly until: number } | undefined;
  /** How often one of the files changed: an answer that was asked for before is not kept. */
  #changes = 0;
  #isClosed = false;

  constructor(settings: NamesSettings) {
    const {
      limitMs,
      clock = MONOTONIC,
      hostsFile = '/etc/hosts',
      resolverFile = '/etc/resolv.conf',
    } = settings;
    this.#limitMs = limitMs;
    this.#clock = clock;
    this.#askers = settings.askers ?? createAskers({ limitMs });
    this.#hasIpv6 = settings.hasIpv6 ?? knownFor(IPV6_KNOWN_MS, clock, hasGlobalIpv6);
    const onChange = () => {
      this.#changes += 1;
      this.#kept.clear();
      this.#preferred = undefined;
    };
    this.#hosts = new WatchedFile({
      path: hostsFile,
      bytesMax: HOSTS_BYTES_MAX,
      parse: parseHosts,
      onChange,
      clock,
    });
    this.#config = new WatchedFile({
      path: resolverFile,
      bytesMax: RESOLVER_FILE_BYTES_MAX,
      parse: (text) => parseResolverFile(text, hostname()),
      onChange,
      clock,
    });
  }

  async resolve(host: string): Promise<readonly ResolvedAddress[]> {
    const listed = (await this.#hosts.current()).get(hostsName(host));
    if (listed !== undefined) return this.#ordered(listed);
    if (isLocalhost(host)) return this.#ordered(LOOPBACK);
    const config = await this.#config.current();
    if (this.#isClosed) throw closedError();

    const name = host.toLowerCase();
    const kept = this.#takeKept(name);
    if (kept !== undefined) return kept;
    const running = this.#lookups.get(name);
    if (running === undefined) return this.#begin(name, config);
    const isLate = this.#clock.now() - running.startedAt > JOINED_LATE_MS;
    try {
      return await running.answer;
    } catch (error) {
      // It began before this one was asked, and ended while this one has time left.
      if (!isLate || !(error instanceof NotResolvedInTime)) throw error;
      return this.#lookups.get(name)?.answer ?? this.#begin(name, config);
    }
  }

  close(): void {
    this.#isClosed = true;
    for (const abort of this.#aborts) abort(closedError());
    this.#askers.close();
  }

  #takeKept(name: string): readonly ResolvedAddress[] | undefined {
    const kept = this.#kept.get(name);
    if (kept === undefined) return undefined;
    this.#kept.delete(name);
    if (kept.until <= this.#clock.now()) return undefined;
    this.#kept.set(name, kept);
    return kept.addresses;
  }

  #keep(name: string, addresses: readonly ResolvedAddress[], ttlSeconds: number): void {
    const keptMs = Math.min(ttlSeconds * 1_000, KEPT_MS_MAX);
    if (keptMs <= 0) return;
    this.#kept.set(name, { addresses, until: this.#clock.now() + keptMs });
    if (this.#kept.size <= KEPT_NAMES_MAX) return;
    for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest);
      return;
    }
  }

  /** What fails is not kept: a name that was just made is found at once, and a lookup that fails costs nobody else. */
  #begin(name: string, config: ResolverConfig): Promise<readonly ResolvedAddress[]> {
    if (this.#isClosed) return Promise.reject(closedError());
    const changesBefore = this.#changes;
    const answer = this.#lookUp(name, config)
      .then(({ addresses, ttlSeconds }) => {
        const { length } = addresses;
        if (length > ADDRESSES_MAX) throw new TooManyAddresses(length, ADDRESSES_MAX);
        const ordered = this.#ordered(addresses);
        if (this.#changes === changesBefore) this.#keep(name, ordered, ttlSeconds);
        return ordered;
      })
      .finally(() => this.#lookups.delete(name));
    this.#lookups.set(name, { answer, startedAt: this.#clock.now() });
    return answer;
  }

  async #lookUp(name: string, config: ResolverConfig): Promise<DnsAnswer> {
    const { timeoutMs, attempts } = config;
    const nameservers = this.#nameservers(config);
    const questions = nameservers.length * attempts;
    const limitMs = Math.min(this.#limitMs, timeoutMs * questions);
    const slotMs = Math.min(ASK_AGAIN_MS, timeoutMs, limitMs / questions);
    const limit = Promise.withResolvers<never>();
    limit.promise.catch(() => {});
    const cancelLimit = this.#clock.after(limitMs, () => limit.reject(new NotResolvedInTime(limitMs)));
    this.#aborts.add(limit.reject);
    try {
      const [askers, clock] = [this.#askers, this.#clock];
      const parts = { nameservers, rounds: attempts, slotMs, askers, clock };
      const answer = await firstFound(candidateNames(name, config), name, async (candidate) => {
        const inquiry = new Inquiry(candidate, parts);
        try {
          return await Promise.race([inquiry.answer, limit.promise]);
        } finally {
          inquiry.end();
        }
      });
      this.#prefer(answer.nameserver, nameservers);
      return answer;
    } catch (error) {
      throw (error as NameError).code === 'ETIMEOUT' ? new NotResolvedInTime(limitMs) : error;
    } finally {
      cancelLimit();
      this.#aborts.delete(limit.reject);
    }
  }

  #nameservers({ nameservers }: ResolverConfig): readonly (string | undefined)[] {
    if (nameservers.length === 0) return [undefined];
    const preferred = this.#preferred;
    if (preferred === undefined || preferred.until <= this.#clock.now()) return nameservers;
    return [...nameservers].sort(
      (one, other) => Number(other === preferred.nameserver) - Number(one === preferred.nameserver),
    );
  }

  #prefer(nameserver: string | undefined, asked: readonly (string | undefined)[]): void {
    if (nameserver === asked[0]) return;
    this.#preferred = { nameserver, until: this.#clock.now() + PREFERRED_MS };
  }

  /**
   * The families in turn, since an address that leads nowhere is most often one of a whole family that does. IPv6 is first where
   * this machine has a global address of its own, as RFC 6724 and RFC 8305 have it; elsewhere it is not tried before IPv4.
   */
  #ordered(addresses: readonly ResolvedAddress[]): readonly ResolvedAddress[] {
    const first = this.#hasIpv6() ? 6 : 4;
    const leading = addresses.filter(({ family }) => family === first);
    const others = addresses.filter(({ family }) => family !== first);
    const turns = Array.from({ length: Math.max(leading.length, others.length) }, (_, turn) => [
      leading[turn],
      others[turn],
    ]);
    return turns.flat().filter((address) => address !== undefined);
  }
}

/** The answer for the first candidate that has one; where none has, the error for the name as it was given. */
async function firstFound(
  candidates: readonly string[],
  name: string,
  inquire: (candidate: string) => Promise<DnsAnswer>,
): Promise<DnsAnswer> {
  const itself = name.replace(/\.$/, '');
  let failure: unknown;
  for (const candidate of candidates) {
    try {
      return await inquire(candidate);
    } catch (error) {
      if (!SEARCH_GOES_ON.has((error as NameError).code ?? '')) throw error;
      if (candidate === itself || failure === undefined) failure = error;
    }
  }
  throw failure;
}

function closedError(): Error {
  return Object.assign(new Error('names are not resolved any more'), { code: 'ECANCELLED' });
}

/** Whether IPv6 of the outside can be reached, as far as the machine's own addresses say: 2000::/3 is what is global. */
function hasGlobalIpv6(): boolean {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .some(
      ({ family, internal, address }) => family === 'IPv6' && !internal && /^[23][\da-f]{3}:/.test(address),
    );
}

function knownFor(ms: number, clock: Clock, look: () => boolean): () => boolean {
  let known = false;
  let until = Number.NEGATIVE_INFINITY;
  return () => {
    const now = clock.now();
    if (now >= until) [known, until] = [look(), now + ms];
    return known;
  };
}
