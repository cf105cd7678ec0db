/**
 * Which server is talked to. A URL may name several, `postgres://user@a:5432,b:5433/orderhook`, of which one takes
 * writes: after a failover another one does. The driver knows one host only.
 *
 * All connections go to the server that last answered as the primary. When it does not answer, or has become a standby,
 * the next one of the list is tried, round and round. The same holds for a single host behind which the server changes.
 */
export type Host = {
  /** For the driver: names this server alone. Holds the password. */
  readonly url: string;
  /** For messages: the host with its port, where one is given. */
  readonly name: string;
  /** For messages; empty: what the driver takes by itself. */
  readonly database: string;
  readonly user: string;
};

export class Hosts {
  readonly #all: readonly Host[];
  #index = 0;

  constructor(all: readonly Host[]) {
    this.#all = all;
  }

  get count(): number {
    return this.#all.length;
  }

  get current(): Host {
    return this.#all[this.#index] as Host;
  }

  /**
   * It does not answer, or takes no writes. Does nothing, and returns false, when somebody else has moved on from it already,
   * or when there is no other.
   */
  moveOnFrom(host: Host): boolean {
    if (host !== this.current || this.#all.length === 1) return false;
    this.#index = (this.#index + 1) % this.#all.length;
    return true;
  }
}

/**
 * Of the parameters of libpq that concern the choice, only `target_session_attrs=read-write` (or `primary`) makes sense
 * here, and is what happens anyway.
 * @throws Error that says what the URL must be, and never what it is: it may hold a password
 */
export function parseDatabaseUrl(url: string): readonly Host[] {
  const [, scheme, userInfo = '', names, rest = ''] =
    /^(postgres(?:ql)?:\/\/)([^/?#]*@)?([^/?#@]*)([/?#].*)?$/.exec(url) ?? [];
  if (scheme === undefined || names === undefined) throw new Error(EXPECTED);
  const withoutTarget = rest.replace(
    /([?&])target_session_attrs=([^&#]*)(&?)/,
    (_all, before, target, after) => {
      if (target !== 'read-write' && target !== 'primary' && target !== 'any') {
        throw new Error('must have target_session_attrs=read-write or primary: Orderhook writes');
      }
      return after === '' ? '' : before;
    },
  );
  const all = names.split(',');
  return all.map((name) => {
    const host = `${scheme}${userInfo}${name}${withoutTarget}`;
    const parsed = URL.parse(host);
    // A single empty name is the default of the driver, or in the parameter `host`.
    if (parsed === null || (name === '' && all.length > 1)) throw new Error(EXPECTED);
    const { searchParams, pathname, username } = parsed;
    return {
      url: host,
      name: name || (searchParams.get('host') ?? ''),
      database: decoded(pathname.slice(1)),
      user: decoded(username),
    };
  });
}

/** What is connected to, in words that hold no password. */
export function describeHosts(hosts: readonly Host[]): string {
  const [first] = hosts;
  const parts = [
    hosts.map(({ name }) => name || 'the driver’s usual host').join(' and '),
    first?.database && `database "${first.database}"`,
    first?.user && `user "${first.user}"`,
  ];
  return parts.filter(Boolean).join(', ');
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const EXPECTED =
  'must look like postgres://user:password@host:5432/database; several hosts, each with its port, are separated by commas';
