/**
 * One run of a schedule: takes owed orders and new closings in turn, filters, calls, and notes what came of it.
 *
 * ```
 *  owed, log ──> take ──> filter ──> call (at most `concurrency` at once) ──> ledger ──> recorder
 *                 │         └ no: looked at, not called
 *                 │
 *   starting ─────┴── nothing left, batch size reached, stopped, yielded ──> ending ──its last call ends──> ended
 *       ^ └─ lingering: nothing left for now; closings that come within a second are its own
 * ```
 *
 * While it is ending the next execution of the interface may be starting: their calls share the concurrency, and no two
 * executions start calls at the same time. It never throws for what a callee does, never has two calls of one delivery
 * running, and starts calls in order.
 */
import type { Caller } from '../caller/caller.ts';
import { isStoreUnavailable } from '../model/app-error.ts';
import type { Clock } from '../model/clock.ts';
import type { Attempt, AttemptOutcome } from '../model/delivery.ts';
import type {
  Execution,
  ExecutionId,
  ExecutionStatus,
  ExecutionTrigger,
  ScheduleId,
} from '../model/entities.ts';
import { CLOSINGS_LOOKED_AT_MAX, UNANSWERED_CALLS_MAX } from '../model/limits.ts';
import { costsAnAttempt, type Outcome } from '../model/outcome.ts';
import type { CallTarget } from './call-target.ts';
import type { Consequence, Delivery, Ledger } from './ledger.ts';
import type { Reach } from './reach.ts';
import type { Recorder } from './recorder.ts';
import { heldUntil, retryWaitMs } from './retry.ts';
import type { Shortage } from './shortage.ts';
import type { Turns } from './turns.ts';
import type { WorkSource } from './work-source.ts';

/** [ours] Section 5: closings that come within this time belong to the continuous execution that waits for them. */
const LINGER_MS = 1_000;

export type ExecutionPlan = {
  readonly id: ExecutionId;
  /** Undefined for a resend. */
  readonly scheduleId: ScheduleId | undefined;
  readonly trigger: ExecutionTrigger;
  /** Calls at most. */
  readonly batchSize: number;
  readonly isFiltered: boolean;
  /** Under a continuous schedule: it waits for more closings when there are none left. */
  readonly lingers: boolean;
  /** An execution that goes on: with the counts of what was done of it. */
  readonly resumed?: Execution;
};

export type ExecutionParts = {
  readonly clock: Clock;
  readonly random: () => number;
  readonly caller: Pick<Caller, 'call'>;
  readonly ledger: Ledger;
  readonly recorder: Recorder;
  readonly shortage: Shortage;
  readonly reach: Reach;
  readonly turns: Turns;
  /** New closings, or the deliveries of a resend. */
  readonly fresh: WorkSource;
  /** What is owed; undefined for a resend. */
  readonly owed: WorkSource | undefined;
  /** The interface as it is now: URL, method and payload are those of the moment of the call. */
  readonly target: () => CallTarget;
  /** Calls that run outside of the queue and count into the concurrency. */
  readonly guestCount: () => number;
  /** No call may start from this time on: another node may hold the interface then. */
  readonly leasedUntil: () => number;
  readonly watcher: ExecutionWatcher;
};

/** Whoever has executions and must know at once what they meet. */
export type ExecutionWatcher = {
  /** A call has ended, so that there is room for another: of this execution, or of the one after it. */
  onCallEnded(): void;
  /** The callee asked to be left alone until then. */
  onHold(until: number): void;
  /** A delivery is owed, and due at this time. */
  onOwed(dueAt: number): void;
  /** When an order that is due at this time will be called by itself; undefined: nobody knows. */
  nextAttemptAt(dueAt: number): number | undefined;
  /** A fault of ours: nothing here can be relied on any more. */
  onFault(error: unknown): void;
};

type Count = 'looked' | 'filteredOut' | 'called' | 'delivered' | 'failed' | 'abandoned';

/** How an execution ended, beside its record. */
export type ExecutionEnd = {
  readonly record: Execution;
  /** Nothing was left to take. */
  readonly isExhausted: boolean;
};

export class ExecutionRun {
  /** Resolves when it has nothing more to start; rejects when the store could not be read. */
  readonly closed: Promise<void>;
  /** Resolves when its last call has ended after that. */
  readonly ended: Promise<ExecutionEnd>;
  readonly plan: ExecutionPlan;
  readonly #parts: ExecutionParts;
  readonly #filter: CallTarget['filter'];
  readonly #startedAt: number;
  readonly #counts: { -readonly [K in Count]: number };
  readonly #close = Promise.withResolvers<void>();
  readonly #end = Promise.withResolvers<ExecutionEnd>();
  /** What this run may still look at and call. */
  #looksLeft = CLOSINGS_LOOKED_AT_MAX;
  #callsLeft: number;
  #running = 0;
  #stop: { message: string; isError: boolean } | undefined;
  #isClosed = false;
  #isExhausted = false;
  #isUnreachable = false;
  #yields = false;
  /** Since when nothing is left to take. */
  #idleSince: number | undefined;
  #cancelLinger: (() => void) | undefined;
  #isPumping = false;
  #waitsForCommit = false;
  readonly #reading = new Set<WorkSource>();
  /** One function, so that whoever is asked to call it later keeps it once. */
  readonly #pumpLater = () => this.pump();

  constructor(plan: ExecutionPlan, parts: ExecutionParts) {
    this.plan = plan;
    this.#parts = parts;
    this.closed = this.#close.promise;
    this.ended = this.#end.promise;
    this.#filter = plan.isFiltered ? parts.target().filter : undefined;
    this.#startedAt = plan.resumed?.startedAt ?? parts.clock.now();
    const { looked = 0, filteredOut = 0, delivered = 0, failed = 0, abandoned = 0 } = plan.resumed ?? {};
    // Calls that ran when the process before this one ended are made again, and counted then.
    this.#counts = { looked, filteredOut, called: delivered + failed, delivered, failed, abandoned };
    this.#callsLeft = plan.batchSize;
  }

  /** The text of its filter. */
  get filterText(): string | undefined {
    return this.#filter?.text;
  }

  get startedAt(): number {
    return this.#startedAt;
  }

  /** Too many calls in a row failed before any answer. */
  get isUnreachable(): boolean {
    return this.#isUnreachable;
  }

  /** It has looked at something. */
  get hasLooked(): boolean {
    return this.#counts.looked > 0;
  }

  start(): void {
    this.pump();
  }

  /** Starts no further call; those that run end as usual. */
  stop(message: string, isError = false): void {
    this.#stop ??= { message, isError };
    this.pump();
  }

  /** Makes room for another execution: what it has not taken stays where it is. */
  yield(): void {
    this.#yields = true;
    this.pump();
  }

  /** The execution as it stands. */
  record(status: ExecutionStatus, message?: string): Execution {
    const { ledger, clock } = this.#parts;
    return {
      id: this.plan.id,
      institutionId: ledger.institutionId,
      interfaceId: ledger.interfaceId,
      ...(this.plan.scheduleId === undefined ? {} : { scheduleId: this.plan.scheduleId }),
      trigger: this.plan.trigger,
      startedAt: this.#startedAt,
      ...(status === 'RUNNING' ? {} : { endedAt: clock.now() }),
      status,
      ...this.#counts,
      ...(message === undefined ? {} : { message }),
    };
  }

  /**
   * Starts what may be started. To be called whenever something changed: settings, a slot that is free, closings that
   * arrived. It never runs inside itself.
   */
  pump(): void {
    if (this.#isPumping || this.#isClosed) return;
    this.#isPumping = true;
    try {
      this.#startCalls();
    } catch (error) {
      this.#fault(error);
    } finally {
      this.#isPumping = false;
    }
    if (this.#mayClose()) this.#closeNow();
  }

  #status(): ExecutionStatus {
    const { called, failed } = this.#counts;
    if (this.#stop?.isError || (called > 0 && failed === called)) return 'ERROR';
    return failed > 0 ? 'WARNING' : 'OK';
  }

  #mayClose(): boolean {
    if (this.#stop !== undefined || this.#yields || this.#isFull()) return true;
    if (!this.#hasNothingLeft()) {
      this.#idleSince = undefined;
      return false;
    }
    this.#isExhausted = true;
    return !this.plan.lingers || this.#hasLingered();
  }

  #isFull(): boolean {
    return this.#callsLeft <= 0 || this.#looksLeft <= 0;
  }

  #hasNothingLeft(): boolean {
    const { fresh, owed } = this.#parts;
    return fresh.isExhausted && owed?.isExhausted !== false && this.#reading.size === 0;
  }

  /** Whether nothing came for as long as it waits; a timer sees to it that this is asked again. */
  #hasLingered(): boolean {
    const { clock } = this.#parts;
    const now = clock.now();
    this.#idleSince ??= now;
    const left = this.#idleSince + LINGER_MS - now;
    if (left <= 0) return true;
    this.#cancelLinger ??= clock.after(left, () => {
      this.#cancelLinger = undefined;
      this.pump();
    });
    return false;
  }

  #closeNow(): void {
    this.#isClosed = true;
    this.#cancelLinger?.();
    this.#close.resolve();
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (!this.#isClosed || this.#running > 0) return;
    const record = this.record(this.#status(), this.#stop?.message);
    this.#end.resolve({ record, isExhausted: this.#isExhausted });
  }

  #startCalls(): void {
    const { clock, ledger, recorder, shortage, target, guestCount, leasedUntil } = this.#parts;
    while (this.#stop === undefined && !this.#yields && !this.#isFull()) {
      const now = target();
      if (ledger.runningCount + guestCount() >= now.concurrency) return;
      const source = this.#nextSource(now.concurrency);
      if (source === undefined) return;
      if (recorder.isBehind) return this.#waitForCommit();
      if (!shortage.hasRoom) return shortage.whenRoom(this.#pumpLater);
      if (clock.now() >= leasedUntil())
        return this.#setStop('Another node may hold the interface now.', false);
      if (!now.active) return this.#setStop('The interface was paused.', false);
      if (!now.opening) return this.#setStop(`There is no open proxy opening for ${now.destination}.`, true);
      const delivery = source.take();
      if (!delivery) return;
      this.#counts.looked += 1;
      this.#looksLeft -= 1;
      if (this.#filter && !delivery.passes(this.#filter)) {
        this.#counts.filteredOut += 1;
        ledger.passed(delivery);
        recorder.note(ledger);
      } else {
        this.#call(delivery, now, now.opening.allowPrivate);
      }
    }
  }

  /** Whose turn it is, of those that have something in memory; it reads what has not. */
  #nextSource(concurrency: number): WorkSource | undefined {
    const { fresh, owed, turns } = this.#parts;
    if (!fresh.isReady && !fresh.isExhausted) this.#refill(fresh);
    const isNewReady = fresh.isReady;
    if (owed === undefined || owed.isExhausted) return isNewReady ? fresh : undefined;
    if (!owed.isReady) {
      this.#refill(owed);
      // Under a continuous schedule a closing that just came does not wait for a read of the owed list.
      return isNewReady && this.plan.lingers ? fresh : undefined;
    }
    if (!isNewReady && fresh.isExhausted) return owed;
    if (turns.isOwedNext(concurrency, isNewReady)) return owed;
    return isNewReady ? fresh : undefined;
  }

  #setStop(message: string, isError: boolean): void {
    this.#stop ??= { message, isError };
  }

  #waitForCommit(): void {
    if (this.#waitsForCommit) return;
    this.#waitsForCommit = true;
    this.#parts.recorder.whenCaughtUp(() => {
      this.#waitsForCommit = false;
      this.pump();
    });
  }

  #refill(source: WorkSource): void {
    if (this.#reading.has(source)) return;
    this.#reading.add(source);
    source.refill().then(
      () => {
        this.#reading.delete(source);
        this.pump();
      },
      (error: unknown) => {
        this.#reading.delete(source);
        if (!isStoreUnavailable(error)) return this.#fault(error);
        this.#setStop('The queue could not be read.', true);
        this.#close.reject(error);
        this.pump();
      },
    );
  }

  #fault(error: unknown): void {
    this.#setStop('A fault of Orderhook itself stopped it.', true);
    this.#parts.watcher.onFault(error);
    if (!this.#isClosed) this.#closeNow();
  }

  #call(delivery: Delivery, target: CallTarget, allowPrivate: boolean): void {
    const { clock, caller, ledger, shortage, turns, watcher } = this.#parts;
    this.#counts.called += 1;
    this.#callsLeft -= 1;
    const isOwed = delivery.place === undefined;
    turns.begun(isOwed);
    ledger.started(delivery);
    const startedAt = clock.now();
    if (target.simulation) {
      turns.ended(isOwed);
      this.#ended(delivery, startedAt, target, undefined);
      return;
    }
    const request = target.fill(delivery.orderId);
    this.#running += 1;
    shortage.begun();
    try {
      caller.call(request, { allowPrivate }, (outcome) => {
        try {
          shortage.learn(outcome);
          this.#ended(delivery, startedAt, target, outcome);
        } catch (error) {
          // Thrown on from here it would end the thread, with all interfaces in it.
          this.#fault(error);
        }
        // Not before it is counted: what it came to may close the execution, which would end without it.
        this.#leave(isOwed);
        this.#endIfDone();
        watcher.onCallEnded();
      });
    } catch (error) {
      this.#leave(isOwed);
      throw error;
    }
  }

  #leave(isOwed: boolean): void {
    const { shortage, turns } = this.#parts;
    this.#running -= 1;
    turns.ended(isOwed);
    shortage.ended();
  }

  /** `outcome` undefined: simulated. */
  #ended(delivery: Delivery, startedAt: number, target: CallTarget, outcome: Outcome | undefined): void {
    const { ledger, recorder, clock } = this.#parts;
    const now = clock.now();
    if (outcome) this.#watch(outcome, delivery, target, now);
    const consequence = this.#consequence(delivery, target, outcome, now);
    const failure = outcome?.delivered === false ? outcome : undefined;
    // Of one shape, whatever came of it: there are many, and each waits for its commit.
    const attempt: Attempt & { callTemplateId: number } = {
      orderId: delivery.orderId,
      closingId: delivery.closingId,
      attempt: delivery.attempts + 1,
      executionId: this.plan.id,
      trigger: this.plan.trigger,
      startedAt,
      durationMs: outcome ? Math.round(outcome.durationMs) : 0,
      outcome: attemptOutcome(outcome, consequence),
      reason: failure?.reason,
      detail: failure?.detail,
      answer: outcome?.answer,
      nextAttemptAt: this.#nextAttemptAt(consequence),
      callTemplateId: target.callTemplateId,
    };
    if (!outcome || outcome.delivered) this.#counts.delivered += 1;
    else this.#counts.failed += 1;
    if (consequence.kind === 'abandoned') this.#counts.abandoned += 1;
    ledger.ended(delivery, attempt, consequence);
    recorder.note(ledger, 1);
  }

  /** What an outcome means for the calls that have not started yet. */
  #watch(outcome: Outcome, delivery: Delivery, target: CallTarget, now: number): void {
    const { reach, watcher } = this.#parts;
    // What another destination answers, or did not, says nothing of this one.
    if (!target.isSameDestination(this.#parts.target())) return;
    if (outcome.answer) reach.answered();
    else if (this.#countsAsUnanswered(outcome, delivery) && reach.unanswered()) {
      this.#isUnreachable = true;
      this.#setStop(`${UNANSWERED_CALLS_MAX} calls in a row failed before any answer.`, true);
    }
    const until = heldUntil(outcome, now);
    if (until !== undefined) watcher.onHold(until);
  }

  /** A few orders that the callee cannot bear stop nobody while others wait; what we could not send says nothing of it. */
  #countsAsUnanswered(outcome: Outcome, { place }: Delivery): boolean {
    if (outcome.delivered || outcome.reason === 'local') return false;
    const { fresh } = this.#parts;
    return place !== undefined || (!fresh.isReady && fresh.isExhausted);
  }

  #consequence(
    delivery: Delivery,
    { attemptsMax }: CallTarget,
    outcome: Outcome | undefined,
    now: number,
  ): Consequence {
    if (!outcome || outcome.delivered) return SETTLED;
    const attempts = delivery.attempts + (costsAnAttempt(outcome.reason) ? 1 : 0);
    if (attempts >= attemptsMax) return { kind: 'abandoned', attempts };
    return { kind: 'owed', attempts, dueAt: now + retryWaitMs(attempts, this.#parts.random) };
  }

  #nextAttemptAt(consequence: Consequence): number | undefined {
    if (consequence.kind !== 'owed') return undefined;
    const { watcher } = this.#parts;
    watcher.onOwed(consequence.dueAt);
    return watcher.nextAttemptAt(consequence.dueAt);
  }
}

const SETTLED: Consequence = { kind: 'settled' };

function attemptOutcome(outcome: Outcome | undefined, consequence: Consequence): AttemptOutcome {
  if (!outcome) return 'SIMULATED';
  if (outcome.delivered) return 'DELIVERED';
  return consequence.kind === 'abandoned' ? 'ABANDONED' : 'FAILED';
}
