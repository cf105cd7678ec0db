/**
 * One name, asked for at the servers of resolv.conf until one of them has said what it is.
 *
 * ```
 *   server 1   A ────────── addresses ──┐ the rest of its family has GRACE_MS
 *              AAAA ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┴──> answer
 *   server 2         after slotMs of silence, or at once when server 1 failed
 *   server 1 again              after the next slotMs … each `rounds` times
 * ```
 *
 * A server that stays silent is listened to all the same: it may be waiting for others itself. Whoever asks bounds the whole
 * time, and ends it.
 */
import type { Clock } from '../model/clock.ts';
import type { ResolvedAddress } from './destination.ts';
import type { AddressRecord, Asker, Askers } from './dns-asker.ts';

/**
 * How long the second family is waited for when the first has its addresses, or says that there is no such name. Addresses
 * that come later are not connected to, so that none goes unchecked.
 */
const GRACE_MS = 500;
/** What is a server's answer and not its failure: no other server is asked. */
const ANSWERS: ReadonlySet<string> = new Set(['ENOTFOUND', 'ENODATA', 'EBADNAME']);

export type DnsAnswer = {
  /** One at least, those of IPv4 first, each family in the order in which the server has them. */
  readonly addresses: readonly ResolvedAddress[];
  /** The shortest of all. */
  readonly ttlSeconds: number;
  readonly nameserver: string | undefined;
};

export type InquiryParts = {
  readonly nameservers: readonly (string | undefined)[];
  /** How often each is asked, 1 or more. */
  readonly rounds: number;
  readonly slotMs: number;
  readonly askers: Pick<Askers, 'open'>;
  readonly clock: Clock;
};

export class Inquiry {
  /** Rejects with the code of c-ares when all servers failed. Never settles while one of them is silent. */
  readonly answer: Promise<DnsAnswer>;
  readonly #name: string;
  readonly #parts: InquiryParts;
  readonly #settling = Promise.withResolvers<DnsAnswer>();
  /** To be asked yet, the next one first. */
  readonly #next: (string | undefined)[];
  /** Of the servers that were asked: one that is asked again is asked from the same socket. */
  readonly #askers = new Map<string | undefined, Asker>();
  /** Ends of the waits for a second family. */
  readonly #ends: (() => void)[] = [];
  #cancelSlot: () => void = () => {};
  /** Servers that were asked, and have neither answered nor failed. */
  #silent = 0;
  #isEnded = false;

  constructor(name: string, parts: InquiryParts) {
    this.#name = name;
    this.#parts = parts;
    this.#next = Array.from({ length: parts.rounds }, () => parts.nameservers).flat();
    this.answer = this.#settling.promise;
    // It may have been given up by then.
    this.answer.catch(() => {});
    this.#askNext();
  }

  /** Nothing is asked any more. */
  end(): void {
    this.#isEnded = true;
    this.#cancelSlot();
    for (const end of this.#ends.splice(0)) end();
    for (const asker of this.#askers.values()) asker.end();
  }

  #askNext(): void {
    this.#cancelSlot();
    if (this.#isEnded || this.#next.length === 0) return;
    const nameserver = this.#next.shift();
    this.#silent += 1;
    this.#cancelSlot = this.#parts.clock.after(this.#parts.slotMs, () => this.#askNext());
    this.#askServer(nameserver).then(
      (answer) => this.#settling.resolve(answer),
      (error) => this.#onFailure(error),
    );
  }

  #onFailure(error: Error & { code?: string }): void {
    this.#silent -= 1;
    if (ANSWERS.has(error.code ?? '')) this.#settling.reject(error);
    else if (this.#silent > 0) return;
    else if (this.#next.length > 0) this.#askNext();
    else this.#settling.reject(error);
  }

  async #askServer(nameserver: string | undefined): Promise<DnsAnswer> {
    const asker = this.#askers.get(nameserver) ?? this.#parts.askers.open(nameserver);
    this.#askers.set(nameserver, asker);
    const records = await this.#bothFamilies([asker.ask(this.#name, 4), asker.ask(this.#name, 6)]);
    const addresses = records.flatMap((ofFamily, index) =>
      ofFamily.map(({ address }) => ({ address, family: index === 0 ? 4 : 6 })),
    );
    const ttlSeconds = Math.min(...records.flat().map(({ ttl }) => ttl));
    return { addresses, ttlSeconds, nameserver };
  }

  /** What both families have, as far as it comes in time. Rejects when that is nothing. */
  #bothFamilies(asked: readonly Promise<readonly AddressRecord[]>[]): Promise<(readonly AddressRecord[])[]> {
    return new Promise((resolve, reject) => {
      const records: (readonly AddressRecord[])[] = asked.map(() => []);
      const failures: (Error & { code?: string })[] = [];
      let open = asked.length;
      const conclude = () => {
        if (records.some((ofFamily) => ofFamily.length > 0)) resolve([...records]);
        else reject(weightiest(failures));
      };
      const onSettled = (isDecisive: boolean) => {
        open -= 1;
        if (open === 0) conclude();
        else if (isDecisive) this.#ends.push(this.#parts.clock.after(GRACE_MS, conclude));
      };
      for (const [index, one] of asked.entries()) {
        one.then(
          (ofFamily) => {
            records[index] = ofFamily;
            onSettled(ofFamily.length > 0);
          },
          (error) => {
            failures.push(error);
            onSettled(error.code === 'ENOTFOUND');
          },
        );
      }
    });
  }
}

/** Of the two families': the failure of a server says less than its answer, so another server is asked. */
function weightiest(failures: readonly (Error & { code?: string })[]): Error {
  return (
    failures.find(({ code = '' }) => !ANSWERS.has(code)) ??
    failures.find(({ code }) => code === 'ENOTFOUND') ??
    failures[0] ??
    Object.assign(new Error('no address'), { code: 'ENODATA' })
  );
}
