/** Why a name has no address, in the words of the contract (section 2.3). Pure. */
import { type Failure, shortageOf } from './failure.ts';

/** Nobody answered in the time that there was. */
export class NotResolvedInTime extends Error {
  readonly code = 'ETIMEOUT';

  constructor(withinMs: number) {
    super(`was not resolved within ${withinMs} ms`);
  }
}

/** A name with more addresses than anybody needs. */
export class TooManyAddresses extends Error {
  constructor(count: number, max: number) {
    super(`it has ${count} addresses, more than ${max}`);
  }
}

/** What `dns.Resolver` reports, and what it means. */
const MEANINGS: ReadonlyMap<string, string> = new Map([
  ['ENOTFOUND', 'no such name'],
  ['ENODATA', 'it has no address'],
  ['ESERVFAIL', 'its DNS servers failed'],
  ['EREFUSED', 'the DNS server refused to look it up'],
  ['ECONNREFUSED', 'the DNS server cannot be reached'],
  ['EBADNAME', 'no name that DNS can have'],
  ['EBADRESP', 'DNS answered what cannot be read'],
  ['EFORMERR', 'the DNS server did not understand the question'],
  ['ENOTIMP', 'the DNS server does not know the question'],
]);

export function describeNameError(host: string, error: Error & { readonly code?: string }): Failure {
  const { code = '', message } = error;
  if (error instanceof NotResolvedInTime) return { reason: 'dns', detail: `${host} ${message}` };
  const meaning = MEANINGS.get(code);
  const detail = `${host} does not resolve: ${meaning === undefined ? message : `${meaning} (${code})`}`;
  return { reason: shortageOf(error) === undefined ? 'dns' : 'local', detail };
}
