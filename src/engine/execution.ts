/**
 * One run of a schedule: takes owed orders, then new closings, filters, calls, and notes what came of it.
 *
 * ```
 *  owed, log ──> take ──> filter ──> call (at most `concurrency` at once) ──> ledger ──> recorder
 *                 │         └ no: looked at, not called
 *                 └ ends when: nothing left, batch size reached, stopped
 * ```
 *
 * It never throws for what a callee does, never has two calls of one delivery running, and starts calls in order.
 */

import type { Caller } from '../caller/caller.ts';
import type { Clock } from '../model/clock.ts';
import type { Attempt, AttemptOutcome } from '../model/delivery.ts';
import type {
  Execution,
  ExecutionId,
  ExecutionStatus,
  ExecutionTrigger,
  ScheduleId,
} from '../model/entities.ts';
import { ATTEMPTS_MAX, CLOSINGS_LOOKED_AT_MAX, UNANSWERED_CALLS_MAX } from '../model/limits.ts';
import { costsAnAttempt, type Outcome } from '../model/outcome.ts';
import type { CallTarget } from './call-target.ts';
import type { Consequence, Delivery, Ledger } from './ledger.ts';
import type { Recorder } from './recorder.ts';
import { heldUntil, retryWaitMs } from './retry.ts';

export type ExecutionPlan = {
  readonly id: ExecutionId;
  /** Undefined for a resend. */
  readonly scheduleId: ScheduleId | undefined;
  readonly trigger: ExecutionTrigger;
  /** Calls at most. */
  readonly batchSize: number;
  readonly isFiltered: boolean;
  /** An execution that goes on: with the counts of what was done of it. */
  readonly resumed?: Execution;
  /** When an owed order is due again: after the ladder's wait, or with the next execution, at this time if it is known. */
  readonly retries:
    | { readonly kind: 'ladder' }
    | { readonly kind: 'next_execution'; readonly at: number | undefined };
};

/** Where deliveries come from, in the order in which they are to be called. */
export interface WorkSource {
  /** The next delivery; undefined: none is in memory. */
  next(): Delivery | undefined;
  /** Reads more; false when there are no more. */
  refill(): Promise<boolean>;
}

export type ExecutionParts = {
  readonly clock: Clock;
  readonly random: () => number;
  readonly caller: Pick<Caller, 'call'>;
  readonly ledger: Ledger;
  readonly recorder: Recorder;
  readonly source: WorkSource;
  /** The interface as it is now: URL, method and payload are those of the moment of the call. */
  readonly target: () => CallTarget;
  /** No call may start from this time on: another node may hold the interface then. */
  readonly leasedUntil: () => number;
};

type Count = 'looked' | 'filteredOut' | 'called' | 'delivered' | 'failed' | 'abandoned';

/** How an execution ended, beside its record. */
export type ExecutionEnd = {
  readonly record: Execution;
  /** The source has no more. */
  readonly isExhausted: boolean;
  /** At least one call was answered, whatever the answer. */
  readonly answered: boolean;
  /** Too many calls in a row without an answer. */
  readonly unreachable: boolean;
  /** The callee asked to be left alone until then. */
  readonly heldUntil: number | undefined;
};

export class ExecutionRun {
  readonly #plan: ExecutionPlan;
  readonly #parts: ExecutionParts;
  readonly #filter: CallTarget['filter'];
  readonly #startedAt: number;
  readonly #counts: { -readonly [K in Count]: number };
  /** What this run may still look at and call. */
  #looksLeft = CLOSINGS_LOOKED_AT_MAX;
  #callsLeft: number;
  #unansweredInARow = 0;
  #answered = false;
  #heldUntil: number | undefined;
  #stop: { message: string; isError: boolean } | undefined;
  #exhausted = false;
  #refilling = false;
  #pumping = false;
  #waitsForCommit = false;
  #finish: (() => void) | undefined;
  #fail: ((error: unknown) => void) | undefined;

  constructor(plan: ExecutionPlan, parts: ExecutionParts) {
    this.#plan = plan;
    this.#parts = parts;
    this.#filter = plan.isFiltered ? parts.target().filter : undefined;
    this.#startedAt = plan.resumed?.startedAt ?? parts.clock.now();
    const {
      looked = 0,
      filteredOut = 0,
      called = 0,
      delivered = 0,
      failed = 0,
      abandoned = 0,
    } = plan.resumed ?? {};
    this.#counts = { looked, filteredOut, called, delivered, failed, abandoned };
    this.#callsLeft = plan.batchSize;
  }

  /** The text of its filter. */
  get filterText(): string | undefined {
    return this.#filter?.text;
  }

  /** Rejects only when the store fails; then what was called is noted, and what was not is left as it was. */
  async run(): Promise<ExecutionEnd> {
    const done = new Promise<void>((resolve, reject) => {
      this.#finish = resolve;
      this.#fail = reject;
    });
    this.#pump();
    await done;
    return {
      record: this.record(this.#status(), this.#stop?.message),
      isExhausted: this.#exhausted,
      answered: this.#answered,
      unreachable: this.#unansweredInARow >= UNANSWERED_CALLS_MAX,
      heldUntil: this.#heldUntil,
    };
  }

  /** Starts no further call; those that run end as usual. */
  stop(message: string, isError = false): void {
    this.#stop ??= { message, isError };
    this.#pump();
  }

  /** The target may allow more or fewer calls now, or none. */
  settingsChanged(): void {
    this.#pump();
  }

  /** The execution as it stands. */
  record(status: ExecutionStatus, message?: string): Execution {
    const { ledger, clock } = this.#parts;
    return {
      id: this.#plan.id,
      institutionId: ledger.institutionId,
      interfaceId: ledger.interfaceId,
      ...(this.#plan.scheduleId === undefined ? {} : { scheduleId: this.#plan.scheduleId }),
      trigger: this.#plan.trigger,
      startedAt: this.#startedAt,
      ...(status === 'RUNNING' ? {} : { endedAt: clock.now() }),
      status,
      ...this.#counts,
      ...(message === undefined ? {} : { message }),
    };
  }

  #status(): ExecutionStatus {
    const { called, failed } = this.#counts;
    if (this.#stop?.isError || (called > 0 && failed === called)) return 'ERROR';
    return failed > 0 ? 'WARNING' : 'OK';
  }

  /** Starts what may be started. Called whenever something changed; never runs inside itself. */
  #pump(): void {
    if (this.#pumping || this.#refilling) return;
    this.#pumping = true;
    try {
      this.#startCalls();
    } catch (error) {
      this.#fail?.(error);
    } finally {
      this.#pumping = false;
    }
    if (!this.#refilling && this.#parts.ledger.runningCount === 0 && this.#mayEnd()) this.#finish?.();
  }

  #mayEnd(): boolean {
    return this.#stop !== undefined || this.#exhausted || this.#isFull();
  }

  #isFull(): boolean {
    return this.#callsLeft <= 0 || this.#looksLeft <= 0;
  }

  #startCalls(): void {
    const { clock, ledger, recorder, source, target, leasedUntil } = this.#parts;
    while (!this.#stop && !this.#exhausted && !this.#isFull()) {
      const now = target();
      if (ledger.runningCount >= now.concurrency) return;
      if (recorder.isBehind) return this.#waitForCommit();
      if (clock.now() >= leasedUntil())
        return this.#setStop('Another node may hold the interface now.', false);
      if (!now.active) return this.#setStop('The interface was paused.', false);
      if (!now.opening) return this.#setStop(`There is no open proxy opening for ${now.destination}.`, true);
      const delivery = source.next();
      if (!delivery) return this.#refill();
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

  #setStop(message: string, isError: boolean): void {
    this.#stop ??= { message, isError };
  }

  #waitForCommit(): void {
    if (this.#waitsForCommit) return;
    this.#waitsForCommit = true;
    this.#parts.recorder.whenCaughtUp(() => {
      this.#waitsForCommit = false;
      this.#pump();
    });
  }

  #refill(): void {
    this.#refilling = true;
    this.#parts.source.refill().then(
      (found) => {
        this.#refilling = false;
        if (!found) this.#exhausted = true;
        this.#pump();
      },
      (error: unknown) => {
        this.#refilling = false;
        this.#setStop('The queue could not be read.', true);
        if (this.#parts.ledger.runningCount === 0) this.#fail?.(error);
        else this.#pump();
      },
    );
  }

  #call(delivery: Delivery, target: CallTarget, allowPrivate: boolean): void {
    const { clock, caller, ledger } = this.#parts;
    this.#counts.called += 1;
    this.#callsLeft -= 1;
    ledger.started(delivery);
    const startedAt = clock.now();
    if (target.simulation) {
      this.#ended(delivery, startedAt, target, undefined);
      return;
    }
    caller.call(target.fill(delivery.orderId), { allowPrivate }, (outcome) => {
      this.#ended(delivery, startedAt, target, outcome);
      this.#pump();
    });
  }

  /** `outcome` undefined: simulated. */
  #ended(delivery: Delivery, startedAt: number, target: CallTarget, outcome: Outcome | undefined): void {
    const { ledger, recorder, clock } = this.#parts;
    const now = clock.now();
    if (outcome) this.#watch(outcome, now);
    const consequence = this.#consequence(delivery, outcome, now);
    const failure = outcome?.delivered === false ? outcome : undefined;
    // Of one shape, whatever came of it: there are many, and each waits for its commit.
    const attempt: Attempt & { callTemplateId: number } = {
      orderId: delivery.orderId,
      closingId: delivery.closingId,
      attempt: delivery.attempts + 1,
      executionId: this.#plan.id,
      trigger: this.#plan.trigger,
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
  #watch(outcome: Outcome, now: number): void {
    if (outcome.answer) {
      this.#answered = true;
      this.#unansweredInARow = 0;
    } else {
      this.#unansweredInARow += 1;
      if (this.#unansweredInARow >= UNANSWERED_CALLS_MAX) {
        this.#setStop(`${UNANSWERED_CALLS_MAX} calls in a row failed before any answer.`, true);
      }
    }
    const until = heldUntil(outcome, now);
    if (until !== undefined && until > (this.#heldUntil ?? 0)) {
      this.#heldUntil = until;
      this.#parts.ledger.noteHold(until);
      this.#setStop(`The callee asked to be left alone until ${new Date(until).toISOString()}.`, false);
    }
  }

  #consequence(delivery: Delivery, outcome: Outcome | undefined, now: number): Consequence {
    if (!outcome || outcome.delivered) return SETTLED;
    const attempts = delivery.attempts + (costsAnAttempt(outcome.reason) ? 1 : 0);
    if (attempts >= ATTEMPTS_MAX) return { kind: 'abandoned', attempts };
    const { retries } = this.#plan;
    const dueAt = retries.kind === 'ladder' ? now + retryWaitMs(attempts, this.#parts.random) : 0;
    return { kind: 'owed', attempts, dueAt };
  }

  #nextAttemptAt(consequence: Consequence): number | undefined {
    if (consequence.kind !== 'owed') return undefined;
    const { retries } = this.#plan;
    return retries.kind === 'ladder' ? consequence.dueAt : retries.at;
  }
}

const SETTLED: Consequence = { kind: 'settled' };

function attemptOutcome(outcome: Outcome | undefined, consequence: Consequence): AttemptOutcome {
  if (!outcome) return 'SIMULATED';
  if (outcome.delivered) return 'DELIVERED';
  return consequence.kind === 'abandoned' ? 'ABANDONED' : 'FAILED';
}
