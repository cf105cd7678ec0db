/**
 * The things that an institution has, in the words of the contract (section 1). Times are integer milliseconds since
 * 1970. Numbers that name things (`id`) are given by the store and mean nothing else.
 */
import type { Granularity } from './granularity.ts';

export type InstitutionId = number;
export type Institution = {
  readonly id: InstitutionId;
  /** Upper case letters, digits, `_` and `-`: `MYVENUE`. */
  readonly code: string;
  readonly name: string;
  /** IANA name: `Europe/Zurich`. */
  readonly timeZone: string;
  readonly createdAt: number;
};

export type InterfaceId = number;
/** The only type there is; the word leaves room for others. */
export const INTERFACE_TYPE = 'ORDER_WEBHOOK_V1';
export const METHODS = ['GET', 'POST'] as const;
export type Method = (typeof METHODS)[number];

/** Where and how to call: what an operator sets. */
export type InterfaceSettings = {
  readonly name: string;
  readonly url: string;
  readonly method: Method;
  readonly payload?: string;
  readonly filter?: string;
  readonly granularity: Granularity;
  /** Calls that run at once, 1 … CONCURRENCY_MAX. */
  readonly concurrency: number;
  /** Everything happens but the request. */
  readonly simulation: boolean;
  /** A paused interface keeps its queue. */
  readonly active: boolean;
  /** Attempts of one delivery, 1 … ATTEMPTS_MAX; after the last failed one it is abandoned. */
  readonly attemptsMax: number;
};
export type ExternalInterface = InterfaceSettings & {
  readonly id: InterfaceId;
  readonly institutionId: InstitutionId;
  /** `host:port` of the URL: what a proxy opening names. */
  readonly destination: string;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** Another one after each change of what an operator sets. */
  readonly revision: number;
};

export type ScheduleId = number;
export const LAUNCHES = ['MANUAL', 'AUTOMATIC'] as const;
export type Launch = (typeof LAUNCHES)[number];
export type ScheduleSettings = {
  readonly name: string;
  readonly launch: Launch;
  /** AUTOMATIC only: 1 … FREQUENCY_MINUTES_MAX, or 0, *continuous*. */
  readonly frequencyMinutes?: number;
  /** AUTOMATIC only: no run before. */
  readonly start?: number;
  /** AUTOMATIC only: no run from here on. */
  readonly end?: number;
  /** Calls of one execution at most, 1 … BATCH_SIZE_MAX. */
  readonly batchSize: number;
};
export type Schedule = ScheduleSettings & {
  readonly id: ScheduleId;
  readonly institutionId: InstitutionId;
  readonly interfaceId: InterfaceId;
  /** When it last ran by itself; a run by hand does not count. */
  readonly lastRunAt?: number;
  /** How it is with that run. */
  readonly lastStatus?: ExecutionStatus;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** Another one after each change of what an operator sets; a run changes nothing of it. */
  readonly revision: number;
};

export function isContinuous(schedule: Pick<ScheduleSettings, 'launch' | 'frequencyMinutes'>): boolean {
  return schedule.launch === 'AUTOMATIC' && schedule.frequencyMinutes === 0;
}

export type ExecutionId = number;
export const EXECUTION_TRIGGERS = ['AUTOMATIC', 'MANUAL', 'RESEND'] as const;
export type ExecutionTrigger = (typeof EXECUTION_TRIGGERS)[number];

/**
 * ```
 * (requested) ──> RUNNING ──> OK        every call delivered, or nothing to call
 *                        ├──> WARNING   some failed
 *                        └──> ERROR     all failed, stopped, or could not start
 * ```
 */
export const EXECUTION_STATUSES = ['RUNNING', 'OK', 'WARNING', 'ERROR'] as const;
export type ExecutionStatus = (typeof EXECUTION_STATUSES)[number];

/** One run of a schedule. */
export type Execution = {
  readonly id: ExecutionId;
  readonly institutionId: InstitutionId;
  readonly interfaceId: InterfaceId;
  /** Absent for a resend, which belongs to no schedule. */
  readonly scheduleId?: ScheduleId;
  readonly trigger: ExecutionTrigger;
  readonly startedAt: number;
  readonly endedAt?: number;
  readonly status: ExecutionStatus;
  /** Closings and owed orders that it took from the queue. */
  readonly looked: number;
  readonly filteredOut: number;
  readonly called: number;
  readonly delivered: number;
  readonly failed: number;
  /** Of the failed: those whose last attempt this was. */
  readonly abandoned: number;
  /** Why it ended as it did, when that is worth a sentence. */
  readonly message?: string;
};

/**
 * ```
 * REQUESTED ──open──> OPEN ──revoke──> REVOKED
 *         │             └open┘ with another allowPrivate
 *         └──refuse─> REFUSED
 * ```
 */
export const OPENING_STATES = ['REQUESTED', 'OPEN', 'REFUSED', 'REVOKED'] as const;
export type OpeningState = (typeof OPENING_STATES)[number];

/** Which states a decision is for, and which it leads to. */
export const OPENING_DECISIONS = {
  open: { from: ['REQUESTED', 'OPEN'], to: 'OPEN' },
  refuse: { from: ['REQUESTED'], to: 'REFUSED' },
  revoke: { from: ['OPEN'], to: 'REVOKED' },
} as const satisfies Record<string, { from: readonly OpeningState[]; to: OpeningState }>;
export type OpeningDecision = keyof typeof OPENING_DECISIONS;

/** The permission to call one destination. */
export type ProxyOpening = {
  readonly id: number;
  readonly institutionId: InstitutionId;
  /** `host:port`. */
  readonly destination: string;
  readonly state: OpeningState;
  /** The administrator allowed addresses that are not public. */
  readonly allowPrivate: boolean;
  readonly reason?: string;
  readonly requestedAt: number;
  /** Name of the API key or the person. */
  readonly requestedBy: string;
  readonly decidedAt?: number;
  readonly decidedBy?: string;
};

/** Who may read orders back. */
export type Partner = {
  readonly id: number;
  readonly institutionId: InstitutionId;
  readonly partner: string;
  readonly operator: string;
  /** Sealed with the key of this installation: the web service needs it to check signatures. */
  readonly sealedSecret: string;
  readonly createdAt: number;
};

export const ROLES = ['ADMINISTRATOR', 'OPERATOR', 'SOURCE'] as const;
export type Role = (typeof ROLES)[number];

export type ApiKey = {
  readonly id: number;
  readonly name: string;
  readonly role: Role;
  /** Of an operator or a source: the one institution. */
  readonly institutionId?: InstitutionId;
  readonly createdAt: number;
  readonly expiresAt?: number;
};
