/** Sources that send orders all the time and, as sources do, send again what was not acknowledged. */
import { setTimeout as wait } from 'node:timers/promises';
import { Pool } from 'undici';
import type { SeededRandom } from './crash-random.ts';
import { ADMIN_KEY } from './node-process.ts';

export type LoadOrder = { readonly orderId: string; readonly orderType: 'SALE' | 'RENEWAL' };

const FIRST_ORDER_ID = 10_000_000_001;
const RETRY_MS = 25;

export class OrderLoad {
  /** Answered with 200: from here on they are a promise. */
  readonly acknowledged: LoadOrder[] = [];
  /** What came instead of 200, beside connections that a kill cut, with how often. */
  readonly refusals = new Map<string, number>();
  readonly #path: string;
  readonly #random: SeededRandom;
  readonly #pauseMsMax: number;
  /** By address. */
  readonly #pools = new Map<string, Pool>();
  #sent = 0;
  #isEnded = false;
  #hasGivenUp = false;
  readonly #sources: Promise<void>[];

  constructor(given: { path: string; sources: number; pauseMsMax: number; random: SeededRandom }) {
    this.#path = given.path;
    this.#random = given.random;
    this.#pauseMsMax = given.pauseMsMax;
    this.#sources = Array.from({ length: given.sources }, () => this.#send());
  }

  get sent(): number {
    return this.#sent;
  }

  /** Where the service is now, on one node or several; nowhere: it is down. */
  moveTo(...addresses: readonly string[]): void {
    for (const [address, pool] of this.#pools) {
      if (addresses.includes(address)) continue;
      this.#pools.delete(address);
      void pool.destroy();
    }
    for (const address of addresses) {
      if (this.#pools.has(address)) continue;
      this.#pools.set(address, new Pool(address, { connections: this.#sources.length }));
    }
  }

  /** Resolves when each source has its last order acknowledged. */
  async end(): Promise<void> {
    this.#isEnded = true;
    await Promise.all(this.#sources);
    this.moveTo();
  }

  /** Ends at once, whatever is not acknowledged. */
  giveUp(): void {
    this.#isEnded = true;
    this.#hasGivenUp = true;
    this.moveTo();
  }

  async #send(): Promise<void> {
    // Not before the constructor has returned.
    await wait(0);
    while (!this.#isEnded) {
      const order: LoadOrder = {
        orderId: String(FIRST_ORDER_ID + this.#sent),
        orderType: this.#random.isTrue(0.5) ? 'SALE' : 'RENEWAL',
      };
      this.#sent += 1;
      while (!(await this.#put(order))) {
        if (this.#hasGivenUp) return;
        await wait(RETRY_MS);
      }
      this.acknowledged.push(order);
      await wait(this.#random.integer(0, this.#pauseMsMax));
    }
  }

  async #put({ orderId, orderType }: LoadOrder): Promise<boolean> {
    if (this.#pools.size === 0) return false;
    const pool = this.#random.pick([...this.#pools.values()]);
    const operations = [{ operationId: 1, kind: 'SINGLE_ENTRY', quantity: 2, productCode: 'STALLS' }];
    const rest = JSON.stringify({ orderState: 'CLOSED', orderType, operationDatas: operations }).slice(1);
    try {
      const { statusCode, body } = await pool.request({
        method: 'PUT',
        path: `${this.#path}/${orderId}`,
        headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' },
        body: `{"orderId":${orderId},${rest}`,
      });
      const text = await body.text();
      if (statusCode === 200) return true;
      const refusal = `${statusCode} ${text.slice(0, 200)}`;
      this.refusals.set(refusal, (this.refusals.get(refusal) ?? 0) + 1);
      return false;
    } catch {
      return false; // the process is gone, or going
    }
  }
}
