/**
 * The ledger of one interface: which deliveries were started, what came of them, and what of it is not yet committed.
 *
 * It decides the cursor. Calls start in the order of the log and finish in any order, so the cursor goes to the newest
 * closing that is done, and those before it that are still running enter the owed list ("parked") with that commit.
 * A crash can then repeat only calls whose outcome was not committed, and loses none:
 *
 *     log     1   2   3   4   5   6   7 …
 *             done done running done running
 *                        │      ^ cursor
 *                        └ parked            5, 6 … are read again from the cursor
 */
import type { Filter } from '../filter/filter.ts';
import { Bag } from '../model/bag.ts';
import type { Attempt, ClosingId } from '../model/delivery.ts';
import type {
  Execution,
  ExecutionId,
  ExecutionStatus,
  InstitutionId,
  InterfaceId,
  ScheduleId,
} from '../model/entities.ts';
import { JsonText } from '../model/lossless-json.ts';
import type { OrderId } from '../model/order.ts';
import type { Fence, OwedDelivery, Position, Progress, ResendDelivery } from '../store/store.ts';
import type { LogPage } from './log-reader.ts';

/** A delivery that is to be made, wherever it came from. */
export class Delivery {
  readonly closingId: number;
  readonly orderId: string;
  /** Attempts made before. */
  readonly attempts: number;
  #details: string | undefined;
  #passes: boolean | undefined;
  /** Where it was read: in the log, in a resend, or, undefined, from the owed list. */
  readonly place: Place | undefined;
  /** Whether the owed list of the store has it, or will have with the next commit. */
  isOwed: boolean;
  /** Whether the list of abandoned deliveries has it. */
  isAbandoned: boolean;
  /** Order of start within the ledger. */
  sequence = 0;
  placeInBag: number | undefined = undefined;

  private constructor(
    from: { closingId: ClosingId; orderId: OrderId; details?: string },
    attempts: number,
    place: Place | undefined,
    list: 'owed' | 'abandoned' | undefined,
  ) {
    this.closingId = from.closingId;
    this.orderId = from.orderId;
    this.#details = from.details;
    this.attempts = attempts;
    this.place = place;
    this.isOwed = list === 'owed';
    this.isAbandoned = list === 'abandoned';
  }

  /** Whether the filter says yes: known of what was read in the log, asked once of everything else. */
  passes(filter: Pick<Filter, 'matchesDetails'>): boolean {
    if (this.#passes === undefined) {
      const details = this.#details;
      this.#details = undefined; // much memory, for as long as the call takes
      // An order whose details were removed passes, as it does when it is read from the log.
      this.#passes = details === undefined || filter.matchesDetails(new JsonText(details));
    }
    return this.#passes;
  }

  static fromLog({ closingIds, orderIds, positions, passes }: LogPage, index: number): Delivery {
    const from = { closingId: closingIds[index] as ClosingId, orderId: orderIds[index] as OrderId };
    const delivery = new Delivery(from, 0, { position: positions[index] as Position }, undefined);
    delivery.#passes = passes[index] as boolean;
    return delivery;
  }

  static fromOwed(owed: OwedDelivery): Delivery {
    return new Delivery(owed, owed.attempts, undefined, 'owed');
  }

  /** An abandoned delivery that is sent again begins to count anew. */
  static fromResend(executionId: ExecutionId, resent: ResendDelivery): Delivery {
    const attempts = resent.list === 'owed' ? resent.attempts : 0;
    return new Delivery(resent, attempts, { executionId, sentUpTo: resent.closingId }, resent.list);
  }
}

type Place =
  | { readonly position: Position }
  | { readonly executionId: ExecutionId; readonly sentUpTo: ClosingId };

/** What is to happen with a delivery after an attempt. */
export type Consequence =
  | { readonly kind: 'settled' }
  | { readonly kind: 'owed'; readonly attempts: number; readonly dueAt: number }
  | { readonly kind: 'abandoned'; readonly attempts: number };

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Pending = {
  settled: ClosingId[];
  resent: ClosingId[];
  owed: Map<ClosingId, Progress['owed'][number]>;
  abandoned: Mutable<Progress>['abandoned'][number][];
  attempts: (Attempt & { callTemplateId: number })[];
  executions: Map<number, Execution>;
  ranAt: Map<ScheduleId, { at: number; status: ExecutionStatus }>;
  heldUntil: number | null | undefined;
};

export class Ledger {
  readonly institutionId: InstitutionId;
  readonly interfaceId: InterfaceId;
  readonly #fence: Fence;
  readonly #running = new Bag<Delivery>();
  #pending: Pending = emptyPending();
  #isDirty = false;
  #sequence = 0;
  #newestDone: { sequence: number; place: Place } | undefined;
  #placeMoved = false;
  #owedCount: number;
  #touched: Set<ClosingId> | undefined;

  constructor(institutionId: InstitutionId, interfaceId: InterfaceId, fence: Fence, owedCount: number) {
    this.institutionId = institutionId;
    this.interfaceId = interfaceId;
    this.#fence = fence;
    this.#owedCount = owedCount;
  }

  /** Owed deliveries, counting what is not yet committed. */
  get owedCount(): number {
    return this.#owedCount;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /**
   * Keeps, until its end, the closings that run and those that begin to: what the store says of these is old. At most one
   * at a time.
   */
  watchTouched(): { readonly touched: ReadonlySet<ClosingId>; end(): void } {
    const touched = new Set(this.#running.items().map(({ closingId }) => closingId));
    this.#touched = touched;
    return {
      touched,
      end: () => {
        if (this.#touched === touched) this.#touched = undefined;
      },
    };
  }

  /** The closing up to which a resend is done, when it was the last that was worked. */
  resentUpTo(executionId: ExecutionId): ClosingId | undefined {
    const place = this.#newestDone?.place;
    return place && 'sentUpTo' in place && place.executionId === executionId ? place.sentUpTo : undefined;
  }

  /** Something waits to be committed. */
  get isDirty(): boolean {
    return this.#isDirty;
  }

  /** Attempts that wait to be committed. */
  get pendingAttempts(): number {
    return this.#pending.attempts.length;
  }

  /** A call begins. Deliveries from the log must come in the order of the log. */
  started(delivery: Delivery): void {
    this.#sequence += 1;
    delivery.sequence = this.#sequence;
    this.#running.add(delivery);
    this.#touched?.add(delivery.closingId);
  }

  /** The filter said no: done without a call. */
  passed(delivery: Delivery): void {
    this.#sequence += 1;
    delivery.sequence = this.#sequence;
    this.#done(delivery, { kind: 'settled' });
  }

  ended(delivery: Delivery, attempt: Attempt & { callTemplateId: number }, consequence: Consequence): void {
    this.#running.delete(delivery);
    this.#pending.attempts.push(attempt);
    this.#done(delivery, consequence);
  }

  /** The execution as it stands: replaces what was noted of it before. */
  noteExecution(execution: Execution): void {
    this.#pending.executions.set(execution.id, execution);
    this.#isDirty = true;
  }

  /** A schedule ran by itself at this time, and how it is with that run. */
  noteRun(scheduleId: ScheduleId, at: number, status: ExecutionStatus): void {
    this.#pending.ranAt.set(scheduleId, { at, status });
    this.#isDirty = true;
  }

  noteHold(until: number | null): void {
    this.#pending.heldUntil = until;
    this.#isDirty = true;
  }

  #done(delivery: Delivery, consequence: Consequence): void {
    this.#isDirty = true;
    const { closingId, orderId } = delivery;
    if (delivery.place !== undefined && delivery.sequence > (this.#newestDone?.sequence ?? 0)) {
      this.#newestDone = { sequence: delivery.sequence, place: delivery.place };
      this.#placeMoved = true;
    }
    if (delivery.isAbandoned) {
      this.#pending.resent.push(closingId);
      delivery.isAbandoned = false;
    }
    if (consequence.kind === 'owed') {
      const { attempts, dueAt } = consequence;
      this.#pending.owed.set(closingId, { closingId, orderId, attempts, dueAt });
      if (!delivery.isOwed) this.#owedCount += 1;
      delivery.isOwed = true;
      return;
    }
    if (delivery.isOwed) {
      this.#pending.settled.push(closingId);
      this.#owedCount -= 1;
      delivery.isOwed = false;
    }
    if (consequence.kind === 'abandoned') {
      this.#pending.abandoned.push({ closingId, orderId, attempts: consequence.attempts });
    }
  }

  /** What is to be committed now; afterwards the ledger is clean. Undefined when there is nothing. */
  take(): Progress | undefined {
    if (!this.#isDirty) return undefined;
    const newest = this.#placeMoved ? this.#newestDone : undefined;
    if (newest) {
      for (const delivery of this.#running.items()) {
        if (!delivery.isOwed && delivery.sequence < newest.sequence) this.#park(delivery);
      }
    }
    const { settled, resent, owed, abandoned, attempts, executions, ranAt, heldUntil } = this.#pending;
    this.#pending = emptyPending();
    this.#isDirty = false;
    this.#placeMoved = false;
    return {
      institutionId: this.institutionId,
      interfaceId: this.interfaceId,
      fence: this.#fence,
      ...(newest &&
        ('position' in newest.place ? { cursor: newest.place.position } : { resend: newest.place })),
      settled,
      resent,
      owed: [...owed.values()],
      abandoned,
      attempts,
      executions: [...executions.values()],
      ranAt: [...ranAt].map(([scheduleId, run]) => ({ scheduleId, ...run })),
      ...(heldUntil === undefined ? {} : { heldUntil }),
    };
  }

  #park(delivery: Delivery): void {
    const { closingId, orderId, attempts } = delivery;
    this.#pending.owed.set(closingId, { closingId, orderId, attempts, dueAt: 0 });
    this.#owedCount += 1;
    delivery.isOwed = true;
    if (delivery.isAbandoned) this.#pending.resent.push(closingId);
    delivery.isAbandoned = false;
  }
}

function emptyPending(): Pending {
  return {
    settled: [],
    resent: [],
    owed: new Map(),
    abandoned: [],
    attempts: [],
    executions: new Map(),
    ranAt: new Map(),
    heldUntil: undefined,
  };
}
