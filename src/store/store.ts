/**
 * What Orderhook keeps, as one contract for every database.
 *
 * Each method is one atomic step: when its promise resolves, what it wrote is on disk (SQLite `synchronous=FULL`,
 * PostgreSQL `synchronous_commit=on`). No connection, row or transaction leaks out. A method that cannot reach the
 * database, or finds the disk full, rejects with AppError `store_unavailable` and has changed nothing.
 *
 * Nothing of one institution is ever given for another: every lookup by id takes the institution as well.
 *
 * `test/store-contract.ts` is the suite that every implementation passes.
 */
import type {
  Attempt,
  AttemptOutcome,
  Closing,
  ClosingId,
  Delivery,
  LoggedAttempt,
  QueueFigures,
} from '../model/delivery.ts';
import type {
  ApiKey,
  Execution,
  ExecutionId,
  ExecutionStatus,
  ExternalInterface,
  Institution,
  InstitutionId,
  InterfaceId,
  InterfaceSettings,
  OpeningDecision,
  Partner,
  ProxyOpening,
  Schedule,
  ScheduleId,
  ScheduleSettings,
} from '../model/entities.ts';
import type { OrderDetails, OrderId } from '../model/order.ts';

/** `cursor` is what `next` of the page before said. */
export type PageRequest = { readonly limit: number; readonly cursor?: string };
export type Page<T> = { readonly items: readonly T[]; readonly next?: string };

/** What somebody else changed, so that nobody has to poll. Told after the commit; may be told twice or, rarely, be lost. */
export type Change =
  | { readonly kind: 'closings'; readonly institutionIds: readonly InstitutionId[] }
  /** An interface, schedule or proxy opening changed, or a run was asked for. */
  | { readonly kind: 'configuration'; readonly institutionId: InstitutionId }
  | { readonly kind: 'executions_ended'; readonly executionIds: readonly ExecutionId[] };

export interface Store
  extends InstitutionStore,
    OrderStore,
    InterfaceStore,
    ScheduleStore,
    OpeningStore,
    PartnerStore,
    ApiKeyStore,
    QueueStore,
    LeaseStore,
    ResendStore,
    CallLogStore,
    RetentionStore {
  /** Rejects with the reason when the database cannot do its work right now. */
  check(): Promise<void>;
  /**
   * For how long closings that are committed cannot be read yet, because an older transaction of the database still
   * writes. A lower bound; 0 when nothing holds them back, and always where there is one writer.
   */
  horizonLagMs(): Promise<number>;
  subscribe(listener: (change: Change) => void): () => void;
  close(): Promise<void>;
}

export interface InstitutionStore {
  /** @throws AppError `conflict` when the code is taken. */
  createInstitution(
    given: Pick<Institution, 'code' | 'name' | 'timeZone' | 'createdAt'>,
  ): Promise<Institution>;
  institutions(page: PageRequest): Promise<Page<Institution>>;
  institutionByCode(code: string): Promise<Institution | undefined>;
  institutionById(id: InstitutionId): Promise<Institution | undefined>;
}

export type OrderPut = OrderDetails & { readonly institutionId: InstitutionId };
export type OrderStored = {
  readonly orderId: OrderId;
  readonly orderState: string;
  /** The closing that this made; absent when the order was closed before or is not closed. */
  readonly closing?: Closing;
};
export type OrderClosed = {
  readonly closing: Closing;
  readonly alreadyClosed: boolean;
};
export type StoredOrder = Omit<OrderDetails, 'details'> & {
  /** Absent when they were removed. */
  readonly details?: string;
  readonly updatedAt: number;
  readonly removedAt?: number;
};
export type OrderQuery = PageRequest & { readonly state?: string; readonly orderId?: OrderId };

export interface OrderStore {
  /** Stores all in one commit, in the given order; one answer for each. `closedAt` is the time of the closings it makes. */
  putOrders(puts: readonly OrderPut[], closedAt: number): Promise<OrderStored[]>;
  /** Undefined when the order is unknown; so is one, that is not closed, whose details were removed. */
  closeOrder(
    institutionId: InstitutionId,
    orderId: OrderId,
    closedAt: number,
  ): Promise<OrderClosed | undefined>;
  order(institutionId: InstitutionId, orderId: OrderId): Promise<StoredOrder | undefined>;
  /**
   * Removes its details, and what callees answered about it from the call log; the order, its state, closings, deliveries and
   * outcomes stay. What was stored of it is overwritten, where the database can do that. False when the order is unknown.
   * Storing it again brings details, and no closing when it was closed.
   */
  removeOrder(institutionId: InstitutionId, orderId: OrderId, now: number): Promise<boolean>;
  /** By order id, greatest first, without details. */
  orders(
    institutionId: InstitutionId,
    query: OrderQuery,
  ): Promise<Page<Omit<StoredOrder, 'details'> & { readonly lastClosedAt?: number }>>;
  /** Of one order, newest first, at most `limit`. */
  closingsOf(institutionId: InstitutionId, orderId: OrderId, limit: number): Promise<Closing[]>;
  /** How far each interface is with each of these closings of one order. */
  deliveriesOf(institutionId: InstitutionId, closings: readonly Closing[]): Promise<Delivery[]>;
}

/** What is kept of an interface as somebody sets it. */
export type KeptInterfaceSettings = InterfaceSettings & { readonly destination: string };

export interface InterfaceStore {
  /** Its queue begins with the closings after this moment. */
  createInterface(
    institutionId: InstitutionId,
    settings: KeptInterfaceSettings,
    now: number,
  ): Promise<ExternalInterface>;
  interfaces(institutionId: InstitutionId, page: PageRequest): Promise<Page<ExternalInterface>>;
  interfaceById(institutionId: InstitutionId, id: InterfaceId): Promise<ExternalInterface | undefined>;
  /**
   * Replaces all settings by what `change` makes of those that are there, in one step: nobody else changes them in between.
   * `change` is pure, since it may be asked again; what it throws is thrown, and nothing has changed. Another URL or method
   * ends a hold: the one who asked for it was another. Undefined when there is none.
   */
  updateInterface(
    institutionId: InstitutionId,
    id: InterfaceId,
    change: (current: ExternalInterface) => KeptInterfaceSettings,
    now: number,
  ): Promise<ExternalInterface | undefined>;
  /**
   * Its schedules and queue go too; its call log stays until retention. `check` sees it as it is then, and may throw. False
   * when there is none.
   */
  deleteInterface(
    institutionId: InstitutionId,
    id: InterfaceId,
    now: number,
    check?: (current: ExternalInterface) => void,
  ): Promise<boolean>;
  /** Ends any hold that a callee asked for before `now`. False when there is no such interface. */
  liftHold(institutionId: InstitutionId, id: InterfaceId, now: number): Promise<boolean>;
  queueFigures(institutionId: InstitutionId, id: InterfaceId): Promise<QueueFigures | undefined>;
}

export interface ScheduleStore {
  /** Undefined when there is no such interface. */
  createSchedule(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    settings: ScheduleSettings,
    now: number,
  ): Promise<Schedule | undefined>;
  schedules(
    institutionId: InstitutionId,
    interfaceId: InterfaceId | undefined,
    page: PageRequest,
  ): Promise<Page<Schedule>>;
  scheduleById(institutionId: InstitutionId, id: ScheduleId): Promise<Schedule | undefined>;
  /** As `updateInterface` does. */
  updateSchedule(
    institutionId: InstitutionId,
    id: ScheduleId,
    change: (current: Schedule) => ScheduleSettings,
    now: number,
  ): Promise<Schedule | undefined>;
  /** `check` sees it as it is then, and may throw. False when there is none. */
  deleteSchedule(
    institutionId: InstitutionId,
    id: ScheduleId,
    check?: (current: Schedule) => void,
  ): Promise<boolean>;
  /** Asks for one run by hand; the engine makes it as soon as the interface is free. Undefined when there is no schedule. */
  requestRun(institutionId: InstitutionId, id: ScheduleId, now: number): Promise<Execution | undefined>;
  /** Newest first. */
  executions(
    institutionId: InstitutionId,
    scheduleId: ScheduleId,
    page: PageRequest,
  ): Promise<Page<Execution>>;
  executionById(institutionId: InstitutionId, id: ExecutionId): Promise<Execution | undefined>;
}

export interface OpeningStore {
  /** @throws AppError `conflict` when one for the destination is requested or open. */
  requestOpening(
    institutionId: InstitutionId,
    given: Pick<ProxyOpening, 'destination' | 'reason' | 'requestedAt' | 'requestedBy'>,
  ): Promise<ProxyOpening>;
  openings(institutionId: InstitutionId, page: PageRequest): Promise<Page<ProxyOpening>>;
  /** The open one for a destination. */
  openOpening(institutionId: InstitutionId, destination: string): Promise<ProxyOpening | undefined>;
  /**
   * To open an open one again gives it another `allowPrivate`.
   * @throws AppError `conflict` when its state does not allow the decision. Undefined when there is none.
   */
  decideOpening(
    institutionId: InstitutionId,
    id: number,
    decision: OpeningDecision,
    given: { readonly allowPrivate: boolean; readonly decidedBy: string; readonly decidedAt: number },
  ): Promise<ProxyOpening | undefined>;
}

export interface PartnerStore {
  /** @throws AppError `conflict` when the institution has this partner with this operator. */
  createPartner(given: Omit<Partner, 'id'>): Promise<Partner>;
  partners(institutionId: InstitutionId, page: PageRequest): Promise<Page<Partner>>;
  /** Of every institution: who signs as `partner` for `operator`. */
  partnersNamed(partner: string, operator: string): Promise<Partner[]>;
  deletePartner(institutionId: InstitutionId, id: number): Promise<boolean>;
  /** A sealed secret of whichever partner; undefined: there is none. To see whether a key opens what is there. */
  anySealedSecret(): Promise<string | undefined>;
}

export interface ApiKeyStore {
  /** `keyHash`: SHA-256 of the key, 32 bytes. */
  createApiKey(given: Omit<ApiKey, 'id'> & { readonly keyHash: Uint8Array }): Promise<ApiKey>;
  apiKeys(page: PageRequest): Promise<Page<ApiKey>>;
  apiKeyByHash(keyHash: Uint8Array): Promise<ApiKey | undefined>;
  deleteApiKey(id: number): Promise<boolean>;
  /** Whether some key, expired or not, is an administrator's. */
  hasAdministrator(): Promise<boolean>;
}

/**
 * A place in an institution's log of closings: everything up to it has been looked at. Only the store reads it; others
 * keep it and hand it back.
 */
declare const position: unique symbol;
export type Position = { readonly [position]: true };

/** What the engine must know of one interface to run it. */
export type EngineInterface = {
  readonly institutionCode: string;
  readonly externalInterface: ExternalInterface;
  readonly schedules: readonly Schedule[];
  /** The open proxy opening of its destination; undefined: nothing may be called. */
  readonly opening?: { readonly allowPrivate: boolean };
  /** Runs by hand that were asked for and not yet made, oldest first. */
  readonly requestedRuns: readonly RequestedRun[];
  /** Resends that are not finished, oldest first. */
  readonly resends: readonly RequestedResend[];
  readonly cursor: Position;
  readonly owed: number;
  /** When the next owed order is due, in a continuous schedule. */
  readonly owedDueAt?: number;
  readonly heldUntil?: number;
  /** When somebody last lifted such a hold: one that was asked for before is over. */
  readonly holdLiftedAt?: number;
};
export type RequestedResend = {
  readonly executionId: ExecutionId;
  readonly isBegun: boolean;
  /** The last closing up to which all were sent again; 0: none yet. */
  readonly sentUpTo: ClosingId;
  readonly isCancelled: boolean;
  /** With the counts of what was done of it so far. */
  readonly execution: Execution;
  /** Whether the filter decides again. */
  readonly isFiltered: boolean;
};
export type RequestedRun = { readonly executionId: ExecutionId; readonly scheduleId: ScheduleId };

/** A closing that is to be looked at. */
export type WaitingClosing = {
  readonly closingId: ClosingId;
  readonly orderId: OrderId;
  readonly position: Position;
  /** Present when asked for. The OrderDetailsData as JSON text. */
  readonly details?: string;
};
/** A delivery whose call failed, or was running when the process ended. */
export type OwedDelivery = {
  readonly closingId: ClosingId;
  readonly orderId: OrderId;
  /** Attempts made so far. */
  readonly attempts: number;
  readonly dueAt: number;
  /** Absent when they were not asked for, or were removed. */
  readonly details?: string;
};
export type OwedQuery = {
  /** Only what is due at this moment; undefined: all, however long they have to wait. */
  readonly dueBy?: number;
  /** Continue after this one of the page before. */
  readonly after?: Pick<OwedDelivery, 'dueAt' | 'closingId'>;
  readonly limit: number;
  readonly withDetails: boolean;
};

/** What one interface has done since the last commit; all of it is committed together or not at all. */
export type Progress = {
  readonly institutionId: InstitutionId;
  readonly interfaceId: InterfaceId;
  /** Of the lease under which it was done. */
  readonly fence: Fence;
  /** The new cursor; undefined leaves it. */
  readonly cursor?: Position;
  /** Delivered, simulated or abandoned deliveries that were in the owed list: they leave it. */
  readonly settled: readonly ClosingId[];
  /** Enter the owed list, or change in it: after a failed call, or, with `attempts` unchanged, calls still running behind the cursor. */
  readonly owed: readonly Omit<OwedDelivery, 'details'>[];
  /** Abandoned deliveries that were sent again: they leave that list. */
  readonly resent: readonly ClosingId[];
  /** Enter the list of abandoned deliveries. */
  readonly abandoned: readonly Pick<OwedDelivery, 'closingId' | 'orderId' | 'attempts'>[];
  /** Each with what it was sent as. */
  readonly attempts: readonly (Attempt & { readonly callTemplateId: number })[];
  /** Begun, under way or ended. */
  readonly executions: readonly Execution[];
  /** Of a resend: the last closing up to which all are done. */
  readonly resend?: { readonly executionId: ExecutionId; readonly sentUpTo: ClosingId };
  /** Schedules that ran by themselves, and how it is with that run. */
  readonly ranAt?: readonly {
    readonly scheduleId: ScheduleId;
    readonly at: number;
    readonly status: ExecutionStatus;
  }[];
  /** Undefined leaves it; null lifts it. */
  readonly heldUntil?: number | null;
};

/** What a call was made from; the call log shows the request by filling it in again. */
export type CallTemplate = {
  readonly method: ExternalInterface['method'];
  readonly url: string;
  readonly payload?: string;
  readonly userAgent: string;
};

export interface QueueStore {
  /** All interfaces that are not deleted, of all institutions or of one, paused ones too. */
  engineInterfaces(institutionId?: InstitutionId): Promise<EngineInterface[]>;
  engineInterface(institutionId: InstitutionId, id: InterfaceId): Promise<EngineInterface | undefined>;
  /** New execution ids: `count` of them from the answer on. */
  reserveExecutionIds(count: number): Promise<ExecutionId>;
  /** The id under which the call log keeps this template; the same content has the same id. */
  callTemplateId(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    template: CallTemplate,
  ): Promise<number>;
  /** By due time, then oldest closing first. */
  owed(institutionId: InstitutionId, interfaceId: InterfaceId, query: OwedQuery): Promise<OwedDelivery[]>;
  /** The log after `after`, oldest first; at most `limit` closings and, with details, about READ_CHARACTERS_MAX of them. */
  waiting(
    institutionId: InstitutionId,
    after: Position,
    query: { readonly limit: number; readonly withDetails: boolean },
  ): Promise<WaitingClosing[]>;
  /**
   * Commits all of it, but for the interfaces whose lease this node no longer holds: of those nothing is committed, and
   * their ids are the answer.
   */
  commitProgress(progress: readonly Progress[], nodeId: NodeId): Promise<readonly InterfaceId[]>;
  /**
   * Ends executions of this interface that a dead process left RUNNING, with this message. Runs that were asked for and had
   * not begun stay, and so do resends, which go on.
   */
  endInterrupted(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    message: string,
    now: number,
  ): Promise<void>;
}

/** Names one engine; another one after each start. */
export type NodeId = string;
/** Grows each time an interface changes hands, so that a node that was asleep past its lease can change nothing. */
export type Fence = number;
export type Lease = {
  readonly institutionId: InstitutionId;
  readonly interfaceId: InterfaceId;
  readonly fence: Fence;
};

/** Which node works which interface. With one process there is one node, and it holds them all. */
export interface LeaseStore {
  /**
   * The node lives: its leases hold for `ttlMs` from now. Takes interfaces that nobody holds, up to its fair share among the
   * living nodes. `held` is all it holds; `excess` of them it should give back when their execution has ended, because
   * another node has room.
   */
  holdLeases(
    nodeId: NodeId,
    ttlMs: number,
  ): Promise<{ readonly held: readonly Lease[]; readonly excess: readonly InterfaceId[] }>;
  /** All of them when `interfaceIds` is undefined: the node is going. */
  releaseLeases(nodeId: NodeId, interfaceIds?: readonly InterfaceId[]): Promise<void>;
}

/** What is to be sent again. */
export type ResendSelection =
  /** The newest closing of each, if the queue has passed it: others are going to be called anyway. */
  | { readonly kind: 'orders'; readonly orderIds: readonly OrderId[] }
  | { readonly kind: 'abandoned' }
  /** Whatever it has to wait for: an attempt that fails counts like any other. */
  | { readonly kind: 'owed' }
  /** Closings from … up to and without …, of those that the queue has passed; the filter decides again. */
  | { readonly kind: 'closed_between'; readonly from: number; readonly to: number };

export interface ResendStore {
  /** How many closings that would be, before the filter. Undefined when there is no such interface. */
  countResend(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    selection: ResendSelection,
  ): Promise<number | undefined>;
  /** Asks for it; the engine makes it as soon as the interface is free. */
  requestResend(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    selection: ResendSelection,
    now: number,
  ): Promise<{ readonly count: number; readonly execution: Execution } | undefined>;
  /** What is left of it after this closing, oldest first. */
  resendDeliveries(
    institutionId: InstitutionId,
    executionId: ExecutionId,
    query: { readonly after: ClosingId; readonly limit: number; readonly withDetails: boolean },
  ): Promise<ResendDelivery[]>;
  /** False when it is no resend or has ended. */
  cancelResend(institutionId: InstitutionId, executionId: ExecutionId): Promise<boolean>;
  /** Count of a resend as it was counted at the start; undefined for other executions. */
  resendCount(institutionId: InstitutionId, executionId: ExecutionId): Promise<number | undefined>;
}
/** `attempts` are those made so far when it is owed or abandoned; `list` says which. */
export type ResendDelivery = Omit<OwedDelivery, 'dueAt'> & {
  readonly list: 'owed' | 'abandoned' | undefined;
};

export interface RetentionStore {
  /**
   * Removes a small step of what is older: call log, ended executions, and closings that every queue has passed. Whatever
   * their age, executions go that found nothing to look at and that an earlier version kept. Answers about how many rows
   * went; 0 when there is nothing left to do. Never holds a lock for more than about 50 ms.
   */
  removeOlderThan(time: number): Promise<number>;
  /**
   * Looks at a small step of the orders, and removes the details of those that were last stored before `time`; the whole
   * order when no closing of it is kept any more. What waits, is owed or is abandoned somewhere stays. `hasMore`: this pass
   * through all orders is not over; the next one begins when `time` has moved on by ORDER_PASS_EVERY_MS.
   */
  removeOrdersOlderThan(
    time: number,
    now: number,
  ): Promise<{ readonly removed: number; readonly hasMore: boolean }>;
  /** Gives a small step of the room that removal left back to the system, where the database does not do so by itself. */
  giveRoomBack(): Promise<RoomStep>;
  /** Over all institutions, for the metrics. */
  queueTotals(): Promise<{ readonly waiting: number; readonly owed: number; readonly abandoned: number }>;
}

export type RoomStep = {
  /** There is more to give back: go on after a pause. */
  readonly hasMore: boolean;
  /** Bytes of the write-ahead log that cannot be cut, because somebody reads what was there before. */
  readonly heldLogBytes?: number;
};

/** A look through all orders has its cost, and orders get old by days. */
export const ORDER_PASS_EVERY_MS = 10 * 60 * 1_000;

/** Details of one read of the log, in characters, or fewer: a read of large orders ends early. */
export const READ_CHARACTERS_MAX = 4 * 1024 * 1024;

export type CallQuery = PageRequest & { readonly outcome?: AttemptOutcome; readonly orderId?: OrderId };

export interface CallLogStore {
  /** Logs a call that was made outside the queue. */
  logAttempt(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    callTemplateId: number,
    attempt: Attempt,
  ): Promise<LoggedAttempt>;
  /** Newest first; of a deleted interface too. Undefined when the institution never had such an interface. */
  calls(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    query: CallQuery,
  ): Promise<Page<LoggedAttempt> | undefined>;
}
