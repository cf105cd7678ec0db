/**
 * Works the queue of one interface: decides when an execution begins, and makes one at a time.
 *
 * ```
 *            wake: closings, a change of settings, a timer
 *  asleep ───────────────────────────────────────────────> is something due?
 *    ^                                                      │ a run asked for by hand
 *    │ no                                                   │ else a schedule whose time has come
 *    └──────────────────────────────────────────────────────┤ else a continuous schedule with work
 *                                                           v
 *                                                       execution ──> is something due? …
 * ```
 *
 * Nothing here is delayed by another interface: each has its own runner, and they share only the commit.
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
import { type ExecutionEnd, type ExecutionPlan, ExecutionRun, type WorkSource } from './execution.ts';
import type { ExecutionIds } from './execution-ids.ts';
import { Ledger } from './ledger.ts';
import type { LogReader } from './log-reader.ts';
import { QueueSource } from './queue-source.ts';
import type { Recorder } from './recorder.ts';
import { ResendSource } from './resend-source.ts';
import { BACK_OFF_MS_MAX, BACK_OFF_MS_MIN } from './retry.ts';
import { isInSeason, nextRunAt } from './schedule-times.ts';

export type RunnerParts = {
  readonly store: Pick<QueueStore, 'owed' | 'callTemplateId' | 'engineInterface'> &
    Pick<ResendStore, 'resendDeliveries'>;
  /** When the leases of this node end, if they are not renewed. */
  readonly leasedUntil: () => number;
  readonly caller: Pick<Caller, 'call'>;
  readonly recorder: Recorder;
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
/** A good execution that took longer is worth a line in the log. */
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
  readonly #parts: RunnerParts;
  readonly #ledger: Ledger;
  readonly #source: QueueSource;
  readonly fence: Fence;
  #config: EngineInterface;
  #target: CallTarget;
  #current: ExecutionRun | undefined;
  #lastExecution: Execution | undefined;
  #working: Promise<void> | undefined;
  #wanted = false;
  #stopping = false;
  #cancelTimer: (() => void) | undefined;
  /** Requested runs that were begun here: an older picture of the settings may still list them. */
  readonly #begunRequests = new Set<number>();
  /** When schedules ran, where that is newer than the settings' picture. */
  readonly #ranAt = new Map<number, number>();
  /** What was done of resends here, where that is newer than the settings' picture. */
  readonly #resends = new Map<ExecutionId, Pick<RequestedResend, 'sentUpTo' | 'execution'>>();
  /** A resend had its slice: the queue goes first now. */
  #queueFirst = false;
  #owedDueAt: number | undefined;
  #heldUntil: number | undefined;
  #backOff: { until: number; ms: number } | undefined;

  private constructor(parts: RunnerParts, config: EngineInterface, fence: Fence, target: CallTarget) {
    const { id, institutionId } = config.externalInterface;
    this.#parts = parts;
    this.#config = config;
    this.#target = target;
    this.fence = fence;
    this.#ledger = new Ledger(institutionId, id, fence, config.owed);
    this.#source = new QueueSource(parts.store, parts.reader, this.#ledger, config.cursor);
    this.#owedDueAt = config.owedDueAt;
    this.#heldUntil = config.heldUntil;
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
    if (JSON.stringify(targetSettings(before)) !== JSON.stringify(targetSettings(config))) {
      this.#target = await prepareTarget(this.#parts.store, config, this.#parts.userAgent);
      this.#backOff = undefined;
    }
    this.#current?.settingsChanged();
    this.wake();
  }

  closingsArrived(): void {
    this.#source.nudge();
    if (this.#config.schedules.some(isContinuous)) this.wake();
  }

  wake(): void {
    this.#wanted = true;
    if (this.#working || this.#stopping) return;
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
    await this.#working;
  }

  async #work(): Promise<void> {
    while (this.#wanted && !this.#stopping) {
      this.#wanted = false;
      try {
        for (let run = this.#nextRun(); run !== undefined && !this.#stopping; run = this.#nextRun()) {
          await this.#execute(run);
        }
        this.#sleep();
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
        this.#sleep(STORE_RETRY_MS);
      }
    }
    this.#source.dropReadAhead();
  }

  /** What is to be run now. */
  #nextRun(): Run | undefined {
    const { requestedRuns, schedules } = this.#config;
    const now = this.#parts.clock.now();
    if (now >= this.#parts.leasedUntil()) return undefined;
    for (const requested of requestedRuns) {
      const schedule = schedules.find(({ id }) => id === requested.scheduleId);
      if (schedule && !this.#begunRequests.has(requested.executionId)) return { schedule, requested };
    }
    const [resend] = this.#openResends();
    if (resend?.isCancelled) return { resend };
    if (!this.#target.active || this.#isHeld(now)) return undefined;
    for (const schedule of schedules) {
      const at = this.#nextTimedAt(schedule, now);
      if (at !== undefined && at <= now) return { schedule };
    }
    if ((this.#backOff?.until ?? 0) > now) return undefined;
    const schedule = schedules.find((one) => isContinuous(one) && isInSeason(one, now));
    const continuous = schedule && this.#hasContinuousWork(now) ? { schedule } : undefined;
    if (!resend || !this.#target.opening || (this.#queueFirst && continuous)) {
      this.#queueFirst = false;
      return continuous;
    }
    return { resend };
  }

  /** Those not ended here, as far as they are. */
  #openResends(): RequestedResend[] {
    return this.#config.resends
      .map((resend) => ({ ...resend, ...this.#resends.get(resend.executionId) }))
      .filter(({ execution }) => execution.endedAt === undefined);
  }

  #isHeld(now: number): boolean {
    return this.#heldUntil !== undefined && this.#heldUntil > now;
  }

  #hasContinuousWork(now: number): boolean {
    const owedIsDue = this.#ledger.owedCount > 0 && (this.#owedDueAt ?? 0) <= now;
    return owedIsDue || this.#source.mayHaveWaiting;
  }

  #lastRunAt(schedule: Schedule, now: number): number | undefined {
    const at = this.#ranAt.get(schedule.id) ?? schedule.lastRunAt;
    if (at === undefined || at <= now) return at;
    // The clock went back: count from now, or the schedule would stall until the clock is there again.
    this.#ranAt.set(schedule.id, now);
    return now;
  }

  async #execute(run: Run): Promise<void> {
    return 'resend' in run ? this.#resend(run.resend) : this.#runSchedule(run);
  }

  async #runSchedule({ schedule, requested }: ScheduledRun): Promise<void> {
    const { clock, recorder, ids } = this.#parts;
    const ledger = this.#ledger;
    const now = clock.now();
    const continuous = isContinuous(schedule) && requested === undefined;
    if (continuous && !this.#mustTakeOwed(true, now) && !(await this.#hasLog())) return;
    const plan: ExecutionPlan = {
      id: requested?.executionId ?? (await ids.take()),
      scheduleId: schedule.id,
      trigger: requested ? 'MANUAL' : 'AUTOMATIC',
      batchSize: schedule.batchSize,
      isFiltered: true,
      retries: this.#retries(schedule, now),
    };
    // What is owed is read from the store, so what is known of it here must be there.
    const takeOwed = this.#mustTakeOwed(continuous, now);
    const run = this.#createRun(plan, this.#source);
    if (!continuous) {
      ledger.noteExecution(run.record('RUNNING'));
      if (!requested) {
        ledger.noteRun(schedule.id, now);
        this.#ranAt.set(schedule.id, now);
      }
      recorder.note(ledger);
    }
    if (!continuous || takeOwed) await recorder.flush();
    if (requested) this.#begunRequests.add(requested.executionId);
    this.#source.begin({
      owed: takeOwed && (continuous ? { dueBy: now } : {}),
      filter: run.filterText,
    });
    const refusal = this.#refusal(now);
    if (refusal) run.stop(refusal, true);
    const end = await this.#make(run).catch((error: unknown) => {
      this.#lastExecution = run.record('ERROR', 'The queue could not be read.');
      ledger.noteExecution(this.#lastExecution);
      recorder.note(ledger);
      throw error;
    });
    ledger.noteExecution(end.record);
    recorder.note(ledger);
    if (!continuous || (takeOwed && ledger.owedCount > 0)) await recorder.flush();
    if (takeOwed || ledger.owedCount > 0) await this.#lookWhenOwedIsDue();
    this.#learn(end, refusal !== undefined, clock.now());
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
      resumed: isBegun || execution.looked > 0 ? execution : { ...execution, startedAt: clock.now() },
      retries: this.#config.schedules.some(isContinuous)
        ? { kind: 'ladder' }
        : { kind: 'next_execution', at: undefined },
    };
    const withDetails = isFiltered && this.#target.filter !== undefined;
    const source = new ResendSource(store, {
      institutionId: ledger.institutionId,
      executionId,
      sentUpTo,
      withDetails,
    });
    const run = this.#createRun(plan, source);
    if (resend.isCancelled) run.stop('It was cancelled.');
    // How far the queue is and how far the resend is go into different commits; what is owed is read from the store.
    ledger.noteExecution(run.record('RUNNING'));
    recorder.note(ledger);
    await recorder.flush();
    const end = await this.#make(run);
    const isEnded = end.isExhausted || resend.isCancelled;
    const record = isEnded ? end.record : run.record('RUNNING');
    ledger.noteExecution(record);
    recorder.note(ledger);
    await recorder.flush();
    this.#resends.set(executionId, {
      sentUpTo: ledger.resentUpTo(executionId) ?? sentUpTo,
      execution: record,
    });
    this.#queueFirst = true;
    await this.#lookWhenOwedIsDue();
    this.#learn(end, false, clock.now());
    if (isEnded) this.#tell(end);
  }

  #createRun(plan: ExecutionPlan, source: WorkSource): ExecutionRun {
    const { clock, random, caller, recorder, leasedUntil } = this.#parts;
    const ledger = this.#ledger;
    const target = () => this.#target;
    return new ExecutionRun(plan, {
      clock,
      random,
      caller,
      ledger,
      recorder,
      source,
      target,
      leasedUntil,
    });
  }

  async #make(run: ExecutionRun): Promise<ExecutionEnd> {
    this.#current = run;
    try {
      if (this.#stopping) run.stop('The process is ending.');
      return await run.run();
    } finally {
      this.#current = undefined;
    }
  }

  /** Whether the log has something to take; reads ahead. */
  async #hasLog(): Promise<boolean> {
    this.#source.begin({ owed: false, filter: this.#target.filter?.text });
    return this.#source.hasReadAhead || (await this.#source.refill());
  }

  #mustTakeOwed(onlyDue: boolean, now: number): boolean {
    if (this.#ledger.owedCount === 0) return false;
    return !onlyDue || (this.#owedDueAt ?? 0) <= now;
  }

  #retries(schedule: Schedule, now: number): ExecutionPlan['retries'] {
    if (this.#config.schedules.some(isContinuous)) return { kind: 'ladder' };
    const frequencyMs = (schedule.frequencyMinutes ?? 0) * 60_000;
    const at = schedule.launch === 'AUTOMATIC' ? nextRunAt(schedule, now) : undefined;
    return { kind: 'next_execution', at: at !== undefined && at <= now ? now + frequencyMs : at };
  }

  /** Why nothing may be called at all. */
  #refusal(now: number): string | undefined {
    if (!this.#target.active) return 'The interface is paused.';
    if (!this.#target.opening) return `There is no open proxy opening for ${this.#target.destination}.`;
    if (this.#isHeld(now)) {
      return `The callee asked to be left alone until ${new Date(this.#heldUntil as number).toISOString()}.`;
    }
    return undefined;
  }

  async #lookWhenOwedIsDue(): Promise<void> {
    if (this.#ledger.owedCount === 0) {
      this.#owedDueAt = undefined;
      return;
    }
    const { recorder, store } = this.#parts;
    await recorder.flush();
    const { id, institutionId } = this.#config.externalInterface;
    this.#owedDueAt = (await store.engineInterface(institutionId, id))?.owedDueAt;
  }

  #learn(end: ExecutionEnd, refused: boolean, now: number): void {
    if (end.heldUntil !== undefined) this.#heldUntil = end.heldUntil;
    if (end.unreachable || refused) {
      const ms = Math.min((this.#backOff?.ms ?? BACK_OFF_MS_MIN / 2) * 2, BACK_OFF_MS_MAX);
      this.#backOff = { until: now + ms, ms };
    } else if (end.answered) {
      this.#backOff = undefined;
    }
  }

  #tell(end: ExecutionEnd): void {
    this.#lastExecution = end.record;
    const { institutionId: _, endedAt = 0, ...record } = end.record;
    const durationMs = endedAt - record.startedAt;
    const line = {
      event: 'execution.ended',
      institution: this.#config.institutionCode,
      ...record,
      durationMs,
    };
    // A continuous schedule makes hundreds of executions a second while it drains a queue.
    const isRoutine =
      record.status === 'OK' && record.trigger === 'AUTOMATIC' && durationMs < SLOW_EXECUTION_MS;
    this.#parts.log[isRoutine ? 'debug' : 'info'](line);
    this.#parts.onExecutionEnd(end);
  }

  #sleep(delayMs?: number): void {
    if (this.#stopping) return;
    const { clock } = this.#parts;
    const now = clock.now();
    const wakeAt = delayMs === undefined ? this.#nextWakeAt(now) : now + delayMs;
    if (wakeAt === undefined) return;
    const wait = Math.min(Math.max(wakeAt - now, 0), SLEEP_MS_MAX);
    this.#cancelTimer?.();
    this.#cancelTimer = clock.after(wait, () => this.wake());
  }

  #nextWakeAt(now: number): number | undefined {
    // Without a lease nothing is to be done until it is renewed, and with that come the settings, which wake.
    if (!this.#target.active || now >= this.#parts.leasedUntil()) return undefined;
    const times: number[] = [];
    for (const schedule of this.#config.schedules) {
      const at = isContinuous(schedule)
        ? this.#nextContinuousAt(schedule, now)
        : this.#nextTimedAt(schedule, now);
      if (at !== undefined) times.push(Math.max(at, this.#heldUntil ?? 0));
    }
    if (this.#openResends().length > 0 && this.#target.opening) {
      times.push(Math.max(now, this.#heldUntil ?? 0, this.#backOff?.until ?? 0));
    }
    return times.length === 0 ? undefined : Math.min(...times);
  }

  #nextTimedAt(schedule: Schedule, now: number): number | undefined {
    return nextRunAt(schedule, this.#lastRunAt(schedule, now));
  }

  #nextContinuousAt(schedule: Schedule, now: number): number | undefined {
    if (schedule.end !== undefined && schedule.end <= now) return undefined;
    const owedAt = this.#ledger.owedCount > 0 ? (this.#owedDueAt ?? now) : undefined;
    const at = this.#source.mayHaveWaiting ? now : owedAt;
    return at === undefined ? undefined : Math.max(at, schedule.start ?? 0, this.#backOff?.until ?? 0);
  }
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
