/**
 * Works the queue of one interface: decides when an execution begins, and lets one at a time start calls.
 *
 * ```
 *            wake: closings, a change of settings, a timer, the end of an execution
 *  asleep ─────────────────────────────────────────────────────────────────> is something due?
 *    ^                                                                        │ a run asked for by hand
 *    │ no                                                                     │ else a schedule whose time has come
 *    ├────────────────────────────────────────────────────────────────────────┤ else a slice of a resend
 *    │                                                                        │ else a continuous schedule with work
 *    │                                                                        v
 *    └── nothing is due <── it has nothing more to start <── one execution starts calls
 *                               │                              ^ anything else that falls due makes a continuous
 *                               v                                execution yield
 *                           its calls end: it is on record
 * ```
 *
 * Of an execution that has nothing more to start calls may still run; they share the concurrency with the next one. Only
 * a resend waits until none runs, because it reads lists which they change. Nothing here is delayed by another interface:
 * each has its own runner, and they share only the commit.
 */
import type { Caller } from '../caller/caller.ts';
import { isStoreUnavailable } from '../model/app-error.ts';
import type { Clock } from '../model/clock.ts';
import { type Execution, type ExecutionId, isContinuous, type Schedule } from '../model/entities.ts';
import type { Log } from '../observe/log.ts';
import type {
  EngineInterface,
  Fence,
  QueueStore,
  RequestedResend,
  RequestedRun,
  ResendStore,
} from '../store/store.ts';
import { type CallTarget, prepareTarget } from './call-target.ts';
import { type ExecutionEnd, type ExecutionPlan, ExecutionRun, type ExecutionWatcher } from './execution.ts';
import type { ExecutionIds } from './execution-ids.ts';
import { Ledger } from './ledger.ts';
import type { LogReader } from './log-reader.ts';
import { LogSource } from './log-source.ts';
import { OwedSource } from './owed-source.ts';
import { Reach } from './reach.ts';
import type { Recorder } from './recorder.ts';
import { ResendSource } from './resend-source.ts';
import { firstRunFrom, isInSeason, nextRunAt } from './schedule-times.ts';
import type { Shortage } from './shortage.ts';
import { Turns } from './turns.ts';
import type { WorkSource } from './work-source.ts';

export type RunnerParts = {
  readonly store: Pick<QueueStore, 'owed' | 'callTemplateId'> & Pick<ResendStore, 'resendDeliveries'>;
  /** When the leases of this node end, if they are not renewed. */
  readonly leasedUntil: () => number;
  readonly caller: Pick<Caller, 'call'>;
  readonly recorder: Recorder;
  readonly shortage: Shortage;
  readonly ids: ExecutionIds;
  readonly reader: LogReader;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  readonly userAgent: string;
  readonly onExecutionEnd: (end: ExecutionEnd) => void;
  /** A failure that is not the database's: the runner can do nothing any more. */
  readonly onBroken: (runner: InterfaceRunner, error: unknown) => void;
};

/** Looks again at least this often, so that a clock that jumped is noticed. */
const SLEEP_MS_MAX = 30_000;
const STORE_RETRY_MS = 1_000;
/** An execution that runs for longer is on record as RUNNING, with its counts as they were so long ago at most. */
const TELL_RUNNING_MS = 1_000;
/** A good execution of a schedule with a frequency that took longer is worth a line in the log. */
const SLOW_EXECUTION_MS = 1_000;

/** Calls of a resend before the queue has its turn again. */
const RESEND_SLICE = 500;

type ScheduledRun = {
  readonly schedule: Schedule;
  /** By hand, under the id that was given to whoever asked. */
  readonly requested?: RequestedRun;
};
type Run = ScheduledRun | { readonly resend: RequestedResend };

export class InterfaceRunner {
  readonly fence: Fence;
  readonly #parts: RunnerParts;
  readonly #ledger: Ledger;
  readonly #log: LogSource;
  readonly #owed: OwedSource;
  readonly #reach = new Reach();
  readonly #turns = new Turns();
  readonly #watcher: ExecutionWatcher;
  #config: EngineInterface;
  #target: CallTarget;
  /** The one that starts calls. */
  #current: ExecutionRun | undefined;
  /** Those that have nothing more to start, and whose calls have not all ended. */
  readonly #ending = new Set<ExecutionRun>();
  /** Those that the store has as RUNNING. */
  readonly #onRecord = new WeakSet<ExecutionRun>();
  #lastExecution: Execution | undefined;
  #working: Promise<void> | undefined;
  #wanted = false;
  #stopping = false;
  #cancelTimer: (() => void) | undefined;
  #cancelTelling: (() => void) | undefined;
  /** Requested runs that were begun here: an older picture of the settings may still list them. */
  readonly #begunRequests = new Set<ExecutionId>();
  /** When schedules ran, where that is newer than the settings' picture. */
  readonly #ranAt = new Map<number, number>();
  /** What was done of resends here, where that is newer than the settings' picture. */
  readonly #resends = new Map<ExecutionId, Pick<RequestedResend, 'sentUpTo' | 'execution'>>();
  /** A resend had its slice: the queue goes first now. */
  #queueFirst = false;
  /** When the next owed order is due; undefined: none is owed, or those that are run. */
  #owedDueAt: number | undefined;
  /** What the current execution takes of the owed orders: all that are due by this time, or, undefined, all. */
  #owedTaken: { readonly dueBy: number | undefined } | undefined;
  #heldUntil: number | undefined;
  /** When that was asked for: somebody may have lifted it since. */
  #heldSince: number;
  /** Calls outside of the queue that count into the concurrency. */
  #guests = 0;
  readonly #waitingGuests = new Set<() => void>();

  private constructor(parts: RunnerParts, config: EngineInterface, fence: Fence, target: CallTarget) {
    const { id, institutionId } = config.externalInterface;
    this.#parts = parts;
    this.#config = config;
    this.#target = target;
    this.fence = fence;
    this.#ledger = new Ledger(institutionId, id, fence, config.owed);
    this.#log = new LogSource(parts.reader, this.#ledger, config.cursor);
    const flush = () => parts.recorder.flush();
    this.#owed = new OwedSource({ store: parts.store, ledger: this.#ledger, flush });
    this.#owedDueAt = config.owed > 0 ? (config.owedDueAt ?? 0) : undefined;
    this.#heldUntil = config.heldUntil;
    this.#heldSince = parts.clock.now();
    this.#watcher = {
      onCallEnded: () => this.#callEnded(),
      onHold: (until) => this.#hold(until),
      onOwed: (dueAt) => this.#owedIsDueAt(dueAt),
      nextAttemptAt: (dueAt) => this.#nextAttemptAt(dueAt),
      onFault: (error) => parts.onBroken(this, error),
    };
  }

  static async create(parts: RunnerParts, config: EngineInterface, fence: Fence): Promise<InterfaceRunner> {
    return new InterfaceRunner(
      parts,
      config,
      fence,
      await prepareTarget(parts.store, config, parts.userAgent),
    );
  }

  /** The settings as they were last heard of. */
  get config(): EngineInterface {
    return this.#config;
  }

  /** The last one that ended here, as it is to be on record. */
  get lastExecution(): Execution | undefined {
    return this.#lastExecution;
  }

  /** The settings as they are now. They hold for the next call; a filter, for the next execution. */
  async refresh(config: EngineInterface): Promise<void> {
    const before = this.#config;
    this.#config = config;
    forgetOthers(this.#begunRequests, config.requestedRuns);
    forgetOthers(this.#resends, config.resends);
    if ((config.holdLiftedAt ?? 0) >= this.#heldSince) this.#liftHold();
    if (JSON.stringify(targetSettings(before)) !== JSON.stringify(targetSettings(config))) {
      const previous = this.#target;
      this.#target = await prepareTarget(this.#parts.store, config, this.#parts.userAgent);
      this.#reach.answered();
      if (!previous.isSameDestination(this.#target)) this.#liftHold();
      if (previous.filter?.text !== this.#target.filter?.text && this.#current?.plan.lingers)
        this.#current.yield();
    }
    this.#current?.pump();
    this.wake();
  }

  closingsArrived(): void {
    this.#log.nudge();
    if (this.#current !== undefined) this.#current.pump();
    else if (this.#config.schedules.some(isContinuous)) this.wake();
  }

  wake(): void {
    this.#wanted = true;
    if (this.#stopping) return;
    if (this.#working) return this.#makeRoom();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#working = this.#work().finally(() => {
      this.#working = undefined;
      // Woken between its last look and here.
      if (this.#wanted) this.wake();
    });
  }

  /** Starts no further call, and resolves when those that run have ended and their outcomes are noted. */
  async stop(message: string, isError = false): Promise<void> {
    this.#stopping = true;
    this.#cancelTimer?.();
    this.#current?.stop(message, isError);
    for (const tell of this.#waitingGuests) tell();
    await this.#working;
    await this.#allEnded();
    this.#cancelTelling?.();
  }

  /**
   * Takes a slot of the concurrency for a call outside of the queue, and waits for it as long as that: calls of the queue
   * that have not begun stand back. False when there was none; otherwise `giveBack` is to be called.
   */
  async reserveSlot(waitMs: number): Promise<boolean> {
    const { clock } = this.#parts;
    if (this.#stopping || this.#guests >= this.#target.concurrency) return false;
    this.#guests += 1;
    if (this.#slotsLeft() < 0) {
      const room = Promise.withResolvers<void>();
      const cancel = clock.after(waitMs, room.resolve);
      const look = () => {
        if (this.#stopping || this.#slotsLeft() >= 0) room.resolve();
      };
      this.#waitingGuests.add(look);
      await room.promise;
      this.#waitingGuests.delete(look);
      cancel();
    }
    if (this.#slotsLeft() >= 0 && !this.#stopping) return true;
    this.giveBackSlot();
    return false;
  }

  giveBackSlot(): void {
    this.#guests -= 1;
    this.#callEnded();
  }

  #slotsLeft(): number {
    return this.#target.concurrency - this.#ledger.runningCount - this.#guests;
  }

  async #work(): Promise<void> {
    while (this.#wanted && !this.#stopping) {
      this.#wanted = false;
      try {
        for (let run = this.#nextRun(); run !== undefined && !this.#stopping; run = this.#nextRun()) {
          await this.#execute(run);
        }
        this.#setTimer();
      } catch (error) {
        if (!isStoreUnavailable(error)) {
          this.#parts.onBroken(this, error);
          return;
        }
        const { id } = this.#config.externalInterface;
        this.#parts.log.error(
          { event: 'execution.broken', interfaceId: id, err: error },
          'the execution could not go on',
        );
        this.#setTimer(STORE_RETRY_MS);
      }
    }
    this.#log.dropReadAhead();
  }

  // --------------------------------------------------------------------------------------------------- what is due

  /** What is to be run now. */
  #nextRun(): Run | undefined {
    const now = this.#parts.clock.now();
    if (now >= this.#parts.leasedUntil()) return undefined;
    const other = this.#nextOther(now);
    if (other !== undefined) return this.#mayBegin(other) ? other : undefined;
    const schedule = this.#nextContinuous(now);
    this.#queueFirst = false;
    return schedule && { schedule };
  }

  /** What is due and is not continuous: it goes first. */
  #nextOther(now: number): Run | undefined {
    const { requestedRuns, schedules } = this.#config;
    for (const requested of requestedRuns) {
      const schedule = schedules.find(({ id }) => id === requested.scheduleId);
      if (schedule && !this.#begunRequests.has(requested.executionId)) return { schedule, requested };
    }
    const [resend] = this.#openResends();
    if (resend?.isCancelled) return { resend };
    if (!this.#target.active || this.#isHeld(now)) return undefined;
    for (const schedule of schedules) {
      const at = nextRunAt(schedule, this.#lastRunAt(schedule, now));
      if (at !== undefined && at <= now) return { schedule };
    }
    const isResendNext =
      resend !== undefined && this.#target.opening !== undefined && this.#reach.backOffUntil <= now;
    if (!isResendNext || (this.#queueFirst && this.#nextContinuous(now) !== undefined)) return undefined;
    return { resend };
  }

  /** The continuous schedule, when there is work for it. */
  #nextContinuous(now: number): Schedule | undefined {
    if (!this.#target.active || this.#isHeld(now) || this.#reach.backOffUntil > now) return undefined;
    const schedule = this.#config.schedules.find((one) => isContinuous(one) && isInSeason(one, now));
    return this.#isOwedDue(now) || !this.#log.isExhausted ? schedule : undefined;
  }

  /**
   * A resend begins when no call runs: it reads the lists that they change. Two batches that were asked for, or have their
   * time, follow each other: the callee was promised their size.
   */
  #mayBegin(run: Run): boolean {
    if ('resend' in run) return this.#ending.size === 0;
    return [...this.#ending].every(({ plan }) => plan.lingers);
  }

  /** Something fell due while an execution starts calls: one that goes on for as long as closings come makes room. */
  #makeRoom(): void {
    const { clock } = this.#parts;
    const current = this.#current;
    if (!current?.plan.lingers) return;
    if (this.#nextOther(clock.now()) !== undefined) current.yield();
    else if (this.#isOwedDue(clock.now())) this.#takeOwedNow(current);
    this.#setTimer();
  }

  /** Those not ended here, as far as they are. */
  #openResends(): RequestedResend[] {
    const { resends } = this.#config;
    if (resends.length === 0) return [];
    return resends
      .map((resend) => ({ ...resend, ...this.#resends.get(resend.executionId) }))
      .filter(({ execution }) => execution.endedAt === undefined);
  }

  #isHeld(now: number): boolean {
    return this.#heldUntil !== undefined && this.#heldUntil > now;
  }

  #isOwedDue(now: number): boolean {
    return this.#owedDueAt !== undefined && this.#owedDueAt <= now;
  }

  #lastRunAt(schedule: Schedule, now: number): number | undefined {
    const at = this.#ranAt.get(schedule.id) ?? schedule.lastRunAt;
    if (at === undefined || at <= now) return at;
    // The clock went back: count from now, or the schedule would stall until the clock is there again.
    this.#ranAt.set(schedule.id, now);
    return now;
  }

  #setTimer(delayMs?: number): void {
    if (this.#stopping) return;
    const { clock } = this.#parts;
    const now = clock.now();
    const wakeAt = delayMs === undefined ? this.#nextWakeAt(now) : now + delayMs;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (wakeAt === undefined) return;
    const wait = Math.min(Math.max(wakeAt - now, 0), SLEEP_MS_MAX);
    this.#cancelTimer = clock.after(wait, () => {
      this.#cancelTimer = undefined;
      this.wake();
    });
  }

  /** When something falls due of which nobody will tell. What waits for the end of a call is told of that. */
  #nextWakeAt(now: number): number | undefined {
    // Without a lease nothing is to be done until it is renewed, and with that come the settings, which wake.
    if (!this.#target.active || now >= this.#parts.leasedUntil()) return undefined;
    const held = this.#heldUntil ?? 0;
    const times: number[] = [];
    for (const schedule of this.#config.schedules) {
      const at = isContinuous(schedule)
        ? this.#nextContinuousAt(schedule, now)
        : nextRunAt(schedule, this.#lastRunAt(schedule, now));
      if (at !== undefined) times.push(Math.max(at, held));
    }
    if (this.#openResends().length > 0 && this.#target.opening) {
      times.push(Math.max(now, held, this.#reach.backOffUntil));
    }
    const wakeAt = times.length === 0 ? undefined : Math.min(...times);
    // Due already, and it did not begin: it waits for calls to end.
    return wakeAt !== undefined && wakeAt <= now && this.#ending.size > 0 ? undefined : wakeAt;
  }

  #nextContinuousAt(schedule: Schedule, now: number): number | undefined {
    const at = this.#log.isExhausted || this.#current !== undefined ? this.#owedDueAt : now;
    return at === undefined ? undefined : firstRunFrom(schedule, Math.max(at, this.#reach.backOffUntil));
  }

  // ----------------------------------------------------------------------------------------------------- executions

  async #execute(run: Run): Promise<void> {
    return 'resend' in run ? this.#resend(run.resend) : this.#runSchedule(run);
  }

  async #runSchedule({ schedule, requested }: ScheduledRun): Promise<void> {
    const { clock, recorder, ids } = this.#parts;
    const ledger = this.#ledger;
    const now = clock.now();
    const lingers = isContinuous(schedule) && requested === undefined;
    if (requested === undefined && !this.#isOwedDue(now) && !(await this.#hasLog())) {
      // It found nothing to look at: no row, but the schedule knows that it ran (contract, section 5).
      if (!lingers) this.#noteRun(schedule, now, 'OK');
      return;
    }
    const plan: ExecutionPlan = {
      id: requested?.executionId ?? (await ids.take()),
      scheduleId: schedule.id,
      trigger: requested ? 'MANUAL' : 'AUTOMATIC',
      batchSize: schedule.batchSize,
      isFiltered: true,
      lingers: lingers && this.#openResends().length === 0,
    };
    const run = this.#createRun(plan, this.#log, this.#owed);
    this.#log.begin(run.filterText);
    const takesOwed = requested === undefined ? this.#isOwedDue(now) : ledger.owedCount > 0;
    if (takesOwed) this.#beginOwed(requested === undefined ? now : undefined, run);
    else this.#owed.close();
    if (!lingers) {
      this.#reach.beginCounting();
      this.#noteRunning(run);
      if (requested === undefined) this.#noteRun(schedule, now, 'RUNNING');
      await recorder.flush();
    }
    if (requested) this.#begunRequests.add(requested.executionId);
    const refusal = this.#refusal(now);
    if (refusal) run.stop(refusal, true);
    await this.#make(run, (end) => this.#scheduleEnded(run, end, schedule));
    if (run.isUnreachable || (refusal !== undefined && lingers)) this.#reach.backOff(clock.now());
    await this.#lookWhenOwedIsDue();
  }

  #scheduleEnded(run: ExecutionRun, end: ExecutionEnd, schedule: Schedule): void {
    const { trigger, status, startedAt } = end.record;
    const isEmpty = trigger === 'AUTOMATIC' && status === 'OK' && !run.hasLooked;
    if (!isEmpty || this.#onRecord.has(run)) this.#ledger.noteExecution(end.record);
    if (trigger === 'AUTOMATIC') this.#noteRun(schedule, startedAt, status);
    this.#parts.recorder.note(this.#ledger);
    this.#tell(end);
  }

  /** One slice of a resend; between slices the queue has its turn. */
  async #resend(resend: RequestedResend): Promise<void> {
    const { clock, recorder, store } = this.#parts;
    const ledger = this.#ledger;
    const { executionId, sentUpTo, execution, isBegun, isFiltered } = resend;
    const plan: ExecutionPlan = {
      id: executionId,
      scheduleId: undefined,
      trigger: 'RESEND',
      batchSize: RESEND_SLICE,
      isFiltered,
      lingers: false,
      resumed: isBegun || execution.looked > 0 ? execution : { ...execution, startedAt: clock.now() },
    };
    const withDetails = isFiltered && this.#target.filter !== undefined;
    const source = new ResendSource(store, {
      institutionId: ledger.institutionId,
      executionId,
      sentUpTo,
      withDetails,
    });
    const run = this.#createRun(plan, source, undefined);
    if (resend.isCancelled) run.stop('It was cancelled.');
    this.#reach.beginCounting();
    // How far the queue is and how far the resend is go into different commits; the lists are read from the store.
    this.#noteRunning(run);
    await recorder.flush();
    await this.#make(run, (end) => {
      const isEnded = end.isExhausted || resend.isCancelled;
      const record = isEnded ? end.record : run.record('RUNNING');
      ledger.noteExecution(record);
      recorder.note(ledger);
      this.#resends.set(executionId, {
        sentUpTo: ledger.resentUpTo(executionId) ?? sentUpTo,
        execution: record,
      });
      if (isEnded) this.#tell(end);
    });
    await this.#allEnded();
    await recorder.flush();
    this.#queueFirst = true;
    if (run.isUnreachable) this.#reach.backOff(clock.now());
  }

  #createRun(plan: ExecutionPlan, fresh: WorkSource, owed: WorkSource | undefined): ExecutionRun {
    const { clock, random, caller, recorder, shortage, leasedUntil } = this.#parts;
    return new ExecutionRun(plan, {
      clock,
      random,
      caller,
      ledger: this.#ledger,
      recorder,
      shortage,
      reach: this.#reach,
      turns: this.#turns,
      fresh,
      owed,
      target: () => this.#target,
      guestCount: () => this.#guests,
      leasedUntil,
      watcher: this.#watcher,
    });
  }

  /** Resolves when it has nothing more to start; `onEnd` follows when its last call has ended. */
  async #make(run: ExecutionRun, onEnd: (end: ExecutionEnd) => void): Promise<void> {
    this.#current = run;
    this.#ending.add(run);
    void run.ended
      .then((end) => {
        this.#ending.delete(run);
        this.#lastExecution = end.record;
        onEnd(end);
        this.wake();
      })
      .catch((error: unknown) => this.#parts.onBroken(this, error));
    this.#keepTelling();
    // While it starts calls, other things may fall due.
    if (run.plan.lingers) this.#setTimer();
    try {
      if (this.#stopping) run.stop('The process is ending.');
      run.start();
      await run.closed;
    } finally {
      this.#current = undefined;
    }
  }

  async #allEnded(): Promise<void> {
    await Promise.all([...this.#ending].map(({ ended }) => ended));
  }

  /** Whether the log has something to take; reads ahead. */
  async #hasLog(): Promise<boolean> {
    this.#log.begin(this.#target.filter?.text);
    while (!this.#log.isReady && !this.#log.isExhausted) await this.#log.refill();
    return this.#log.isReady;
  }

  /** Why nothing may be called at all. */
  #refusal(now: number): string | undefined {
    if (!this.#target.active) return 'The interface is paused.';
    if (!this.#target.opening) return `There is no open proxy opening for ${this.#target.destination}.`;
    return this.#isHeld(now) ? askedToWait(this.#heldUntil as number) : undefined;
  }

  // ---------------------------------------------------------------------------------------------------- what is owed

  /** `dueBy` undefined: all of it. */
  #beginOwed(dueBy: number | undefined, { filterText }: ExecutionRun): void {
    const withDetails = filterText !== undefined;
    this.#owed.begin({ ...(dueBy === undefined ? {} : { dueBy }), withDetails });
    this.#owedTaken = { dueBy };
    this.#owedDueAt = undefined;
  }

  /** More fell due while a continuous execution starts calls. */
  #takeOwedNow(current: ExecutionRun): void {
    if (!this.#owed.isExhausted) return; // it is not through with what was due before
    this.#beginOwed(this.#parts.clock.now(), current);
    current.pump();
  }

  #owedIsDueAt(dueAt: number): void {
    if (this.#owedDueAt !== undefined && this.#owedDueAt <= dueAt) return;
    this.#owedDueAt = dueAt;
    if (this.#current?.plan.lingers) this.#setTimer();
  }

  /** After an execution that took owed orders: what it left of them is due now, and what is due later is looked up. */
  async #lookWhenOwedIsDue(): Promise<void> {
    if (this.#owedTaken === undefined) return;
    const { dueBy } = this.#owedTaken;
    const isAllTaken = this.#owed.isExhausted;
    this.#owed.close();
    this.#owedTaken = undefined;
    if (!isAllTaken) {
      this.#owedDueAt = 0;
      return;
    }
    if (dueBy === undefined || this.#ledger.owedCount === 0) return;
    const { institutionId, interfaceId } = this.#ledger;
    const after = { dueAt: dueBy, closingId: Number.MAX_SAFE_INTEGER };
    const [next] = await this.#parts.store.owed(institutionId, interfaceId, {
      after,
      limit: 1,
      withDetails: false,
    });
    if (next !== undefined) this.#owedIsDueAt(next.dueAt);
  }

  #nextAttemptAt(dueAt: number): number | undefined {
    const from = Math.max(dueAt, this.#heldUntil ?? 0);
    const times = this.#config.schedules
      .map((schedule) => firstRunFrom(schedule, from))
      .filter((at) => at !== undefined);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  // ------------------------------------------------------------------------------------------ while executions run

  #callEnded(): void {
    for (const look of this.#waitingGuests) look();
    this.#current?.pump();
  }

  #hold(until: number): void {
    if (until <= (this.#heldUntil ?? 0)) return;
    this.#heldUntil = until;
    this.#heldSince = this.#parts.clock.now();
    this.#ledger.noteHold(until);
    this.#parts.recorder.note(this.#ledger);
    this.#current?.stop(askedToWait(until));
  }

  #liftHold(): void {
    if (this.#heldUntil === undefined) return;
    this.#heldUntil = undefined;
    this.#ledger.noteHold(null);
    this.#parts.recorder.note(this.#ledger);
  }

  #noteRunning(run: ExecutionRun): void {
    this.#onRecord.add(run);
    this.#ledger.noteExecution(run.record('RUNNING'));
    this.#parts.recorder.note(this.#ledger);
  }

  #noteRun({ id }: Schedule, at: number, status: Execution['status']): void {
    this.#ranAt.set(id, Math.max(at, this.#ranAt.get(id) ?? 0));
    this.#ledger.noteRun(id, at, status);
    this.#parts.recorder.note(this.#ledger);
  }

  /** An execution that takes its time is on record as RUNNING, so that nobody wonders why nothing is logged yet. */
  #keepTelling(): void {
    const { clock } = this.#parts;
    this.#cancelTelling ??= clock.after(TELL_RUNNING_MS, () => {
      this.#cancelTelling = undefined;
      const now = clock.now();
      for (const run of this.#ending) {
        if (now - run.startedAt >= TELL_RUNNING_MS && run.hasLooked) this.#noteRunning(run);
      }
      if (this.#ending.size > 0) this.#keepTelling();
    });
  }

  #tell(end: ExecutionEnd): void {
    const { institutionId: _, endedAt = 0, ...record } = end.record;
    const durationMs = endedAt - record.startedAt;
    const line = {
      event: 'execution.ended',
      institution: this.#config.institutionCode,
      ...record,
      durationMs,
    };
    // A continuous schedule makes hundreds of executions a second while it drains a queue, and waits a second in its last.
    const schedule = this.#config.schedules.find(({ id }) => id === record.scheduleId);
    const isRoutine =
      record.status === 'OK' &&
      record.trigger === 'AUTOMATIC' &&
      ((schedule !== undefined && isContinuous(schedule)) || durationMs < SLOW_EXECUTION_MS);
    this.#parts.log[isRoutine ? 'debug' : 'info'](line);
    this.#parts.onExecutionEnd(end);
  }
}

function askedToWait(until: number): string {
  return `The callee asked to be left alone until ${new Date(until).toISOString()}.`;
}

/** Keeps what is remembered of executions that the settings still list. */
function forgetOthers(
  remembered: { keys(): Iterable<ExecutionId>; delete(id: ExecutionId): boolean },
  listed: readonly { readonly executionId: ExecutionId }[],
): void {
  const ids = new Set(listed.map(({ executionId }) => executionId));
  for (const id of remembered.keys()) if (!ids.has(id)) remembered.delete(id);
}

function targetSettings({ externalInterface, opening }: EngineInterface) {
  return [externalInterface, opening ?? null];
}
