/**
 * The one statement that commits progress: under its fence each interface's outcomes enter their lists and its cursor moves.
 *
 * Each list of all interfaces together is one group of array parameters; rows find their interface by `p`, its place in
 * the call. Most commits have only a few of the lists, and a list costs something even when it is empty, so the statement
 * is put together from the parts that there are; each combination is prepared once.
 */
import { randomInt } from 'node:crypto';
import type { ClosingId } from '../../model/delivery.ts';
import { shareHeaders } from '../shared-headers.ts';
import type { NodeId, Progress } from '../store.ts';
import { boolArray, int4Array, int8Array, textArray } from './arrays.ts';
import { ATTEMPT_COLUMNS, ATTEMPT_TYPES, attemptValues } from './call-log.ts';
import type { Database, Statement, Value } from './database.ts';
import { toPlace } from './log-position.ts';

type Part = {
  /** In words of SQL, and of the update of the queue below. */
  readonly name: 'owed' | 'abandoned' | 'executions' | 'resends' | 'ran' | 'attempts';
  isPresent(all: readonly Progress[]): boolean;
  /** Of the parameters of `sql`, in order. */
  readonly types: readonly string[];
  /** Common table expressions. `unnest` answers the next so many parameters as the columns that are named. */
  sql(unnest: (columns: string) => string): string;
  values(all: readonly Progress[]): Value[];
};

/**
 * - `locked`: those whose lease holds, their rows locked in one order by all. Whoever takes an interface over needs the
 *   same row, so a lease that holds here holds until the commit. A deleted interface belongs to nobody: what was under way
 *   for it still enters the call log.
 * - `fresh`: a call that is made again, because the answer to it was lost, finds its own token and does nothing.
 */
const BEGIN: Omit<Part, 'name' | 'isPresent'> = {
  types: words('bigint bigint bigint bigint bigint boolean bigint integer bigint'),
  sql: (unnest) => `given AS MATERIALIZED (
    SELECT g.*, row_number() OVER () AS p FROM ${unnest('institution_id, interface_id, fence, cursor_xid, cursor_id, sets_hold, held_until, attempt_count, token')} g
  ), locked AS MATERIALIZED (
    SELECT g.*, q.last_attempt_id, q.deleted, q.last_commit = g.token AS is_repeated
    FROM given g JOIN orderhook.queues q USING (institution_id, interface_id)
    WHERE q.deleted OR q.owner = $1 AND q.fence = g.fence
      AND EXISTS (SELECT FROM orderhook.nodes n WHERE n.node_id = $1 AND n.expires_at > clock_timestamp())
    ORDER BY institution_id, interface_id FOR UPDATE OF q
  ), fresh AS MATERIALIZED (
    SELECT * FROM locked WHERE NOT is_repeated
  ), alive AS MATERIALIZED (
    SELECT * FROM fresh WHERE NOT deleted
  )`,
  values: (all) => {
    const cursors = all.map(({ cursor }) => cursor && toPlace(cursor));
    return [
      int8Array(all.map(({ institutionId }) => institutionId)),
      int8Array(all.map(({ interfaceId }) => interfaceId)),
      int8Array(all.map(({ fence }) => fence)),
      int8Array(cursors.map((cursor) => cursor?.xid)),
      int8Array(cursors.map((cursor) => cursor?.closingId)),
      boolArray(all.map(({ heldUntil }) => heldUntil !== undefined)),
      int8Array(all.map(({ heldUntil }) => heldUntil)),
      int4Array(all.map(({ attempts }) => attempts.length)),
      int8Array(all.map(tokenOf)),
    ];
  },
};

/** The keys stand together, behind OFFSET 0: or a plan made while the table was small would look through all of it. */
function leave(list: 'owed' | 'abandoned', unnested: string): string {
  return `DELETE FROM orderhook.${list} d
    USING (SELECT a.p, a.institution_id, a.interface_id, s.closing_id FROM ${unnested} s JOIN alive a USING (p) OFFSET 0) k
    WHERE d.institution_id = k.institution_id AND d.interface_id = k.interface_id AND d.closing_id = k.closing_id
    RETURNING k.p`;
}

const PARTS: readonly Part[] = [
  {
    name: 'owed',
    isPresent: (all) => all.some(({ settled, owed }) => settled.length > 0 || owed.length > 0),
    types: words('integer bigint integer bigint bigint integer bigint'),
    sql: (unnest) => `no_longer_owed AS (
    ${leave('owed', unnest('p, closing_id'))}
  ), owed AS (
    INSERT INTO orderhook.owed AS d (institution_id, interface_id, closing_id, order_id, attempts, due_at)
    SELECT a.institution_id, a.interface_id, o.closing_id, o.order_id, o.attempts, o.due_at
    FROM ${unnest('p, closing_id, order_id, attempts, due_at')} o JOIN alive a USING (p)
    ON CONFLICT (institution_id, interface_id, closing_id)
      DO UPDATE SET attempts = excluded.attempts, due_at = excluded.due_at
    RETURNING d.institution_id, d.interface_id, d.xmax = 0 AS is_new
  )`,
    values: (all) => {
      const settled = flatten(all, (progress) => without(progress.settled, progress.owed));
      const owed = flatten(all, (progress) => progress.owed);
      return [
        int4Array(settled.places),
        int8Array(settled.items),
        int4Array(owed.places),
        int8Array(owed.items.map(({ closingId }) => closingId)),
        int8Array(owed.items.map(({ orderId }) => orderId)),
        int4Array(owed.items.map(({ attempts }) => attempts)),
        int8Array(owed.items.map(({ dueAt }) => dueAt)),
      ];
    },
  },
  {
    name: 'abandoned',
    isPresent: (all) => all.some(({ resent, abandoned }) => resent.length > 0 || abandoned.length > 0),
    types: words('integer bigint integer bigint bigint integer'),
    sql: (unnest) => `no_longer_abandoned AS (
    ${leave('abandoned', unnest('p, closing_id'))}
  ), abandoned AS (
    INSERT INTO orderhook.abandoned AS d (institution_id, interface_id, closing_id, order_id, attempts)
    SELECT a.institution_id, a.interface_id, o.closing_id, o.order_id, o.attempts
    FROM ${unnest('p, closing_id, order_id, attempts')} o JOIN alive a USING (p)
    ON CONFLICT (institution_id, interface_id, closing_id) DO UPDATE SET attempts = excluded.attempts
    RETURNING d.institution_id, d.interface_id, d.xmax = 0 AS is_new
  )`,
    values: (all) => {
      const resent = flatten(all, (progress) => without(progress.resent, progress.abandoned));
      const abandoned = flatten(all, (progress) => progress.abandoned);
      return [
        int4Array(resent.places),
        int8Array(resent.items),
        int4Array(abandoned.places),
        int8Array(abandoned.items.map(({ closingId }) => closingId)),
        int8Array(abandoned.items.map(({ orderId }) => orderId)),
        int4Array(abandoned.items.map(({ attempts }) => attempts)),
      ];
    },
  },
  {
    name: 'executions',
    isPresent: (all) => all.some(({ executions }) => executions.length > 0),
    types: words(
      'integer bigint bigint text text bigint bigint integer integer integer integer integer integer text',
    ),
    sql: (unnest) => `executions AS (
    INSERT INTO orderhook.executions (execution_id, institution_id, interface_id, schedule_id, trigger, status, begun,
      started_at, ended_at, looked, filtered_out, called, delivered, failed, abandoned, message)
    SELECT e.execution_id, f.institution_id, f.interface_id, e.schedule_id, e.trigger, e.status, true,
      e.started_at, e.ended_at, e.looked, e.filtered_out, e.called, e.delivered, e.failed, e.abandoned, e.message
    FROM ${unnest(
      `p, execution_id, schedule_id, trigger, status, started_at, ended_at, looked, filtered_out, called, delivered,
      failed, abandoned, message`,
    )} e JOIN fresh f USING (p)
    ON CONFLICT (institution_id, execution_id) DO UPDATE SET status = excluded.status, begun = true,
      started_at = excluded.started_at, ended_at = excluded.ended_at, looked = excluded.looked,
      filtered_out = excluded.filtered_out, called = excluded.called, delivered = excluded.delivered,
      failed = excluded.failed, abandoned = excluded.abandoned, message = excluded.message
  )`,
    values: (all) => {
      const { places, items } = flatten(all, ({ executions }) => executions);
      return [
        int4Array(places),
        int8Array(items.map(({ id }) => id)),
        int8Array(items.map(({ scheduleId }) => scheduleId)),
        textArray(items.map(({ trigger }) => trigger)),
        textArray(items.map(({ status }) => status)),
        int8Array(items.map(({ startedAt }) => startedAt)),
        int8Array(items.map(({ endedAt }) => endedAt)),
        int4Array(items.map(({ looked }) => looked)),
        int4Array(items.map(({ filteredOut }) => filteredOut)),
        int4Array(items.map(({ called }) => called)),
        int4Array(items.map(({ delivered }) => delivered)),
        int4Array(items.map(({ failed }) => failed)),
        int4Array(items.map(({ abandoned }) => abandoned)),
        textArray(items.map(({ message }) => message)),
      ];
    },
  },
  {
    name: 'resends',
    isPresent: (all) =>
      all.some(({ resend, executions }) => resend !== undefined || executions.some(isEndedResend)),
    types: words('integer bigint bigint integer bigint'),
    sql: (unnest) => `resends AS (
    UPDATE orderhook.resends r SET sent_up_to = greatest(r.sent_up_to, k.sent_up_to)
    FROM (SELECT a.institution_id, s.execution_id, s.sent_up_to FROM ${unnest('p, execution_id, sent_up_to')} s
      JOIN alive a USING (p) OFFSET 0) k
    WHERE r.institution_id = k.institution_id AND r.execution_id = k.execution_id
  ), no_resend_orders AS (
    DELETE FROM orderhook.resend_orders o
    USING (SELECT f.institution_id, s.execution_id FROM ${unnest('p, execution_id')} s JOIN fresh f USING (p) OFFSET 0) k
    WHERE o.institution_id = k.institution_id AND o.execution_id = k.execution_id
  )`,
    values: (all) => {
      const moved = flatten(all, ({ resend }) => (resend ? [resend] : []));
      const ended = flatten(all, ({ executions }) => executions.filter(isEndedResend));
      return [
        int4Array(moved.places),
        int8Array(moved.items.map(({ executionId }) => executionId)),
        int8Array(moved.items.map(({ sentUpTo }) => sentUpTo)),
        int4Array(ended.places),
        int8Array(ended.items.map(({ id }) => id)),
      ];
    },
  },
  {
    name: 'ran',
    isPresent: (all) => all.some(({ ranAt = [] }) => ranAt.length > 0),
    types: words('integer bigint bigint text'),
    sql: (unnest) => `ran AS (
    UPDATE orderhook.schedules s SET last_run_at = k.at, last_status = k.status
    FROM (SELECT a.institution_id, r.schedule_id, r.at, r.status FROM ${unnest('p, schedule_id, at, status')} r
      JOIN alive a USING (p) OFFSET 0) k
    WHERE s.institution_id = k.institution_id AND s.schedule_id = k.schedule_id
  )`,
    values: (all) => {
      const { places, items } = flatten(all, ({ ranAt = [] }) => [
        ...new Map(ranAt.map((run) => [run.scheduleId, run])).values(),
      ]);
      return [
        int4Array(places),
        int8Array(items.map(({ scheduleId }) => scheduleId)),
        int8Array(items.map(({ at }) => at)),
        textArray(items.map(({ status }) => status)),
      ];
    },
  },
  {
    name: 'attempts',
    isPresent: (all) => all.some(({ attempts }) => attempts.length > 0),
    types: ['integer', 'integer', 'integer', ...ATTEMPT_TYPES],
    sql: (unnest) => `attempts AS (
    INSERT INTO orderhook.attempts (institution_id, interface_id, attempt_id, headers_in, ${ATTEMPT_COLUMNS})
    SELECT f.institution_id, f.interface_id, f.last_attempt_id + t.n, f.last_attempt_id + t.headers_n, ${ATTEMPT_COLUMNS}
    FROM ${unnest(`p, n, headers_n, ${ATTEMPT_COLUMNS}`)} t JOIN fresh f USING (p)
  )`,
    values: (all) => {
      const { places, ordinals, items } = flatten(all, ({ attempts }) => attempts);
      const headers = all.map(({ attempts }) => shareHeaders(attempts));
      const keptBy = headers.flatMap((one) => one.keptBy.map((place) => (place === null ? null : place + 1)));
      const texts = headers.flatMap((one) => one.texts);
      return [int4Array(places), int4Array(ordinals), int4Array(keptBy), ...attemptValues(items, texts)];
    },
  },
];

/** Answers the places (from 1) of those that are committed. At most one progress of each interface. */
export function progressCommit(
  db: Database,
): (all: readonly Progress[], nodeId: NodeId) => Promise<Set<number>> {
  const statements = new Map<string, Statement>();
  return async (all, nodeId) => {
    const parts = PARTS.filter((part) => part.isPresent(all));
    const key = parts.map(({ name }) => name).join(' ');
    const statement = statements.get(key) ?? db.writing(statementOf(parts));
    statements.set(key, statement);
    const values = [BEGIN, ...parts].flatMap((part) => part.values(all));
    const rows = await statement.arrays<[place: number]>(nodeId, ...values);
    return new Set(rows.map(([place]) => place));
  };
}

function statementOf(parts: readonly Part[]): string {
  let parameter = 1; // the node
  const texts = [BEGIN, ...parts].map((part) => {
    let index = 0;
    return part.sql((columns) => {
      const count = columns.split(',').length;
      const casts = part.types.slice(index, index + count).map((type) => {
        parameter += 1;
        return `$${parameter}::${type}[]`;
      });
      index += count;
      return `(SELECT * FROM unnest(${casts.join(', ')}) AS u (${columns}))`;
    });
  });
  const names = new Set(parts.map(({ name }) => name));
  const change = (list: 'owed' | 'abandoned') =>
    names.has(list)
      ? `${list} = q.${list} - (SELECT count(*) FROM no_longer_${list} l WHERE l.p = f.p)
        + (SELECT count(*) FROM ${list} l
           WHERE l.is_new AND l.institution_id = f.institution_id AND l.interface_id = f.interface_id),`
      : '';
  const isForward = '(f.cursor_xid, f.cursor_id) > (q.cursor_xid, q.cursor_id)';
  return `WITH ${texts.join(', ')}, moved AS (
    UPDATE orderhook.queues q SET
      ${change('owed')}
      ${change('abandoned')}
      cursor_xid = CASE WHEN ${isForward} THEN f.cursor_xid ELSE q.cursor_xid END,
      cursor_id = CASE WHEN ${isForward} THEN f.cursor_id ELSE q.cursor_id END,
      last_attempt_id = q.last_attempt_id + f.attempt_count,
      held_until = CASE WHEN f.sets_hold AND NOT f.deleted THEN f.held_until ELSE q.held_until END,
      last_commit = f.token
    FROM fresh f WHERE q.institution_id = f.institution_id AND q.interface_id = f.interface_id
  )
  SELECT p FROM locked`;
}

function words(text: string): string[] {
  return text.split(' ');
}

function isEndedResend({ trigger, endedAt }: Progress['executions'][number]): boolean {
  return trigger === 'RESEND' && endedAt !== undefined;
}

/** The items of all, each with the place (from 1) of the progress it belongs to and its own place in there. */
function flatten<T>(
  all: readonly Progress[],
  itemsOf: (progress: Progress) => readonly T[],
): { places: number[]; ordinals: number[]; items: T[] } {
  const flat = { places: [] as number[], ordinals: [] as number[], items: [] as T[] };
  for (const [index, progress] of all.entries()) {
    for (const [ordinal, item] of itemsOf(progress).entries()) {
      flat.places.push(index + 1);
      flat.ordinals.push(ordinal + 1);
      flat.items.push(item);
    }
  }
  return flat;
}

/** What leaves a list and enters it in the same commit stays in it: one statement changes a row once. */
function without(
  leaving: readonly ClosingId[],
  entering: readonly { closingId: ClosingId }[],
): readonly ClosingId[] {
  if (leaving.length === 0 || entering.length === 0) return leaving;
  const stays = new Set(entering.map(({ closingId }) => closingId));
  return leaving.filter((closingId) => !stays.has(closingId));
}

/** A commit whose answer was lost is made again with the same progress: it has the same token then. */
const tokens = new WeakMap<Progress, number>();
function tokenOf(progress: Progress): number {
  const token = tokens.get(progress) ?? randomInt(1, 2 ** 48 - 1);
  tokens.set(progress, token);
  return token;
}
