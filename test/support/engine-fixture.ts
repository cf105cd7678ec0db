import { join } from 'node:path';
import { createEngine, type Engine, type EngineParts } from '../../src/engine/engine.ts';
import type { ExternalInterface, Institution, Schedule, ScheduleSettings } from '../../src/model/entities.ts';
import { readOrderDetails } from '../../src/model/order.ts';
import { createLog } from '../../src/observe/log.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite-store.ts';
import type { Store } from '../../src/store/store.ts';
import { INTERFACE, orderText } from '../store-contract.ts';
import { FakeCallee } from './fake-callee.ts';
import { FakeClock } from './fake-clock.ts';
import { temporaryFolder } from './temporary-folder.ts';

/** An engine on a real store, with a clock and a callee in the hands of the test. */
export class EngineFixture {
  readonly clock = new FakeClock();
  readonly callee = new FakeCallee();
  readonly #folder = temporaryFolder();
  readonly store: Store = openSqliteStore({ file: join(this.#folder.path, 'orderhook.db') });
  engine: Engine = this.#create();
  institution!: Institution;
  #isCrashed = false;

  #create(more: Partial<EngineParts> = {}): Engine {
    const parts: EngineParts = {
      store: this.store,
      caller: this.callee,
      clock: this.clock,
      random: () => 0.5,
      log: createLog('silent'),
      userAgent: 'Orderhook/test',
      ...more,
    };
    return createEngine(parts);
  }

  static async start(): Promise<EngineFixture> {
    const fixture = new EngineFixture();
    const { store, clock } = fixture;
    fixture.institution = await store.createInstitution({
      code: 'VENUE',
      name: 'Venue',
      timeZone: 'UTC',
      createdAt: clock.now(),
    });
    await fixture.openDestination();
    await fixture.engine.start();
    return fixture;
  }

  async openDestination(destination = INTERFACE.destination): Promise<number> {
    const { store, clock, institution } = this;
    const { id } = await store.requestOpening(institution.id, {
      destination,
      requestedAt: clock.now(),
      requestedBy: 'test',
    });
    const given = { allowPrivate: false, decidedBy: 'test', decidedAt: clock.now() };
    await store.decideOpening(institution.id, id, 'open', given);
    return id;
  }

  async createInterface(more: Partial<typeof INTERFACE> = {}): Promise<ExternalInterface> {
    return this.store.createInterface(this.institution.id, { ...INTERFACE, ...more }, this.clock.now());
  }

  async changeInterface(one: ExternalInterface, more: Partial<typeof INTERFACE>): Promise<void> {
    const change = () => ({ ...one, ...more });
    await this.store.updateInterface(this.institution.id, one.id, change, this.clock.now());
    await this.clock.advance(0);
  }

  async createSchedule(one: ExternalInterface, more: Partial<ScheduleSettings> = {}): Promise<Schedule> {
    const settings: ScheduleSettings = { name: 'Schedule', launch: 'MANUAL', batchSize: 60, ...more };
    const schedule = await this.store.createSchedule(this.institution.id, one.id, settings, this.clock.now());
    await this.clock.advance(0);
    return schedule as Schedule;
  }

  /** Orders 1 … `count`, or those named, close. */
  async close(orders: number | readonly (number | string)[], more = ''): Promise<void> {
    const ids = typeof orders === 'number' ? Array.from({ length: orders }, (_, index) => index + 1) : orders;
    const puts = ids.map((id) => ({
      ...readOrderDetails(orderText(id, 'CLOSED', more)),
      institutionId: this.institution.id,
    }));
    await this.store.putOrders(puts, this.clock.now());
    await this.clock.advance(0);
  }

  /** Asks for a run and gives time until it has ended. */
  async run(schedule: Schedule) {
    const requested = await this.store.requestRun(this.institution.id, schedule.id, this.clock.now());
    for (let tries = 0; tries < 2_000; tries += 1) {
      await this.clock.advance(1);
      const execution = await this.store.executionById(this.institution.id, requested?.id as number);
      if (execution && execution.status !== 'RUNNING') return execution;
    }
    throw new Error('The execution did not end.');
  }

  async until(condition: () => boolean): Promise<void> {
    for (let tries = 0; tries < 5_000; tries += 1) {
      if (condition()) return;
      await this.clock.advance(1);
    }
    throw new Error('It did not come to that.');
  }

  async executions(schedule: Schedule) {
    return (await this.store.executions(this.institution.id, schedule.id, { limit: 200 })).items;
  }

  async queue(one: ExternalInterface) {
    const figures = await this.store.queueFigures(this.institution.id, one.id);
    if (!figures) return undefined;
    // When it was closed says nothing of the engine.
    const { oldestOwedAt: _, ...counted } = figures;
    return counted;
  }

  async calls(one: ExternalInterface) {
    return (await this.store.calls(this.institution.id, one.id, { limit: 200 }))?.items ?? [];
  }

  /** The process is killed: nothing of it goes on, and what it did not commit is gone. */
  crash(): void {
    this.clock.forgetTimers();
    this.callee.forgetCalls();
    this.#isCrashed = true;
  }

  /** The process ends, unless it crashed, and another begins on the same store. */
  async restart(more: Partial<EngineParts> = {}): Promise<void> {
    if (!this.#isCrashed) await this.engine.stop();
    this.#isCrashed = false;
    this.engine = this.#create(more);
    await this.engine.start();
  }

  async stop(): Promise<void> {
    await this.engine.stop();
    await this.store.close();
    this.#folder.remove();
  }
}
