/**
 * Questions to DNS servers by c-ares (`dns.Resolver`), which needs no thread, so any number of them may be under way.
 *
 * A lookup has a socket of its own, for two reasons: an answer is the harder to forge the less of its port is known, and c-ares
 * makes its patience depend on how fast a server was before, so that a slow name would get no answer after quick ones. Many
 * names that stay silent must not use up the descriptors of everybody, though, so only so many lookups have this; those
 * beyond it share a socket for each server, at which c-ares asks again by itself.
 */
import { Resolver } from 'node:dns/promises';
import { closeSync, openSync } from 'node:fs';
import { devNull } from 'node:os';

export type AddressRecord = {
  readonly address: string;
  /** Seconds. */
  readonly ttl: number;
};

/** Asks one server for what one lookup needs. */
export type Asker = {
  /** Rejects with the code that c-ares has for it, and with the system's for what this machine has too little of. */
  ask(name: string, family: 4 | 6): Promise<readonly AddressRecord[]>;
  /** Nobody waits for answers any more. */
  end(): void;
};

export type Askers = {
  /** `undefined`: the servers that c-ares finds by itself. */
  open(nameserver: string | undefined): Asker;
  /** Ends all of them. */
  close(): void;
};

/** Sockets at once that serve one lookup only. */
const OWN_SOCKETS_MAX = 256;
/** On a shared socket: how long c-ares waits for a server that it does not know yet, before it asks again. */
const SHARED_FIRST_MS = 1_000;
/**
 * It waits about twice as long each time, and for a server that it knows to be fast it begins with a second or less. What it
 * gives up the lookup has asked again by then; more would be a flood when many names stay silent.
 */
const SHARED_TRIES = 3;

/** `limitMs`: no lookup waits longer. */
export function createAskers({ limitMs }: { readonly limitMs: number }): Askers {
  const shared = new Map<string | undefined, Resolver>();
  const own = new Set<Resolver>();

  return {
    open(nameserver) {
      if (own.size >= OWN_SOCKETS_MAX) {
        const resolver = sharedResolver(nameserver);
        // What nobody waits for any more goes on for some seconds: to cancel it would cancel the questions of others.
        return { ask: (name, family) => ask(resolver, name, family), end() {} };
      }
      const resolver = createResolver(nameserver, { timeout: limitMs, tries: 1 });
      own.add(resolver);
      return {
        ask: (name, family) => ask(resolver, name, family),
        end() {
          if (own.delete(resolver)) resolver.cancel();
        },
      };
    },
    close() {
      for (const resolver of [...own, ...shared.values()]) resolver.cancel();
      own.clear();
      shared.clear();
    },
  };

  function sharedResolver(nameserver: string | undefined): Resolver {
    const known = shared.get(nameserver);
    if (known !== undefined) return known;
    const times = { timeout: SHARED_FIRST_MS, tries: SHARED_TRIES, maxTimeout: limitMs };
    const resolver = createResolver(nameserver, times);
    shared.set(nameserver, resolver);
    return resolver;
  }
}

function createResolver(
  nameserver: string | undefined,
  times: ConstructorParameters<typeof Resolver>[0],
): Resolver {
  const resolver = new Resolver(times);
  if (nameserver !== undefined) resolver.setServers([nameserver]);
  return resolver;
}

async function ask(resolver: Resolver, name: string, family: 4 | 6): Promise<readonly AddressRecord[]> {
  try {
    return family === 4
      ? await resolver.resolve4(name, { ttl: true })
      : await resolver.resolve6(name, { ttl: true });
  } catch (error) {
    // c-ares says the same for a server that is not there and for a socket that it could not make.
    if ((error as NodeJS.ErrnoException).code === 'ECONNREFUSED') assertDescriptorLeft();
    throw error;
  }
}

/** @throws the system's error when no descriptor is left */
function assertDescriptorLeft(): void {
  closeSync(openSync(devNull, 'r'));
}
