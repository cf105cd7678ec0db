/**
 * Keys, secrets and tokens that are refused, counted for each address and each account, so that guessing gets slow and costs
 * others nothing. It stops nobody: a reverse proxy puts all clients behind one address, and a stranger can name any account.
 * So whatever is right passes at any time, and beyond the limit it is the checks that stand in a line.
 */
import { hash } from 'node:crypto';
import { AppError, type ErrorCode } from '../model/app-error.ts';

/** In a minute, from one address or for one account, before the next refused one is answered with 429. */
export const REFUSED_PER_MINUTE_MAX = 30;
/** Checks at once for one address or account that is over its limit, and those that wait for them. */
const CHECKS_AT_ONCE_MAX = 4;
const CHECKS_WAITING_MAX = 200;
const WINDOW_MS = 60_000;

/** What counts as an attempt that failed: the same answer whatever was wrong. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set(['unauthenticated', 'not_found']);

export class RefusedAttempts {
  readonly #clock: () => number;
  readonly #count: WindowCount;
  readonly #lanes = new Map<string, Lane>();

  /** `seed`: that nobody can guess. */
  constructor(given: { readonly clock: () => number; readonly seed: string }) {
    this.#clock = given.clock;
    this.#count = new WindowCount({ ...given, windowMs: WINDOW_MS });
  }

  /**
   * Does a check; when it throws a refusal, counts it for all `keys`.
   * @throws AppError `too_many_requests` in place of a refusal, and when too many checks wait; whatever `check` throws
   */
  async watch<T>(keys: readonly string[], check: () => T | Promise<T>): Promise<T> {
    const overKey = keys.find((key) => this.#count.of(key) >= REFUSED_PER_MINUTE_MAX);
    try {
      return await (overKey === undefined ? check() : this.#inLane(overKey, check));
    } catch (error) {
      if (!(error instanceof AppError) || !REFUSALS.has(error.code)) throw error;
      for (const key of keys) this.#count.add(key);
      if (overKey === undefined) throw error;
      throw this.#tooMany(error);
    }
  }

  async #inLane<T>(key: string, check: () => T | Promise<T>): Promise<T> {
    const lane = this.#lanes.get(key) ?? { running: 0, waiting: [] };
    this.#lanes.set(key, lane);
    if (lane.running >= CHECKS_AT_ONCE_MAX) {
      if (lane.waiting.length >= CHECKS_WAITING_MAX) throw this.#tooMany();
      await new Promise<void>((resolve) => lane.waiting.push(resolve));
    } else {
      lane.running += 1;
    }
    try {
      return await check();
    } finally {
      const next = lane.waiting.shift();
      if (next) next();
      else {
        lane.running -= 1;
        if (lane.running === 0) this.#lanes.delete(key);
      }
    }
  }

  #tooMany(cause?: AppError): AppError {
    const message = `More than ${REFUSED_PER_MINUTE_MAX} keys, secrets or tokens from here were refused within a minute; the right one is let in at any time.`;
    const retryAfterSeconds = Math.max(1, Math.ceil((this.#count.windowEndsAt - this.#clock()) / 1000));
    return new AppError('too_many_requests', message, {
      retryAfterSeconds,
      ...(cause && { cause }),
    });
  }
}

type Lane = { running: number; readonly waiting: (() => void)[] };

/** The address that attempts are counted for: of IPv6 the network, since a client has all of one. */
export function countedAddress(address: string): string {
  const unmapped = address.replace(/^::ffff:(?=\d+\.)/i, '');
  if (!unmapped.includes(':')) return unmapped;
  const [left = '', right] = unmapped.split('::');
  const groups = left === '' ? [] : left.split(':');
  const behind = right === undefined || right === '' ? [] : right.split(':');
  const zeros = right === undefined ? 0 : 8 - groups.length - behind.length;
  return [...groups, ...Array<string>(Math.max(zeros, 0)).fill('0'), ...behind].slice(0, 4).join(':');
}

const ROWS = 4;
const CELLS_PER_ROW = 16_384;
const COUNT_MAX = 65_535;

/**
 * How often each of any number of keys came in this window, in a fixed amount of memory: a count-min sketch (Cormode and
 * Muthukrishnan, 2005). It never says too little, so no flood of keys makes it forget one; among very many it may say too much.
 */
export class WindowCount {
  readonly #clock: () => number;
  readonly #seed: string;
  readonly #windowMs: number;
  readonly #cells = new Uint16Array(ROWS * CELLS_PER_ROW);
  windowEndsAt = 0;

  constructor(given: {
    readonly clock: () => number;
    readonly seed: string;
    readonly windowMs: number;
  }) {
    this.#clock = given.clock;
    this.#seed = given.seed;
    this.#windowMs = given.windowMs;
  }

  /** At least as often as it came. */
  of(key: string): number {
    this.#turn();
    return Math.min(...this.#cellsOf(key).map((cell) => this.#cells[cell] as number));
  }

  add(key: string): void {
    this.#turn();
    for (const cell of this.#cellsOf(key)) {
      const count = this.#cells[cell] as number;
      if (count < COUNT_MAX) this.#cells[cell] = count + 1;
    }
  }

  #turn(): void {
    const now = this.#clock();
    if (now < this.windowEndsAt) return;
    this.windowEndsAt = now + this.#windowMs;
    this.#cells.fill(0);
  }

  #cellsOf(key: string): number[] {
    const bytes = hash('sha256', this.#seed + key, 'buffer');
    return Array.from(
      { length: ROWS },
      (_, row) => row * CELLS_PER_ROW + (bytes.readUInt32LE(row * 4) % CELLS_PER_ROW),
    );
  }
}
