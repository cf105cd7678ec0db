/**
 * Who sends a request. One function finds out, from whatever the request carries: today an API key, and in time the
 * session of the pages. Keys are kept and compared as SHA-256; no key is ever logged.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { AppError } from '../model/app-error.ts';
import type { ApiKey, InstitutionId, Role } from '../model/entities.ts';
import type { Store } from '../store/store.ts';
import { ExpiringCache } from './expiring-cache.ts';
import { countedAddress, type RefusedAttempts } from './refused-attempts.ts';

export type Principal = {
  readonly role: Role;
  /** Of an operator or a source: the only institution there is for them. */
  readonly institutionId?: InstitutionId;
  /** For the records of who asked for what: the name of the key. */
  readonly name: string;
};

/** How long a key that was deleted by another process still works. */
const KEY_LIFETIME_MS = 5_000;
const KEYS_CACHED_MAX = 1_000;
const KEY_RANDOM_BYTES = 32;
const KEY_PREFIX = 'ohk_';

/** Each role may do what the roles before it may: a source brings orders in, an operator works with them. */
const RANKS: Readonly<Record<Role, number>> = { SOURCE: 1, OPERATOR: 2, ADMINISTRATOR: 3 };

export function hasRole(principal: Principal, needed: Role): boolean {
  return RANKS[principal.role] >= RANKS[needed];
}

/** A new API key and what is kept of it. */
export function createKey(): { readonly key: string; readonly keyHash: Uint8Array } {
  const key = KEY_PREFIX + randomBytes(KEY_RANDOM_BYTES).toString('base64url');
  return { key, keyHash: hashKey(key) };
}

function hashKey(key: string): Uint8Array {
  return hash('sha256', key, 'buffer');
}

export class Principals {
  readonly #store: Pick<Store, 'apiKeyByHash'>;
  readonly #clock: () => number;
  readonly #adminKeyHash: Uint8Array | undefined;
  readonly #keys: ExpiringCache<string, ApiKey>;
  readonly #attempts: RefusedAttempts;
  /** Counts the deletions: a look-up that was under way during one must not bring the key back. */
  #deletions = 0;

  constructor(given: {
    store: Pick<Store, 'apiKeyByHash'>;
    clock: () => number;
    adminKey?: string | undefined;
    attempts: RefusedAttempts;
  }) {
    this.#store = given.store;
    this.#clock = given.clock;
    this.#adminKeyHash = given.adminKey ? hashKey(given.adminKey) : undefined;
    this.#attempts = given.attempts;
    this.#keys = new ExpiringCache({
      lifetimeMs: KEY_LIFETIME_MS,
      entriesMax: KEYS_CACHED_MAX,
      clock: given.clock,
    });
  }

  /**
   * `address`: of the client, for which refused keys are counted.
   * @throws AppError `unauthenticated`, `too_many_requests`
   */
  async find(authorization: string | undefined, address: string): Promise<Principal> {
    if (authorization === undefined) {
      throw new AppError('unauthenticated', 'Send an API key: `Authorization: Bearer ohk_…`.');
    }
    const key = bearer(authorization);
    if (key === undefined) {
      throw new AppError('unauthenticated', 'The Authorization header must be `Bearer` and an API key.');
    }
    return this.#byKey(key, address);
  }

  /** A deleted key stops working at once in this process. */
  forgetKey(id: number): void {
    this.#deletions += 1;
    this.#keys.deleteWhere((key) => key.id === id);
  }

  async #byKey(key: string, address: string): Promise<Principal> {
    const keyHash = hashKey(key);
    if (this.#adminKeyHash && timingSafeEqual(keyHash, this.#adminKeyHash)) {
      return { role: 'ADMINISTRATOR', name: 'ORDERHOOK_ADMIN_KEY' };
    }
    const cacheKey = Buffer.from(keyHash).toString('latin1');
    const known = this.#keys.get(cacheKey);
    if (known !== undefined && !this.#isExpired(known)) return known;
    return this.#attempts.watch([countedAddress(address)], async () => {
      const apiKey = known ?? (await this.#lookUp(keyHash, cacheKey));
      if (apiKey === undefined) {
        throw new AppError('unauthenticated', 'The API key is not known; it may have been deleted.');
      }
      if (this.#isExpired(apiKey)) throw new AppError('unauthenticated', 'The API key has expired.');
      return apiKey;
    });
  }

  async #lookUp(keyHash: Uint8Array, cacheKey: string): Promise<ApiKey | undefined> {
    const deletions = this.#deletions;
    const apiKey = await this.#store.apiKeyByHash(keyHash);
    if (apiKey && deletions === this.#deletions) this.#keys.set(cacheKey, apiKey);
    return apiKey;
  }

  #isExpired({ expiresAt }: ApiKey): boolean {
    return expiresAt !== undefined && expiresAt <= this.#clock();
  }
}

/** The token of an `Authorization: Bearer` header (RFC 6750; the case of the scheme does not matter). */
export function bearer(authorization: string): string | undefined {
  return /^bearer +(\S+) *$/i.exec(authorization)?.[1];
}
