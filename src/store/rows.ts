/**
 * What the tables of both stores have in common: rows with the same columns, pages, optional fields. snake_case ends here.
 */
import { createHash } from 'node:crypto';
import { AppError } from '../model/app-error.ts';
import type {
  AttemptOutcome,
  AttemptTrigger,
  ClosingId,
  Delivery,
  DeliveryState,
  LoggedAttempt,
} from '../model/delivery.ts';
import {
  type Execution,
  type ExecutionStatus,
  type ExecutionTrigger,
  type Institution,
  type Launch,
  type Method,
  OPENING_DECISIONS,
  type OpeningDecision,
  type Partner,
  type Schedule,
} from '../model/entities.ts';
import type { Answer, FailureReason } from '../model/outcome.ts';
import { compileTemplate } from '../template/template.ts';
import type { CallTemplate, OwedDelivery, Page } from './store.ts';

export type Row = Record<string, unknown>;

/** Rows one more than the limit were asked for: the last one only tells that there is a next page. */
export function toPage<T>(
  rows: readonly T[],
  limit: number,
  cursorOf: (item: T) => string | number,
): Page<T> {
  const items = rows.slice(0, limit);
  const last = items[items.length - 1];
  return rows.length > limit && last !== undefined ? { items, next: String(cursorOf(last)) } : { items };
}

/** A keyset cursor that is an integer; anything else is the client's mistake. */
export function cursorNumber(cursor: string | undefined, otherwise: number): number {
  if (cursor === undefined) return otherwise;
  if (/^\d{1,15}$/.test(cursor)) return Number(cursor);
  throw wrongCursor();
}

export function wrongCursor(): AppError {
  const message = 'The cursor is not one that a page of this list gave as `next`.';
  return new AppError('invalid_value', message, {
    problems: [{ path: 'cursor', code: 'cursor_invalid', message }],
  });
}

export function wrongOpeningState(state: unknown, decision: OpeningDecision): AppError {
  const needed = OPENING_DECISIONS[decision].from.join(' or ');
  return new AppError('conflict', `The proxy opening is ${state}; to ${decision} it, it must be ${needed}.`);
}

export function optional<K extends string, V>(key: K, value: V | null | undefined): { [P in K]?: V } {
  return value === null || value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

export const FROM_NEWEST = Number.MAX_SAFE_INTEGER;

export function executionCursor(cursor: string | undefined): [startedAt: number, id: number] {
  if (cursor === undefined) return [Number.MAX_SAFE_INTEGER, 0];
  const [, startedAt, id] = /^(\d{1,15})-(\d{1,15})$/.exec(cursor) ?? [];
  if (startedAt === undefined) throw wrongCursor();
  return [cursorNumber(startedAt, 0), cursorNumber(id, 0)];
}

export function toSchedule(row: Row): Schedule {
  return {
    id: row.schedule_id as number,
    institutionId: row.institution_id as number,
    interfaceId: row.interface_id as number,
    name: row.name as string,
    launch: row.launch as Launch,
    ...optional('frequencyMinutes', row.frequency_minutes as number | null),
    ...optional('start', row.start_at as number | null),
    ...optional('end', row.end_at as number | null),
    batchSize: row.batch_size as number,
    ...optional('lastRunAt', row.last_run_at as number | null),
    ...optional('lastStatus', row.last_status as ExecutionStatus | null),
    createdAt: row.created_at as number,
    updatedAt: row.updated_at as number,
    revision: row.revision as number,
  };
}

export function toExecution(row: Row): Execution {
  return {
    id: row.execution_id as number,
    institutionId: row.institution_id as number,
    interfaceId: row.interface_id as number,
    ...optional('scheduleId', row.schedule_id as number | null),
    trigger: row.trigger as ExecutionTrigger,
    startedAt: row.started_at as number,
    ...optional('endedAt', row.ended_at as number | null),
    status: row.status as ExecutionStatus,
    looked: row.looked as number,
    filteredOut: row.filtered_out as number,
    called: row.called as number,
    delivered: row.delivered as number,
    failed: row.failed as number,
    abandoned: row.abandoned as number,
    ...optional('message', row.message as string | null),
  };
}

/** A delivery of the owed list as both stores read it, in arrays. */
export type OwedColumns = [
  closingId: ClosingId,
  orderId: string,
  attempts: number,
  dueAt: number,
  details: string | null,
];

export function toOwed([closingId, orderId, attempts, dueAt, details]: OwedColumns): OwedDelivery {
  return { closingId, orderId, attempts, dueAt, ...keptDetails(details) };
}

/** In both stores an order whose details were removed has '' for them, which no JSON text is. */
export function keptDetails(details: string | null | undefined): { details?: string } {
  return details ? { details } : {};
}

export function contentHash({ method, url, payload, userAgent }: CallTemplate): Buffer {
  return createHash('sha256')
    .update(JSON.stringify([method, url, payload ?? null, userAgent]))
    .digest();
}

export function toLoggedAttempt(row: Row): LoggedAttempt {
  const orderId = row.order_id as string;
  const payload = row.payload as string | null;
  const template = { method: row.method as Method, url: row.url as string, ...optional('payload', payload) };
  return {
    id: row.attempt_id as number,
    orderId,
    ...optional('closingId', row.closing_id as number | null),
    attempt: row.attempt as number,
    ...optional('executionId', row.execution_id as number | null),
    trigger: row.trigger as AttemptTrigger,
    startedAt: row.started_at as number,
    durationMs: row.duration_ms as number,
    outcome: row.outcome as AttemptOutcome,
    ...optional('reason', row.reason as FailureReason | null),
    ...optional('detail', row.detail as string | null),
    ...(row.status === null ? {} : { answer: toAnswer(row) }),
    ...optional('nextAttemptAt', row.next_attempt_at as number | null),
    request: compileTemplate(template).fill(orderId),
    userAgent: row.user_agent as string,
  };
}

function toAnswer(row: Row): Answer {
  return {
    status: row.status as number,
    headers: JSON.parse((row.headers as string | null) ?? '{}'),
    bodyStart: (row.body_start as string | null) ?? '',
  };
}

/** What the clocks of the nodes that note closings and attempts may differ by. */
const CLOCKS_APART_MS = 60 * 60 * 1_000;

/**
 * How far an interface is with a closing, of a row with what is kept of it: `owed_attempts`, `due_at` and
 * `abandoned_attempts` of its lists, `is_waiting`, `closed_at`; of its attempts, tests left out, their number `attempts`, the
 * newest `outcome` that delivered it or simulated that, `last_started_at`, `reason` and `detail` of the last; and
 * `removed_before`, the moment before which attempts may be missing.
 */
export function toDelivery(row: Row): Delivery {
  const state = deliveryState(row);
  const isFailed = state === 'OWED' || state === 'ABANDONED';
  return {
    interfaceId: row.interface_id as number,
    closingId: row.closing_id as ClosingId,
    state,
    attempts: (row.owed_attempts ?? row.abandoned_attempts ?? row.attempts) as number,
    ...(state === 'OWED' && (row.due_at as number) > 0 ? { nextAttemptAt: row.due_at as number } : {}),
    ...(isFailed && row.reason !== null ? { because: becauseOf(row) } : {}),
  };
}

function deliveryState(row: Row): DeliveryState {
  if (row.owed_attempts !== null) return 'OWED';
  if (row.abandoned_attempts !== null) return 'ABANDONED';
  if (row.outcome !== null) return row.outcome as 'DELIVERED' | 'SIMULATED';
  if (row.is_waiting === true || row.is_waiting === 1) return 'WAITING';
  // It was looked at, and is in no list. Where all attempts since then are there and none delivered it, the filter said no.
  const removedBefore = row.removed_before as number;
  const keptFrom = removedBefore === 0 ? 0 : removedBefore + CLOCKS_APART_MS;
  const lookedAt = Math.max(row.closed_at as number, (row.last_started_at as number | null) ?? 0);
  return lookedAt >= keptFrom ? 'FILTERED_OUT' : 'UNKNOWN';
}

function becauseOf({ reason, detail }: Row): string {
  return detail === null ? String(reason) : `${reason}: ${detail}`;
}

export function toInstitution(row: Row): Institution {
  return {
    id: row.institution_id as number,
    code: row.code as string,
    name: row.name as string,
    timeZone: row.time_zone as string,
    createdAt: row.created_at as number,
  };
}

export function toPartner(row: Row): Partner {
  return {
    id: row.partner_id as number,
    institutionId: row.institution_id as number,
    partner: row.partner as string,
    operator: row.operator as string,
    sealedSecret: row.sealed_secret as string,
    createdAt: row.created_at as number,
  };
}
