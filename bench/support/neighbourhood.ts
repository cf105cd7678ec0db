/** A service, its fast callee, everybody else, warm; and a bad callee, for whoever is their neighbour. */
import { type BadBehaviour, BadCallee } from './bad-callee.ts';
import { BadInterface } from './bad-interface.ts';
import { Callee } from './callee.ts';
import { Others, type RatesBeside, ratesBeside, type Watch } from './others.ts';
import { InstitutionClient, Service } from './service.ts';

export type NeighbourhoodSettings = {
  /** Orders of a round, for each of the others. */
  readonly orders: number;
  readonly rounds: number;
  readonly roundMs: number;
};

export class Neighbourhood implements AsyncDisposable {
  readonly service: Service;
  readonly badCallee: BadCallee;
  readonly #others: Others;
  readonly #settings: NeighbourhoodSettings;
  readonly #resources: AsyncDisposableStack;

  private constructor(parts: {
    service: Service;
    badCallee: BadCallee;
    others: Others;
    settings: NeighbourhoodSettings;
    resources: AsyncDisposableStack;
  }) {
    this.service = parts.service;
    this.badCallee = parts.badCallee;
    this.#others = parts.others;
    this.#settings = parts.settings;
    this.#resources = parts.resources;
  }

  static async open(count: number, settings: NeighbourhoodSettings): Promise<Neighbourhood> {
    await using opening = new AsyncDisposableStack();
    const callee = opening.use(await Callee.start());
    const badCallee = opening.use(await BadCallee.start());
    const service = opening.use(await Service.start());
    await service.setUp(callee.host, badCallee.host);
    const others = await Others.add({ callee, client: service, count, ordersPerRound: settings.orders });
    await others.round({ withinMs: settings.roundMs, timed: 'middle' });
    return new Neighbourhood({ service, badCallee, others, settings, resources: opening.move() });
  }

  /** In the institution of the others, whose orders it sees too. */
  async neighbour(behaviour: BadBehaviour, concurrency: number): Promise<BadInterface> {
    return BadInterface.add({ client: this.service, callee: this.badCallee, behaviour, concurrency });
  }

  /** In an institution that has nothing to do with the others. */
  async neighbourOfItsOwn(
    behaviour: BadBehaviour,
    concurrency: number,
    ordersMin: number,
  ): Promise<BadInterface> {
    const client = new InstitutionClient(this.service.address, behaviour.toUpperCase());
    await client.setUp(this.badCallee.host);
    return BadInterface.add({ client, callee: this.badCallee, behaviour, concurrency, ordersMin });
  }

  async measure(neighbour: BadInterface, watch: Watch = {}): Promise<RatesBeside> {
    const { rounds, roundMs } = this.#settings;
    return ratesBeside(this.#others, neighbour, { rounds, withinMs: roundMs, timed: 'middle', ...watch });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
