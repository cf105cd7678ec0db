/** An institution with an interface in a fresh database, and the steps that tests of the PostgreSQL store share. */
import assert from 'node:assert/strict';
import type { Attempt } from '../../src/model/delivery.ts';
import type { ExternalInterface } from '../../src/model/entities.ts';
import type { Change, Position, Progress, Store, WaitingClosing } from '../../src/store/store.ts';
import { INTERFACE, orderText } from '../store-contract.ts';
import { openTestStore, type PostgresServer } from './postgres-server.ts';

export const CODE = 'VENUE';
export const LEASE_MS = 60_000;

export class Venue {
  readonly url: string;
  readonly store: Store;
  readonly id: number;

  private constructor(url: string, store: Store, id: number) {
    this.url = url;
    this.store = store;
    this.id = id;
  }

  static async open(
    server: PostgresServer,
    options: Parameters<typeof openTestStore>[1] = {},
  ): Promise<Venue> {
    const url = await server.database();
    const store = await openTestStore(url, options);
    const given = { code: CODE, name: 'Venue', timeZone: 'UTC', createdAt: 0 };
    return new Venue(url, store, (await store.createInstitution(given)).id);
  }

  async createInterface(): Promise<ExternalInterface> {
    return this.store.createInterface(this.id, INTERFACE, Date.now());
  }

  async put(...orderIds: (number | string)[]): Promise<void> {
    await putClosed(this.store, this.id, orderIds);
  }

  async cursorOf(one: ExternalInterface, store: Store = this.store): Promise<Position> {
    return (await store.engineInterface(this.id, one.id))?.cursor as Position;
  }

  /** What the interface has yet to look at. */
  async waiting(one: ExternalInterface, store: Store = this.store): Promise<WaitingClosing[]> {
    return store.waiting(this.id, await this.cursorOf(one, store), { limit: 100_000, withDetails: false });
  }

  progress(one: ExternalInterface, fence: number, more: Partial<Progress> = {}): Progress {
    return {
      institutionId: this.id,
      interfaceId: one.id,
      fence,
      settled: [],
      owed: [],
      resent: [],
      abandoned: [],
      attempts: [],
      executions: [],
      ...more,
    };
  }
}

export async function putClosed(store: Store, institutionId: number, orderIds: readonly (number | string)[]) {
  const puts = orderIds.map((id) => ({
    institutionId,
    orderId: String(id),
    orderState: 'CLOSED',
    details: orderText(id),
  }));
  return store.putOrders(puts, Date.now());
}

export function attempt(orderId: string, more: Partial<Attempt> = {}): Attempt {
  return {
    orderId,
    closingId: 1,
    attempt: 1,
    trigger: 'AUTOMATIC',
    startedAt: Date.now(),
    durationMs: 12,
    outcome: 'DELIVERED',
    answer: { status: 200, headers: {}, bodyStart: 'ok' },
    ...more,
  };
}

/** Resolves when `condition` does not throw and is not false; fails with its last error after `withinMs`. */
export async function eventually<T>(
  what: string,
  condition: () => Promise<T> | T,
  withinMs = 15_000,
): Promise<T> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    let failure: unknown;
    try {
      const value = await condition();
      if (value !== false && value !== undefined) return value;
    } catch (error) {
      failure = error;
    }
    if (performance.now() > deadline)
      throw new Error(`Not within ${withinMs} ms: ${what}`, { cause: failure });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The next change of this kind that the store tells of. */
export function nextChange<K extends Change['kind']>(store: Store, kind: K): Promise<Change & { kind: K }> {
  return new Promise((resolve) => {
    const unsubscribe = store.subscribe((change) => {
      if (change.kind !== kind) return;
      unsubscribe();
      resolve(change as Change & { kind: K });
    });
  });
}

export function isUnavailable(error: unknown): boolean {
  assert.equal((error as { code?: string }).code, 'store_unavailable', String((error as Error).stack));
  return true;
}
