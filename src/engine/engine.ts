/**
 * The engine: a runner for every interface that this node holds, woken by what changes in the store.
 *
 * ```
 *   give back, hold leases ──> held: runner ──> executions
 *    ^   │                      lost, deleted, to be given back: the runner leaves, when its calls have ended
 *    └───┘ every `renewMs`, and when told of a change; one after the other
 * ```
 *
 * An interface has one runner at most, one that is leaving included: two would call the same orders.
 *
 * A failure that is not the database's, a bug of ours, stops the interface it belongs to and nothing else: its execution ends
 * ERROR, the log has the chain of causes, and it is tried again after a while, or at once when its settings change.
 *
 * It promises the rules of section 5 of the contract. It never looks at HTTP requests or pages: everything it is told
 * comes through the store.
 */
import { randomUUID } from 'node:crypto';
import type { Caller } from '../caller/caller.ts';
import { isStoreUnavailable } from '../model/app-error.ts';
import type { Clock } from '../model/clock.ts';
import type { Execution, InstitutionId, InterfaceId } from '../model/entities.ts';
import type { Log } from '../observe/log.ts';
import type {
  Change,
  EngineInterface,
  Fence,
  LeaseStore,
  Progress,
  QueueStore,
  ResendStore,
  Store,
} from '../store/store.ts';
import type { ExecutionEnd } from './execution.ts';
import { ExecutionIds } from './execution-ids.ts';
import { InterfaceRunner, type RunnerParts } from './interface-runner.ts';
import { Ledger } from './ledger.ts';
import { createLogReader, type LogReader } from './log-reader.ts';
import { Recorder } from './recorder.ts';
import { keepRetention, type UpkeepStore } from './retention.ts';
import { Shortage } from './shortage.ts';

export type EngineStore = QueueStore &
  LeaseStore &
  Pick<ResendStore, 'resendDeliveries'> &
  UpkeepStore &
  Pick<Store, 'subscribe'>;

/** How long an interface stays with a node that is not heard of, and how often a node is heard of. */
export type LeaseTimes = { readonly ttlMs: number; readonly renewMs: number };
/** One node alone has nobody to give its interfaces to: it looks at all of them again, for a change it was not told of. */
export const SOLE_NODE: LeaseTimes = { ttlMs: Number.POSITIVE_INFINITY, renewMs: 30_000 };
/** Of several nodes, one that dies is replaced within 10 s. */
export const MANY_NODES: LeaseTimes = { ttlMs: 6_000, renewMs: 1_500 };
/** This part of a lease before its end, no call starts: clocks are not read at the same moment. */
const LEASE_MARGIN = 0.2;

export type EngineParts = {
  readonly store: EngineStore;
  /** By default the store is read, and filters are asked, in this thread. */
  readonly reader?: LogReader | undefined;
  readonly caller: Pick<Caller, 'call'>;
  readonly clock: Clock;
  /** 0 … 1 */
  readonly random: () => number;
  readonly log: Log;
  readonly userAgent: string;
  readonly leases?: LeaseTimes;
  /** Call log, ended executions and passed closings are removed when they are older; undefined: never. */
  readonly retentionMs?: number | undefined;
  /** The details of orders that were last stored before are removed; undefined: never. */
  readonly orderRetentionMs?: number | undefined;
  readonly onExecutionEnd?: (end: ExecutionEnd) => void;
  /** Told when calls begin to wait because this machine is short of something, and when that is over. */
  readonly onShortage?: (isShort: boolean) => void;
};

export interface Engine {
  start(): Promise<void>;
  /**
   * Starts no new call from now on, lets those that run end, commits what came of them, and gives its interfaces back. When
   * `cut` is aborted it waits for no call any more: whoever aborts it has ended the calls.
   */
  stop(cut?: AbortSignal): Promise<void>;
  /**
   * Takes a slot of an interface's concurrency for a call outside of its queue, after a moment's wait if need be: resolves
   * with what gives it back. `full`: none became free. `elsewhere`: the interface is not worked by this node.
   */
  reserveSlot(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
  ): Promise<(() => void) | 'full' | 'elsewhere'>;
  readiness(): { readonly ready: boolean; readonly because?: string };
}

const RETRY_MS = 1_000;
/** How long a call outside of the queue waits for a slot. */
const SLOT_WAIT_MS = 1_000;
/** An interface that broke calls again what it could not commit: so it rests, twice as long each time. */
const BROKEN_MS_MIN = 60_000;
const BROKEN_MS_MAX = 60 * 60_000;
const STOPPED = 'The process was asked to end.';
const INTERRUPTED = 'The process ended while this ran; what it had not called stayed in the queue.';
const BROKEN =
  'A fault of Orderhook itself stopped the interface; nothing is lost, and the log of the process has the cause.';

/** An interface that stopped because of a fault of ours. */
type Broken = {
  /** It is tried again at this time, or when its settings are others than these. */
  readonly until: number;
  readonly waitMs: number;
  readonly updatedAt: number;
};

export function createEngine(parts: EngineParts): Engine {
  const { store, clock, log, leases = SOLE_NODE } = parts;
  const nodeId = randomUUID();
  const recorder = new Recorder({ store, nodeId, clock, log, onLost, onRefused });
  const shortage = new Shortage({ clock, log, onChange: parts.onShortage });
  const ids = new ExecutionIds(store);
  const runners = new Map<InterfaceId, { institutionId: InstitutionId; runner: InterfaceRunner }>();
  /** Runners that start no call any more, until their calls have ended and what came of these is committed, or refused. */
  const leaving = new Map<InterfaceId, Promise<void>>();
  /** Another node has room for these, and their runners have left. */
  const toGiveBack = new Set<InterfaceId>();
  const broken = new Map<InterfaceId, Broken>();
  let fences = new Map<InterfaceId, Fence>();
  let leasedUntil = 0;
  const runnerParts: RunnerParts = {
    store,
    caller: parts.caller,
    recorder,
    shortage,
    ids,
    reader: parts.reader ?? createLogReader(store),
    clock,
    random: parts.random,
    log,
    userAgent: parts.userAgent,
    leasedUntil: () => leasedUntil,
    onExecutionEnd: parts.onExecutionEnd ?? (() => {}),
    onBroken: (runner, error) => breakDown(runner, error),
  };
  const toLoad = new Set<InstitutionId | 'all'>();
  let loading: Promise<void> | undefined;
  let isRetrying = false;
  let stopping = false;
  const releasers: (() => void)[] = [];

  function onChange(change: Change): void {
    if (change.kind === 'configuration') return load(change.institutionId);
    if (change.kind !== 'closings') return;
    for (const { institutionId, runner } of runners.values()) {
      if (change.institutionIds.includes(institutionId)) runner.closingsArrived();
    }
  }

  /** Reads the settings again, of one institution or of all; one read at a time. */
  function load(what: InstitutionId | 'all'): void {
    if (stopping) return;
    toLoad.add(what);
    loading ??= loadWanted().finally(() => {
      loading = undefined;
    });
  }

  async function loadWanted(): Promise<void> {
    for (const what of toLoad) {
      toLoad.delete(what);
      try {
        await loadOnce(what === 'all' ? undefined : what);
      } catch (error) {
        log.error({ event: 'engine.load_failed', err: error }, 'the interfaces could not be read');
        retryLater();
      }
    }
  }

  /** One retry for all that failed: the longer the database is away, the more would there be. */
  function retryLater(): void {
    if (isRetrying) return;
    isRetrying = true;
    clock.after(RETRY_MS, () => {
      isRetrying = false;
      load('all');
    });
  }

  /** Never twice at once: what one renewal has found would be old for the other. */
  async function loadOnce(institutionId: InstitutionId | undefined): Promise<void> {
    await giveBack();
    await renew();
    const found = await store.engineInterfaces(institutionId);
    const alive = new Set(found.map(({ externalInterface }) => externalInterface.id));
    for (const config of found) await place(config);
    for (const [id, held] of runners) {
      if ((institutionId === undefined || held.institutionId === institutionId) && !alive.has(id)) drop(id);
    }
    if (institutionId !== undefined) return;
    for (const id of broken.keys()) if (!alive.has(id)) broken.delete(id);
  }

  async function renew(): Promise<void> {
    const asked = clock.now();
    const { held, excess } = await store.holdLeases(nodeId, leases.ttlMs);
    leasedUntil = asked + leases.ttlMs * (1 - LEASE_MARGIN);
    fences = new Map(held.map(({ interfaceId, fence }) => [interfaceId, fence]));
    for (const [id, { runner }] of runners) {
      if (fences.get(id) !== runner.fence) drop(id);
    }
    for (const id of excess) {
      dismiss(id, 'Another node has room for the interface.', () => toGiveBack.add(id));
    }
  }

  async function giveBack(): Promise<void> {
    if (toGiveBack.size === 0) return;
    const ids = [...toGiveBack];
    await store.releaseLeases(nodeId, ids);
    for (const id of ids) toGiveBack.delete(id);
  }

  async function place(config: EngineInterface): Promise<void> {
    const { id, institutionId } = config.externalInterface;
    const fence = fences.get(id);
    if (fence === undefined || leaving.has(id) || toGiveBack.has(id)) return;
    const held = runners.get(id);
    if (!held && rests(config)) return;
    try {
      if (held) return await held.runner.refresh(config);
      await store.endInterrupted(institutionId, id, INTERRUPTED, clock.now());
      const runner = await InterfaceRunner.create(runnerParts, config, fence);
      if (stopping) return;
      runners.set(id, { institutionId, runner });
      runner.wake();
    } catch (error) {
      if (isStoreUnavailable(error)) throw error;
      if (held) breakDown(held.runner, error);
      else noteBroken(config, error);
    }
  }

  /** Whether it broke, and neither is its rest over nor did anybody change it since. */
  function rests({ externalInterface: { id, updatedAt } }: EngineInterface): boolean {
    const before = broken.get(id);
    return before !== undefined && before.updatedAt === updatedAt && clock.now() < before.until;
  }

  function noteBroken({ externalInterface, institutionCode }: EngineInterface, error: unknown): void {
    const { id, updatedAt } = externalInterface;
    const now = clock.now();
    const before = broken.get(id);
    const isAgain = before !== undefined && now - before.until < BROKEN_MS_MAX;
    const waitMs = isAgain ? Math.min(2 * before.waitMs, BROKEN_MS_MAX) : BROKEN_MS_MIN;
    broken.set(id, { until: now + waitMs, waitMs, updatedAt });
    log.error(
      {
        event: 'interface.broken',
        institution: institutionCode,
        interfaceId: id,
        retryMs: waitMs,
        err: error,
      },
      'a fault of ours stopped one interface; all others go on',
    );
  }

  function breakDown(runner: InterfaceRunner, error: unknown): void {
    const { id, institutionId } = runner.config.externalInterface;
    // One that is leaving already starts nothing more.
    if (runners.get(id)?.runner !== runner) {
      log.error(
        { event: 'interface.broken', interfaceId: id, err: error },
        'a fault of ours while it was left',
      );
      return;
    }
    noteBroken(runner.config, error);
    dismiss(id, BROKEN, () => recordBreakdown(institutionId, runner), true);
  }

  /** Nothing else of the runner is committed any more, so that its last execution is on record goes a way of its own. */
  async function recordBreakdown(institutionId: InstitutionId, runner: InterfaceRunner): Promise<void> {
    const { id } = runner.config.externalInterface;
    try {
      const ledger = new Ledger(institutionId, id, runner.fence, 0);
      const last = runner.lastExecution;
      const broken = last?.status === 'ERROR' ? last : await executionThatBroke(runner.config);
      ledger.noteExecution(broken);
      const progress = ledger.take();
      if (progress) await store.commitProgress([progress], nodeId);
    } catch (error) {
      log.error(
        { event: 'interface.breakdown_untold', interfaceId: id, err: error },
        'its execution is not on record',
      );
    }
  }

  /** Where no execution was under way when it broke: under a schedule that works by itself, so that it is found there. */
  async function executionThatBroke({ externalInterface, schedules }: EngineInterface): Promise<Execution> {
    const { id: interfaceId, institutionId } = externalInterface;
    const schedule = schedules.find(({ launch }) => launch === 'AUTOMATIC') ?? schedules[0];
    const at = clock.now();
    return {
      id: await ids.take(),
      institutionId,
      interfaceId,
      ...(schedule && { scheduleId: schedule.id }),
      trigger: 'AUTOMATIC',
      startedAt: at,
      endedAt: at,
      status: 'ERROR',
      ...{ looked: 0, filteredOut: 0, called: 0, delivered: 0, failed: 0, abandoned: 0 },
      message: BROKEN,
    };
  }

  function drop(id: InterfaceId): void {
    dismiss(id, 'The interface was deleted, or another node holds it.');
  }

  /** Does nothing when it has no runner, or that is leaving already. `afterwards`: what follows when its runner has left. */
  function dismiss(id: InterfaceId, message: string, afterwards?: () => unknown, isError = false): void {
    const held = runners.get(id);
    if (!held) return;
    runners.delete(id);
    const left = held.runner.stop(message, isError).then(async () => {
      await recorder.flush();
      await afterwards?.();
      leaving.delete(id);
      // To give it back, or to begin anew under another lease.
      load(held.institutionId);
    });
    leaving.set(id, left);
  }

  /** Of a runner before this one when its fence is another. */
  function onLost(lost: readonly Pick<Progress, 'interfaceId' | 'fence'>[]): void {
    for (const { interfaceId, fence } of lost) {
      if (runners.get(interfaceId)?.runner.fence === fence) drop(interfaceId);
    }
  }

  /** The runner of before, or that of another lease, hears nothing of it. */
  function onRefused({ interfaceId, fence }: Progress, error: unknown): void {
    const runner = runners.get(interfaceId)?.runner;
    if (runner?.fence === fence) breakDown(runner, error);
    else
      log.error({ event: 'commit.refused', interfaceId, err: error }, 'the store does not take an outcome');
  }

  /** For leases, and for a change that nobody was told of. */
  function keepLooking(): void {
    const cancel = clock.after(leases.renewMs, () => {
      for (const { runner } of runners.values()) runner.closingsArrived();
      load('all');
      keepLooking();
    });
    releasers[0] = cancel;
  }

  function stopRunners(): Promise<unknown> {
    return Promise.all([...runners.values()].map(({ runner }) => runner.stop(STOPPED)));
  }

  async function begin(): Promise<void> {
    // What is told from here on is read after this.
    await undefined;
    keepLooking();
    releasers.push(store.subscribe(onChange));
    if (parts.retentionMs !== undefined) {
      const { retentionMs, orderRetentionMs } = parts;
      releasers.push(keepRetention({ store, clock, log, retentionMs, orderRetentionMs }));
    }
    await loadOnce(undefined);
  }

  return {
    async start() {
      loading = begin().finally(() => {
        loading = undefined;
      });
      await loading;
      for (const what of [...toLoad]) load(what);
    },

    async stop(cut) {
      stopping = true;
      for (const release of releasers) release();
      shortage.stop();
      // At once: settings may be on their way from a slow database, and no call starts meanwhile.
      const told = stopRunners();
      const ended = Promise.all([
        told,
        Promise.resolve(loading).then(() => Promise.all([stopRunners(), ...leaving.values()])),
      ]);
      try {
        await (cut ? Promise.race([ended, aborted(cut)]) : ended);
      } finally {
        await recorder.flush();
        await store.releaseLeases(nodeId);
      }
    },

    async reserveSlot(institutionId, interfaceId) {
      const held = runners.get(interfaceId);
      if (held?.institutionId !== institutionId) return 'elsewhere';
      const { runner } = held;
      if (!(await runner.reserveSlot(SLOT_WAIT_MS))) return 'full';
      return () => runner.giveBackSlot();
    },

    readiness() {
      if (shortage.because !== undefined)
        return {
          ready: false,
          because: `Calls wait, for want of something on this machine: ${shortage.because}`,
        };
      if (recorder.isBehind) return { ready: false, because: 'Outcomes wait to be committed.' };
      if (clock.now() >= leasedUntil)
        return { ready: false, because: 'The leases of this node were not renewed.' };
      return { ready: true };
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
