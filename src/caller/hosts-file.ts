/** Names that need no DNS: those of the hosts file, hosts(5), and localhost. Pure, but for giving way while a large file is read. */
import { isIP } from 'node:net';
import { setImmediate as othersHadTheirTurn } from 'node:timers/promises';
import type { ResolvedAddress } from './destination.ts';

/** Larger ones than this are lists of what to block, made for browsers. */
export const HOSTS_BYTES_MAX = 4 * 1024 * 1024;
/** Lines that are read in one turn of the event loop: about a millisecond of work. */
const LINES_A_TURN = 1_000;

/** RFC 6761, 6.3: what `localhost` and every name below it mean, whatever DNS says. */
export const LOOPBACK: readonly ResolvedAddress[] = [
  { address: '127.0.0.1', family: 4 },
  { address: '::1', family: 6 },
];

/** By name in lower case, without a dot at the end: every address of it, in the order of the file. */
export type Hosts = ReadonlyMap<string, readonly ResolvedAddress[]>;

/** A line without a valid address, or without a name, says nothing. A name in several lines has the addresses of all. */
export async function parseHosts(text: string): Promise<Hosts> {
  const hosts = new Map<string, ResolvedAddress[]>();
  let count = 0;
  for (const [line] of text.matchAll(/[^\r\n]+/g)) {
    count += 1;
    if (count % LINES_A_TURN === 0) await othersHadTheirTurn();
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    const family = isIP(address);
    if (family === 0) continue;
    for (const written of names) {
      const name = hostsName(written);
      const known = hosts.get(name) ?? [];
      if (known.some((one) => one.address === address)) continue;
      known.push({ address, family });
      hosts.set(name, known);
    }
  }
  return hosts;
}

/** A name as `Hosts` has it. */
export function hostsName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

/** Whether a name means the machine itself, with no need to look it up. */
export function isLocalhost(name: string): boolean {
  return /(^|\.)localhost$/.test(hostsName(name));
}
