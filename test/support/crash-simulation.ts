/**
 * One random history of the engine, judged as it goes: a real store, but clock, callee, crashes and outages are chosen
 * by a seed. The same seed gives the same history.
 *
 * The judge sees only what a callee and the callers of the store see. What it knows of one order at one interface:
 *
 * ```
 *   none ──call──> running ──answer──> delivered | failed
 *                     │                    │ crash, and it ended less than 50 ms ago: may be repeated, once
 *                     └──crash──> lost     └ any other call for a delivered order: only a resend explains it
 * ```
 */
import assert from 'node:assert/strict';
import { createEngine, type Engine, type EngineStore } from '../../src/engine/engine.ts';
import type { ExecutionEnd } from '../../src/engine/execution.ts';
import { RETRY_WAITS_MS } from '../../src/engine/retry.ts';
import { AppError } from '../../src/model/app-error.ts';
import type { Clock } from '../../src/model/clock.ts';
import type { Closing } from '../../src/model/delivery.ts';
import type { ExternalInterface, Institution, Schedule } from '../../src/model/entities.ts';
import { ATTEMPTS_DEFAULT } from '../../src/model/limits.ts';
import { readOrderDetails } from '../../src/model/order.ts';
import { type CallRequest, costsAnAttempt, type Outcome } from '../../src/model/outcome.ts';
import { createLog } from '../../src/observe/log.ts';
import type { Progress, ResendSelection, Store } from '../../src/store/store.ts';
import { INTERFACE, orderText } from '../store-contract.ts';
import { SeededRandom } from './crash-random.ts';
import { UNCOMMITTED_MS } from './crash-verdict.ts';
import { answered, unanswered } from './fake-callee.ts';
import { FakeClock } from './fake-clock.ts';

const FILTER = 'OrderDetailsData.OrderType=SALE';
const STEPS = { min: 6, max: 18 };
/** Half of the 50 ms: what ends while one commit runs is in the next. */
const COMMIT_MS_MAX = 25;
/** So long an outcome may wait while the store is asked for each half of a commit. */
const REFUSED_MS = UNCOMMITTED_MS + 10 * COMMIT_MS_MAX;
const EXECUTIONS_MAX = 3_000;
const DRAIN_TURNS_MAX = 400;
const NEVER = new Promise<never>(() => {});

/** What happened in a history, so that a test can tell whether enough did. */
export type HistoryCounts = {
  closings: number;
  calls: number;
  crashes: number;
  stops: number;
  outages: number;
  resends: number;
  repeated: number;
  abandoned: number;
  refusals: number;
};

export function emptyCounts(): HistoryCounts {
  return {
    closings: 0,
    calls: 0,
    crashes: 0,
    stops: 0,
    outages: 0,
    resends: 0,
    repeated: 0,
    abandoned: 0,
    refusals: 0,
  };
}

type Pair = {
  readonly closing: Closing;
  state: 'none' | 'running' | 'delivered' | 'failed' | 'lost';
  endedAt: number;
  calls: number;
  /** Failed attempts that count against the limit. */
  failures: number;
  wasDelivered: boolean;
  /** A crash may have taken its outcome, and is charged when the call is made again. */
  takenBy: Crash | undefined;
  /** Resends that were asked for and not seen. */
  credits: number;
  /** The filter may have kept it out. */
  mayBeFilteredOut: boolean;
};

/** What one crash took from one interface. */
type Crash = { readonly bound: number; repeated: number };

type Side = {
  external: ExternalInterface;
  readonly concurrency: number;
  readonly schedules: readonly Schedule[];
  readonly manual: Schedule;
  readonly destination: string;
  openingId: number | undefined;
  readonly pairs: Map<string, Pair>;
  running: number;
  /** Of these, those of orders that had failed before. */
  owedRunning: number;
  /** Asked for and not seen to end: such a run takes owed orders before they are due. */
  runsByHand: number;
  wasRunByHand: boolean;
  /** Calls that began, without those that ended executions have counted. */
  callsUncounted: number;
  lastFirst: number;
  wasResent: boolean;
  /** The filter was taken away, and an execution that began with it may still be running. */
  filterLingers: boolean;
  /** No call may start. */
  isShut: boolean;
  /** The store takes no progress of it, for a reason that no repetition mends. */
  isRefused: boolean;
};

/** One life of the engine; dead, it does nothing more, and nothing reaches it. */
type Life = { isAlive: boolean; engine: Engine; unsubscribe: () => void };

export class History {
  readonly counts = emptyCounts();
  readonly #seed: number;
  readonly #random: SeededRandom;
  readonly #store: Store;
  readonly #clock = new FakeClock();
  readonly #sides: Side[] = [];
  readonly #orders = new Map<string, { closing: Closing; isSale: boolean }>();
  /** What was done, for the message of a failure. */
  readonly #story: string[] = [];
  #institution!: Institution;
  #life: Life | undefined;
  #isAway = false;
  /** Since when commits failed, and from which commit on; until the second that succeeds, which has what ended while the first was tried again. */
  #behind: { readonly from: number; readonly since: number; until: number } | undefined;
  #crashInCommit: 'before' | 'after' | undefined;
  #calleeMood: 'good' | 'mixed' | 'bad' | 'refusing' | 'slow' | 'busy' | 'proxy' | 'poisoned' | 'short' =
    'good';
  #isPoisoned = false;
  #executions = 0;
  #nextOrderId = 1;
  #violation: string | undefined;

  constructor(seed: number, store: Store) {
    this.#seed = seed;
    this.#random = new SeededRandom(seed);
    this.#store = store;
  }

  /** @throws AssertionError with the seed and the story, when a promise was broken */
  async run(): Promise<void> {
    await this.#setUp();
    for (let left = this.#random.integer(STEPS.min, STEPS.max); left > 0; left -= 1) {
      await this.#step();
      await this.#pass();
    }
    await this.#drain();
    await this.#checkEnd();
    await this.#stop();
    for (const { external } of this.#sides) {
      await this.#store.deleteInterface(this.#institution.id, external.id, this.#clock.now());
    }
  }

  // ------------------------------------------------------------------------------------------------------- the world

  async #setUp(): Promise<void> {
    const now = this.#clock.now();
    const code = `H${this.#seed}`;
    this.#institution = await this.#store.createInstitution({
      code,
      name: code,
      timeZone: 'UTC',
      createdAt: now,
    });
    const count = this.#random.integer(1, 3);
    for (let index = 0; index < count; index += 1) this.#sides.push(await this.#createSide(index));
    // Nothing else goes wrong in such a history: what failed comes due while new orders close.
    this.#isPoisoned = this.#random.isTrue(0.15);
    if (this.#isPoisoned) this.#calleeMood = 'poisoned';
    await this.#start();
  }

  async #createSide(index: number): Promise<Side> {
    const random = this.#random;
    const { id } = this.#institution;
    const concurrency = random.integer(1, 4);
    const destination = `callee-${index}.example:443`;
    const external = await this.#store.createInterface(
      id,
      {
        ...INTERFACE,
        url: `https://callee-${index}.example/${index}/\${orderId}`,
        destination,
        concurrency,
        ...(random.isTrue(0.3) ? { filter: FILTER } : {}),
      },
      this.#clock.now(),
    );
    const schedule = async (more: Partial<Schedule>) =>
      (await this.#store.createSchedule(
        id,
        external.id,
        { name: 'x', launch: 'MANUAL', batchSize: random.integer(1, 12), ...more },
        this.#clock.now(),
      )) as Schedule;
    const manual = await schedule({});
    const schedules = [manual];
    if (random.isTrue(0.7)) schedules.push(await schedule({ launch: 'AUTOMATIC', frequencyMinutes: 0 }));
    if (random.isTrue(0.2)) schedules.push(await schedule({ launch: 'AUTOMATIC', frequencyMinutes: 1 }));
    const side: Side = {
      external,
      concurrency,
      schedules,
      manual,
      destination,
      openingId: undefined,
      pairs: new Map(),
      running: 0,
      owedRunning: 0,
      runsByHand: 0,
      wasRunByHand: false,
      callsUncounted: 0,
      lastFirst: 0,
      wasResent: false,
      filterLingers: false,
      isShut: false,
      isRefused: false,
    };
    await this.#open(side);
    return side;
  }

  async #step(): Promise<void> {
    const random = this.#random;
    if (!this.#life?.isAlive) {
      if (random.isTrue(0.3)) return this.#close();
      return this.#start();
    }
    const choice = this.#isPoisoned ? 0 : random.next();
    const side = random.pick(this.#sides);
    if (choice < 0.34) return this.#close();
    if (choice < 0.46) return this.#changeMood();
    if (choice < 0.58) return this.#runByHand(side);
    if (choice < 0.65) return this.#changeInterface(side, { active: !side.external.active });
    if (choice < 0.71) return this.#changeFilter(side);
    if (choice < 0.77) return this.#resend(side);
    if (choice < 0.8) return this.#turnOpening(side);
    if (choice < 0.87) return this.#turnOutage();
    if (choice < 0.9) return this.#crash();
    if (choice < 0.92) return this.#turnRefusal(side);
    if (choice < 0.96) {
      this.#crashInCommit = random.isTrue(0.5) ? 'before' : 'after';
      this.#tell(`crash ${this.#crashInCommit} the next commit`);
      return;
    }
    if (!this.#isAway) {
      await this.#stop();
      await this.#start();
    }
  }

  /** Some time: mostly as long as a few calls take, now and then long enough for timers of the engine. */
  async #pass(): Promise<void> {
    const random = this.#random;
    if (this.#isPoisoned && random.isTrue(0.5)) return this.#advance(random.integer(5_000, 15_000));
    const kind = random.next();
    await this.#advance(
      kind < 0.7
        ? random.integer(0, 60)
        : kind < 0.95
          ? random.integer(60, 2_000)
          : random.integer(2_000, 40_000),
    );
  }

  async #advance(ms: number): Promise<void> {
    await this.#clock.advance(ms);
    if (this.#violation !== undefined) this.#fail(this.#violation);
  }

  async #close(): Promise<void> {
    if (this.#isAway) return;
    const now = this.#clock.now();
    const orders = Array.from({ length: this.#random.integer(1, 9) }, () => {
      const orderId = this.#nextOrderId;
      this.#nextOrderId += 1;
      const isSale = this.#random.isTrue(0.6);
      const text = orderText(orderId, 'CLOSED', `,"orderType":"${isSale ? 'SALE' : 'RENEWAL'}"`);
      return { isSale, put: { ...readOrderDetails(text), institutionId: this.#institution.id } };
    });
    const stored = await this.#store.putOrders(
      orders.map(({ put }) => put),
      now,
    );
    for (const [index, { closing, orderId }] of stored.entries()) {
      assert.ok(closing);
      const { isSale } = orders[index] as (typeof orders)[number];
      this.#orders.set(orderId, { closing, isSale });
      for (const side of this.#sides) {
        side.pairs.set(orderId, {
          closing,
          state: 'none',
          endedAt: 0,
          calls: 0,
          failures: 0,
          wasDelivered: false,
          takenBy: undefined,
          credits: 0,
          mayBeFilteredOut: !isSale && (side.external.filter !== undefined || side.filterLingers),
        });
      }
    }
    this.counts.closings += stored.length;
    this.#tell(`close ${stored.map(({ orderId }) => orderId).join(' ')}`);
  }

  #changeMood(): void {
    this.#calleeMood = this.#random.pick([
      'good',
      'good',
      'mixed',
      'mixed',
      'bad',
      'refusing',
      'slow',
      'busy',
      'proxy',
      'poisoned',
      'short',
    ] as const);
    this.#tell(`callee is ${this.#calleeMood}`);
  }

  async #runByHand(side: Side): Promise<void> {
    // Now and then often enough that deliveries are abandoned.
    const runs = this.#random.isTrue(0.1) ? ATTEMPTS_DEFAULT + 1 : 1;
    if (runs > 1) this.#calleeMood = 'bad';
    for (let run = 0; run < runs; run += 1) {
      if (this.#isAway) return;
      this.#tell(`run ${side.external.id} by hand`);
      side.runsByHand += 1;
      side.wasRunByHand = true;
      await this.#store.requestRun(this.#institution.id, side.manual.id, this.#clock.now());
      if (runs > 1) await this.#advance(this.#random.integer(20, 200));
    }
  }

  async #changeInterface(side: Side, more: Partial<ExternalInterface>): Promise<void> {
    if (this.#isAway) return;
    const changed = { ...side.external, ...more };
    if (more.filter === undefined && 'filter' in more) delete (changed as { filter?: string }).filter;
    this.#tell(`interface ${side.external.id} active ${changed.active}, filter ${changed.filter ?? 'none'}`);
    const { id } = this.#institution;
    side.isShut = false;
    side.external = (await this.#store.updateInterface(
      id,
      side.external.id,
      () => ({ ...changed, destination: side.destination }),
      this.#clock.now(),
    )) as ExternalInterface;
    await this.#advance(0);
    // Before it had heard of the change it might have started a call; from now on it may not.
    side.isShut = !this.#isAway && (!side.external.active || side.openingId === undefined);
  }

  async #changeFilter(side: Side): Promise<void> {
    const filter = side.external.filter === undefined ? FILTER : undefined;
    if (filter === undefined) {
      side.filterLingers = true;
    } else {
      for (const [orderId, pair] of side.pairs) {
        if (!this.#orders.get(orderId)?.isSale) pair.mayBeFilteredOut = true;
      }
    }
    // Undefined must be able to take the filter away.
    await this.#changeInterface(side, { filter } as Partial<ExternalInterface>);
  }

  async #turnOpening(side: Side): Promise<void> {
    if (this.#isAway) return;
    if (side.openingId === undefined) return this.#open(side);
    this.#tell(`revoke the opening of ${side.external.id}`);
    const { openingId } = side;
    side.openingId = undefined;
    const given = { allowPrivate: false, decidedBy: 'test', decidedAt: this.#clock.now() };
    await this.#store.decideOpening(this.#institution.id, openingId, 'revoke', given);
    await this.#advance(0);
    side.isShut = !this.#isAway;
  }

  async #open(side: Side): Promise<void> {
    this.#tell(`open ${side.destination}`);
    const now = this.#clock.now();
    const { id } = this.#institution;
    const requested = { destination: side.destination, requestedAt: now, requestedBy: 'test' };
    const opening = await this.#store.requestOpening(id, requested);
    side.openingId = opening.id;
    side.isShut = !side.external.active;
    await this.#store.decideOpening(id, opening.id, 'open', {
      allowPrivate: false,
      decidedBy: 'test',
      decidedAt: now,
    });
  }

  async #resend(side: Side): Promise<void> {
    if (this.#isAway || this.#orders.size === 0) return;
    const ids = [...this.#orders.keys()];
    const chosen = this.#random.shuffle(ids).slice(0, this.#random.integer(1, 6));
    const selection = this.#random.pick<ResendSelection>([
      { kind: 'orders', orderIds: chosen },
      { kind: 'abandoned' },
      { kind: 'owed' },
      { kind: 'closed_between', from: 0, to: Number.MAX_SAFE_INTEGER },
    ]);
    this.#tell(`resend ${JSON.stringify(selection)} at ${side.external.id}`);
    this.counts.resends += 1;
    side.wasResent = true;
    for (const [orderId, pair] of side.pairs) {
      if (selection.kind !== 'orders' || selection.orderIds.includes(orderId)) pair.credits += 1;
    }
    await this.#store.requestResend(this.#institution.id, side.external.id, selection, this.#clock.now());
  }

  #turnOutage(): void {
    this.#isAway = !this.#isAway;
    this.#tell(this.#isAway ? 'the database is away' : 'the database is back');
    if (!this.#isAway) return;
    this.counts.outages += 1;
    // What is asked for now is not heard of; what was asked for before may not have been read yet.
    for (const side of this.#sides) side.isShut = false;
  }

  async #turnRefusal(side: Side): Promise<void> {
    side.isRefused = !side.isRefused;
    this.#tell(`the store ${side.isRefused ? 'refuses' : 'takes'} the progress of ${side.external.id}`);
    // Somebody who has mended it says so by a change; otherwise the interface rests.
    if (!side.isRefused) await this.#changeInterface(side, {});
  }

  // ------------------------------------------------------------------------------------------------------- the engine

  async #start(): Promise<void> {
    this.#tell('start');
    this.#isAway = false;
    this.#behind = undefined;
    const life: Life = { isAlive: true, engine: undefined as unknown as Engine, unsubscribe: () => {} };
    life.engine = createEngine({
      store: this.#storeOf(life),
      caller: { call: (request, _permission, onOutcome) => this.#call(life, request, onOutcome) },
      clock: this.#clockOf(life),
      random: this.#random.next,
      log: createLog('silent'),
      userAgent: 'Orderhook/test',
      onExecutionEnd: (end) => this.#executionEnded(life, end),
    });
    this.#life = life;
    const started = life.engine.start();
    // A crash in its first commit would leave it waiting for ever.
    await Promise.race([started, this.#advance(1)]);
    await this.#advance(0);
  }

  async #stop(): Promise<void> {
    const life = this.#life;
    if (!life?.isAlive) return;
    this.#tell('stop');
    this.counts.stops += 1;
    this.#crashInCommit = undefined;
    let hasStopped = false;
    void life.engine.stop().then(() => {
      hasStopped = true;
    });
    for (let turn = 0; !hasStopped; turn += 1) {
      if (turn > DRAIN_TURNS_MAX) this.#fail('the engine does not stop');
      await this.#advance(50);
    }
    this.#bury(life);
    for (const side of this.#sides) {
      if (side.running > 0) this.#fail('a call was running after the stop');
      side.lastFirst = 0;
      side.callsUncounted = 0;
    }
  }

  /** The process is gone from one moment to the next. */
  #crash(): void {
    const life = this.#life;
    if (!life?.isAlive) return;
    const now = this.#clock.now();
    this.#tell('crash');
    this.counts.crashes += 1;
    this.#bury(life);
    // While the database is away nothing can be committed, and no call starts: the window ends where that began, and
    // goes on where that was over.
    const { from, since, until } = this.#behind ?? { from: now, since: now, until: now };
    for (const side of this.#sides) {
      const running = [...side.pairs.values()].filter(({ state }) => state === 'running');
      const finished = [...side.pairs.values()].filter(
        ({ state, endedAt }) =>
          (state === 'delivered' || state === 'failed') && endedAt >= from - UNCOMMITTED_MS,
      );
      const inWindow = finished.filter(({ endedAt }) => endedAt <= since || endedAt >= until).length;
      const crash: Crash = { bound: side.concurrency + inWindow, repeated: 0 };
      for (const pair of [...running, ...finished]) pair.takenBy ??= crash;
      for (const pair of running) pair.state = 'lost';
      side.running = 0;
      side.owedRunning = 0;
      // One whose end was not committed is made again.
      if (side.wasRunByHand) side.runsByHand = Number.POSITIVE_INFINITY;
      side.lastFirst = 0;
      side.callsUncounted = 0;
    }
  }

  #bury(life: Life): void {
    life.isAlive = false;
    life.unsubscribe();
    this.#crashInCommit = undefined;
  }

  #clockOf(life: Life): Clock {
    return {
      now: this.#clock.now,
      after: (delayMs, action) => this.#clock.after(delayMs, () => life.isAlive && action()),
    };
  }

  /** The store as one process has it: away at times, slow to commit, and silent when the process is dead. */
  #storeOf(life: Life): EngineStore {
    const store = this.#store;
    const guard =
      <A extends unknown[], R>(method: (...args: A) => Promise<R>) =>
      async (...args: A): Promise<R> => {
        if (!life.isAlive) return NEVER;
        if (this.#isAway) throw away();
        const result = await method(...args);
        return life.isAlive ? result : NEVER;
      };
    return {
      engineInterfaces: guard(store.engineInterfaces),
      engineInterface: guard(store.engineInterface),
      reserveExecutionIds: guard(store.reserveExecutionIds),
      callTemplateId: guard(store.callTemplateId),
      owed: guard(store.owed),
      waiting: guard(store.waiting),
      endInterrupted: guard(store.endInterrupted),
      holdLeases: guard(store.holdLeases),
      releaseLeases: guard(store.releaseLeases),
      resendDeliveries: guard(store.resendDeliveries),
      removeOlderThan: guard(store.removeOlderThan),
      removeOrdersOlderThan: guard(store.removeOrdersOlderThan),
      giveRoomBack: guard(store.giveRoomBack),
      commitProgress: (progress, nodeId) =>
        this.#commit(life, progress, () => store.commitProgress(progress, nodeId)),
      subscribe: (listener) => {
        life.unsubscribe = store.subscribe((change) => life.isAlive && listener(change));
        return life.unsubscribe;
      },
    };
  }

  async #commit<R>(life: Life, progress: readonly Progress[], commit: () => Promise<R>): Promise<R> {
    if (!life.isAlive) return NEVER;
    if (this.#isAway) {
      const now = this.#clock.now();
      const { from, since } = this.#behind ?? { from: now, since: now };
      this.#behind = { from, since, until: Number.POSITIVE_INFINITY };
      throw away();
    }
    if (this.#crashInCommit === 'before') {
      this.#crash();
      return NEVER;
    }
    const askedAt = this.#clock.now();
    const commitMs = this.#random.integer(0, COMMIT_MS_MAX);
    await new Promise<void>((resolve) => this.#clock.after(commitMs, resolve));
    if (!life.isAlive) return NEVER;
    this.#refuse(progress, askedAt);
    const result = await commit();
    if (this.#behind?.until === Number.POSITIVE_INFINITY) this.#behind.until = this.#clock.now();
    else this.#behind = undefined;
    if (this.#crashInCommit !== 'after') return result;
    this.#crash();
    return NEVER;
  }

  /**
   * What such an interface did and could not store, it may do again: how much, is not promised for a bug of ours. What
   * it does not do again is found at the end.
   */
  #refuse(progress: readonly Progress[], askedAt: number): void {
    const sides = this.#sides.filter(
      ({ isRefused, external }) => isRefused && progress.some((one) => one.interfaceId === external.id),
    );
    if (sides.length === 0) return;
    this.counts.refusals += 1;
    const refusal: Crash = { bound: Number.POSITIVE_INFINITY, repeated: 0 };
    for (const side of sides) {
      this.#tell(`  refused ${side.external.id}`);
      // One whose end was not committed is made again.
      if (side.wasRunByHand) side.runsByHand = Number.POSITIVE_INFINITY;
      side.lastFirst = 0;
      for (const pair of side.pairs.values()) {
        const mayBeUnstored = pair.endedAt >= (this.#behind?.from ?? this.#clock.now()) - REFUSED_MS;
        if (pair.state === 'running' || (pair.state !== 'none' && mayBeUnstored)) pair.takenBy ??= refusal;
      }
    }
    // The others wait for their part of the commit; until calls notice that they must wait too, more of them end.
    if (progress.length > 1) {
      const [since, until] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
      this.#behind ??= { from: askedAt, since, until };
    }
    throw new Error('This progress is refused for good.');
  }

  // -------------------------------------------------------------------------------------------------------- the callee

  #call(life: Life, request: CallRequest, onOutcome: (outcome: Outcome) => void): void {
    if (!life.isAlive) return;
    const [, index, orderId] = new URL(request.url).pathname.split('/');
    const side = this.#sides[Number(index)] as Side;
    const pair = side.pairs.get(orderId as string) as Pair;
    this.#checkStart(side, pair);
    this.counts.calls += 1;
    const isOwed = pair.state === 'failed';
    pair.state = 'running';
    pair.calls += 1;
    side.running += 1;
    if (isOwed) side.owedRunning += 1;
    side.callsUncounted += 1;
    const { outcome, afterMs } = this.#answer(Number(orderId));
    this.#clock.after(afterMs, () => {
      if (!life.isAlive) return;
      side.running -= 1;
      if (isOwed) side.owedRunning -= 1;
      pair.state = outcome.delivered ? 'delivered' : 'failed';
      pair.endedAt = this.#clock.now();
      pair.wasDelivered ||= outcome.delivered;
      if (!outcome.delivered && costsAnAttempt(outcome.reason)) pair.failures += 1;
      onOutcome(outcome);
    });
  }

  #answer(orderId: number): { outcome: Outcome; afterMs: number } {
    const random = this.#random;
    const afterMs = random.integer(0, 30);
    switch (this.#calleeMood) {
      case 'good':
        return { outcome: answered(), afterMs };
      case 'mixed':
        return { outcome: random.isTrue(0.3) ? answered(500) : answered(), afterMs };
      case 'bad':
        return { outcome: answered(500), afterMs };
      case 'refusing':
        return { outcome: unanswered(random.pick(['refused', 'dns', 'timeout_connect'] as const)), afterMs };
      case 'slow':
        return { outcome: answered(), afterMs: random.isTrue(0.3) ? random.integer(1_000, 8_000) : afterMs };
      case 'busy':
        return {
          outcome: random.isTrue(0.3)
            ? answered(429, { 'retry-after': String(random.integer(1, 20)) })
            : answered(),
          afterMs,
        };
      case 'proxy':
        return { outcome: random.isTrue(0.5) ? unanswered('proxy') : answered(), afterMs };
      case 'poisoned':
        // The callee cannot bear some orders, and takes its time with them.
        return orderId % 3 === 0
          ? { outcome: unanswered('timeout_response'), afterMs: random.integer(500, 5_000) }
          : { outcome: answered(), afterMs };
      case 'short':
        return { outcome: random.isTrue(0.5) ? unanswered('local') : answered(), afterMs: 0 };
    }
  }

  // ---------------------------------------------------------------------------------------------------------- the judge

  #checkStart(side: Side, pair: Pair): void {
    const what = `order ${pair.closing.orderId} at interface ${side.external.id}`;
    this.#tell(`  call ${what}, ${pair.state}`);
    if (pair.state === 'running') this.#blame(`two calls of ${what} run at once`);
    if (side.running >= side.concurrency) this.#blame(`more than ${side.concurrency} calls run at once`);
    if (side.isShut) {
      this.#blame(`${what} was called though the interface is paused or has no opening`);
    }
    if (pair.calls === 0 && pair.credits === 0) {
      if (pair.closing.closingId < side.lastFirst) this.#blame(`${what} was called after a later closing`);
      side.lastFirst = pair.closing.closingId;
    }
    if (pair.state === 'failed' && !side.wasResent && pair.takenBy === undefined)
      this.#checkOwed(side, pair, what);
    const { takenBy } = pair;
    pair.takenBy = undefined;
    if (takenBy) {
      // A failed order is called again in any case, and so is one that is sent again: it cannot be told which this is.
      if (pair.state === 'failed' || pair.credits > 0) return;
      this.counts.repeated += 1;
      takenBy.repeated += 1;
      if (takenBy.repeated > takenBy.bound) {
        this.#blame(`${takenBy.repeated} calls were repeated after a crash, more than ${takenBy.bound}`);
      }
    } else if (pair.state === 'delivered') {
      if (pair.credits === 0) this.#blame(`${what} was delivered, and was called again without a crash`);
      pair.credits -= 1;
    }
  }

  /** A failed order is called again when it is due, or by hand, and while new ones wait it leaves them half of the room. */
  #checkOwed(side: Side, pair: Pair, what: string): void {
    // A crash may have taken the outcomes of some attempts.
    const isCounted = this.counts.crashes === 0 && this.counts.refusals === 0;
    const attempts = isCounted ? Math.max(pair.failures, 1) : 1;
    const dueAt = pair.endedAt + 0.9 * (RETRY_WAITS_MS[attempts - 1] ?? 0);
    if (side.runsByHand === 0 && this.#clock.now() < Math.floor(dueAt)) {
      this.#blame(`${what} was called again before it was due`);
    }
    // After a crash some of what was called once is read from the log again, as if it were new.
    if (!isCounted || this.counts.outages > 0) return;
    const isWaiting = ({ calls, mayBeFilteredOut, closing }: Pair) =>
      calls === 0 && !mayBeFilteredOut && closing.closedAt < this.#clock.now();
    const half = Math.max(1, Math.floor(side.concurrency / 2));
    if (side.owedRunning >= half && [...side.pairs.values()].some(isWaiting)) {
      this.#blame(`${what} was called though ${half} owed orders ran and new ones waited`);
    }
  }

  #executionEnded(life: Life, { record }: ExecutionEnd): void {
    if (!life.isAlive) return;
    this.#executions += 1;
    if (this.#executions === EXECUTIONS_MAX) this.#blame('one execution follows the other without work');
    const side = this.#sides.find(({ external }) => external.id === record.interfaceId) as Side;
    const { scheduleId, called } = record;
    if (record.trigger === 'MANUAL' && scheduleId === side.manual.id) side.runsByHand -= 1;
    const schedule = side.schedules.find(({ id }) => id === scheduleId);
    this.#tell(
      `  ${record.trigger} execution of ${side.external.id} ended ${record.status}, ${called} calls`,
    );
    const { delivered, failed } = record;
    if (called !== delivered + failed) this.#blame('a call was running when its execution had ended');
    if (schedule && called > schedule.batchSize) {
      this.#blame(`an execution made ${called} calls, more than ${schedule.batchSize}`);
    }
    // Calls of the next one may run already. A slice of a resend is not told.
    side.callsUncounted -= called;
    if (!side.wasResent && side.callsUncounted < side.running) {
      this.#blame(`executions counted ${side.running - side.callsUncounted} calls more than they made`);
    }
    side.filterLingers = false;
  }

  /** The callee answers everything, and whatever keeps calls away is taken away. */
  async #drain(): Promise<void> {
    this.#tell('drain');
    if (this.#isAway) this.#turnOutage();
    this.#crashInCommit = undefined;
    this.#calleeMood = 'good';
    if (!this.#life?.isAlive) await this.#start();
    for (const side of this.#sides) if (side.isRefused) await this.#turnRefusal(side);
    for (const side of this.#sides) {
      if (!side.external.active) await this.#changeInterface(side, { active: true });
      if (side.openingId === undefined) await this.#open(side);
    }
    // Calls that were slow, retries of the store, what a callee asked for with Retry-After.
    await this.#advance(45_000);
    for (let turn = 0; await this.#hasWork(); turn += 1) {
      if (turn > DRAIN_TURNS_MAX) this.#fail('the queues do not get empty');
      for (const side of this.#sides) {
        side.runsByHand += 1;
        side.wasRunByHand = true;
        await this.#store.requestRun(this.#institution.id, side.manual.id, this.#clock.now());
      }
      await this.#advance(turn < 20 ? 100 : 1_000);
    }
  }

  async #hasWork(): Promise<boolean> {
    const found = await this.#store.engineInterfaces(this.#institution.id);
    for (const { externalInterface, owed, resends, requestedRuns } of found) {
      const queue = await this.#store.queueFigures(this.#institution.id, externalInterface.id);
      if (owed > 0 || resends.length > 0 || requestedRuns.length > 0 || queue?.waiting !== 0) return true;
    }
    return this.#sides.some(({ running }) => running > 0);
  }

  async #checkEnd(): Promise<void> {
    const closings = [...this.#orders.values()].map(({ closing }) => closing);
    const states = new Map(
      (await this.#store.deliveriesOf(this.#institution.id, closings)).map((delivery) => [
        `${delivery.interfaceId}/${delivery.closingId}`,
        delivery.state,
      ]),
    );
    for (const side of this.#sides) {
      let abandoned = 0;
      for (const [orderId, pair] of side.pairs) {
        const state = states.get(`${side.external.id}/${pair.closing.closingId}`);
        if (state === 'ABANDONED') abandoned += 1;
        const isRight =
          (state === 'DELIVERED' && pair.wasDelivered) ||
          (state === 'ABANDONED' && pair.failures >= ATTEMPTS_DEFAULT) ||
          (state === 'FILTERED_OUT' && pair.mayBeFilteredOut);
        if (!isRight) this.#fail(`order ${orderId} at interface ${side.external.id} is lost: ${state}`);
      }
      this.counts.abandoned += abandoned;
      const queue = await this.#store.queueFigures(this.#institution.id, side.external.id);
      if (queue?.abandoned !== abandoned) {
        this.#fail(`${abandoned} deliveries are abandoned, and the queue says ${queue?.abandoned}`);
      }
    }
  }

  #tell(line: string): void {
    this.#story.push(`${this.#clock.now() % 10_000_000} ${line}`);
  }

  /** Inside of the engine nothing may be thrown: it is told at the next turn. */
  #blame(violation: string): void {
    this.#tell(`VIOLATION ${violation}`);
    this.#violation ??= violation;
  }

  #fail(violation: string): never {
    assert.fail(`History with seed ${this.#seed}: ${violation}\n${this.#story.slice(-200).join('\n')}`);
  }
}

function away(): AppError {
  return new AppError('store_unavailable', 'The database is away.');
}
