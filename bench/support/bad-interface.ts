/** The bad neighbour: an interface whose callee misbehaves (`bad-callee.ts`), at work or at rest as a round wants it. */
import { setTimeout as wait } from 'node:timers/promises';
import type { BadBehaviour, BadCallee } from './bad-callee.ts';
import type { Neighbour } from './others.ts';
import type { InstitutionClient, InterfaceId } from './service.ts';

/** Leaves it room to fill all its connections. */
const BATCH_SIZE = 500;
const BEGIN_MS = 60_000;
const END_MS = 5_000;
const LOOK_EVERY_MS = 10;

export type BadInterfaceSettings = {
  readonly client: InstitutionClient;
  readonly callee: BadCallee;
  readonly behaviour: BadBehaviour;
  readonly concurrency: number;
  /** Its queue has at least as many orders when a round begins. Nobody else may import into the institution. */
  readonly ordersMin?: number;
};

export class BadInterface implements Neighbour {
  /** Calls that its callee had while it misbehaved. */
  calls = 0;
  readonly #given: BadInterfaceSettings;
  readonly #id: InterfaceId;
  #imported = 0;
  #rounds = 0;

  private constructor(given: BadInterfaceSettings, id: InterfaceId) {
    this.#given = given;
    this.#id = id;
  }

  static async add(given: BadInterfaceSettings): Promise<BadInterface> {
    const { client, callee, concurrency, behaviour } = given;
    const calleeUrl = `${callee.url}/${behaviour}`;
    return new BadInterface(
      given,
      await client.addInterface({ calleeUrl, batchSize: BATCH_SIZE, concurrency }),
    );
  }

  async begin(): Promise<void> {
    const { client, callee, behaviour, concurrency } = this.#given;
    await this.#fillQueue();
    await callee.misbehave();
    this.#rounds += 1;
    // What is kept of a destination, such as that it did not answer lately, ends with its URL.
    const url = `${callee.url}/${behaviour}/${this.#rounds}/\${orderId}`;
    await client.call('PATCH', `${client.path}/interfaces/${this.#id}`, { url, active: true });
    await callee.untilCalled(concurrency, BEGIN_MS);
  }

  async end(): Promise<void> {
    const { client, callee, behaviour, concurrency } = this.#given;
    const { calls, busy } = await callee.state();
    this.calls += calls;
    if (behaviour === 'silent' && busy < concurrency) {
      throw new Error('The silent callee had no calls any more: the round took too long');
    }
    await client.setActive(this.#id, false);
    await callee.behave();
    const deadline = performance.now() + END_MS;
    while ((await callee.state()).busy > 0 && performance.now() < deadline) await wait(LOOK_EVERY_MS);
  }

  async #fillQueue(): Promise<void> {
    const { client, ordersMin = 0 } = this.#given;
    if ((await client.queue(this.#id)).waiting >= ordersMin) return;
    await client.import(this.#imported, ordersMin);
    this.#imported += ordersMin;
  }
}
