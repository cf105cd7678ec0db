/** Closings, deliveries and their attempts: what the queue holds and the call log tells. */
import type { ExecutionId, InterfaceId } from './entities.ts';
import type { OrderId } from './order.ts';
import type { Answer, CallRequest, FailureReason } from './outcome.ts';

/** Names one closing within its institution; later closings have greater ids. */
export type ClosingId = number;

/** The fact that one order was closed at one moment. */
export type Closing = {
  readonly closingId: ClosingId;
  readonly orderId: OrderId;
  readonly closedAt: number;
};

export const ATTEMPT_TRIGGERS = ['AUTOMATIC', 'MANUAL', 'RESEND', 'TEST'] as const;
export type AttemptTrigger = (typeof ATTEMPT_TRIGGERS)[number];

/** ABANDONED is a FAILED attempt that was the last. */
export const ATTEMPT_OUTCOMES = ['DELIVERED', 'FAILED', 'ABANDONED', 'SIMULATED'] as const;
export type AttemptOutcome = (typeof ATTEMPT_OUTCOMES)[number];

/** One HTTP request made for a delivery. */
export type Attempt = {
  readonly orderId: OrderId;
  /** Absent when an order that never closed was called as a test. */
  readonly closingId?: ClosingId;
  /** 1 … ATTEMPTS_MAX; a test call is always 1. */
  readonly attempt: number;
  readonly executionId?: ExecutionId;
  readonly trigger: AttemptTrigger;
  readonly startedAt: number;
  readonly durationMs: number;
  readonly outcome: AttemptOutcome;
  readonly reason?: FailureReason | undefined;
  readonly detail?: string | undefined;
  readonly answer?: Answer | undefined;
  readonly nextAttemptAt?: number | undefined;
};

/** An attempt as the call log gives it back. */
export type LoggedAttempt = Attempt & {
  readonly id: number;
  readonly request: CallRequest;
  /** Of the Orderhook that sent it. */
  readonly userAgent: string;
};

/** How far one interface is with one closing. */
export const DELIVERY_STATES = [
  'WAITING',
  'OWED',
  'DELIVERED',
  'ABANDONED',
  'SIMULATED',
  /** Looked at and not called: the filter said no. */
  'FILTERED_OUT',
  /** What is kept proves none of these: retention took the attempts of that time. */
  'UNKNOWN',
] as const;
export type DeliveryState = (typeof DELIVERY_STATES)[number];

export type Delivery = {
  readonly interfaceId: InterfaceId;
  readonly closingId: ClosingId;
  readonly state: DeliveryState;
  readonly attempts: number;
  readonly nextAttemptAt?: number;
  /** Why the last attempt failed, of one that is owed or abandoned: the reason, and what is known of it. */
  readonly because?: string;
};

/** One interface's queue in figures. */
export type QueueFigures = {
  /** Closings not yet looked at. */
  readonly waiting: number;
  readonly owed: number;
  readonly abandoned: number;
  readonly oldestWaitingAt?: number;
  /** When the oldest closing that is owed was closed. */
  readonly oldestOwedAt?: number;
  readonly heldUntil?: number;
};
