/** The engine's side: the log read forward from a cursor, the owed list, and the one commit that moves them. */
import { randomInt } from 'node:crypto';
import type { ClosingId } from '../../model/delivery.ts';
import type { InstitutionId } from '../../model/entities.ts';
import type {
  Change,
  EngineInterface,
  OwedDelivery,
  Position,
  Progress,
  QueueStore,
  WaitingClosing,
} from '../store.ts';
import { READ_CHARACTERS_MAX } from '../store.ts';
import { boolArray, int4Array, int8Array, textArray } from './arrays.ts';
import { ATTEMPT_COLUMNS, attemptParameters, attemptValues } from './call-log.ts';
import type { Database, Statement, Value } from './database.ts';
import { toInterface } from './interfaces.ts';
import { type Birth, type Place, toPlace, toPosition } from './log-position.ts';
import { makePartitions, withPartitions } from './partitions.ts';
import { optional, type Row } from './rows.ts';
import { toExecution, toSchedule } from './schedules.ts';

/** Told of reads that ended before closings which are committed and cannot be read yet. */
export type LogWatch = { reachedEnd(institutionId: InstitutionId, end: Place): void };

export function queueStore(
  db: Database,
  publish: (change: Change) => void,
  watch: LogWatch,
): Omit<QueueStore, 'callTemplateId'> {
  const engineRows = (where: string) =>
    db.reading(
      `SELECT i.*, t.code, q.cursor_xid, q.cursor_id, q.first_xmax, q.first_running, q.owed, q.held_until, p.allow_private,
         (SELECT d.due_at FROM orderhook.owed d
          WHERE d.institution_id = i.institution_id AND d.interface_id = i.interface_id
          ORDER BY d.due_at LIMIT 1) AS owed_due_at,
         (SELECT json_agg(s.* ORDER BY s.schedule_id) FROM orderhook.schedules s
          WHERE s.institution_id = i.institution_id AND s.interface_id = i.interface_id) AS schedules,
         (SELECT json_agg(e.* ORDER BY e.execution_id) FROM
           (SELECT e.*, r.sent_up_to, r.cancelled, r.kind FROM orderhook.executions e
            LEFT JOIN orderhook.resends r USING (institution_id, execution_id)
            WHERE e.institution_id = i.institution_id AND e.interface_id = i.interface_id AND e.status = 'RUNNING'
              AND (NOT e.begun OR e.trigger = 'RESEND')) e) AS requests
       FROM orderhook.interfaces i
       JOIN orderhook.institutions t USING (institution_id)
       JOIN orderhook.queues q USING (institution_id, interface_id)
       LEFT JOIN orderhook.proxy_openings p
         ON p.institution_id = i.institution_id AND p.destination = i.destination AND p.state = 'OPEN'
       WHERE i.deleted_at IS NULL ${where} ORDER BY i.interface_id`,
    );
  const everyInterface = engineRows('');
  const interfacesOf = engineRows('AND i.institution_id = $1');
  const oneInterface = engineRows('AND i.institution_id = $1 AND i.interface_id = $2');
  const reserve = db.writing(
    "UPDATE orderhook.counters SET next = next + $1 WHERE name = 'execution' RETURNING next - $1 AS first",
  );

  const log = `FROM orderhook.closings c
    WHERE c.institution_id = $1 AND (c.xid, c.closing_id) > ($2, $3)
      AND c.xid < (SELECT orderhook.log_horizon()) %birth%
    ORDER BY c.xid, c.closing_id LIMIT $4`;
  const afterBirth = 'AND NOT (c.xid < $5 AND c.xid <> ALL ($6::bigint[]))';
  const waiting = both((birth) =>
    db.reading(`SELECT c.xid, c.closing_id, c.order_id::text ${log.replace('%birth%', birth)}`),
  );
  // Details that are too much for one read stay where they are: their size is known without reading them.
  const waitingWithDetails = both((birth) =>
    db.reading(
      `SELECT xid, closing_id, order_id::text, details FROM (
         SELECT c.xid, c.closing_id, c.order_id, o.details,
           coalesce(sum(octet_length(o.details)) OVER
             (ORDER BY c.xid, c.closing_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
         FROM (SELECT c.xid, c.closing_id, c.order_id ${log.replace('%birth%', birth)}) c
         LEFT JOIN orderhook.orders o ON o.institution_id = $1 AND o.order_id = c.order_id
       ) w WHERE bytes_before < ${READ_CHARACTERS_MAX} ORDER BY xid, closing_id`,
    ),
  );

  const owedRows = `SELECT d.closing_id, d.order_id, d.attempts, d.due_at FROM orderhook.owed d
    WHERE d.institution_id = $1 AND d.interface_id = $2 AND (d.due_at, d.closing_id) > ($3, $4) AND d.due_at <= $5
    ORDER BY d.due_at, d.closing_id LIMIT $6`;
  const owed = db.reading(
    `SELECT closing_id, order_id::text, attempts, due_at, NULL FROM (${owedRows}) d ORDER BY due_at, closing_id`,
  );
  const owedWithDetails = db.reading(
    `SELECT closing_id, order_id::text, attempts, due_at, details FROM (
       SELECT d.*, o.details,
         coalesce(sum(octet_length(o.details)) OVER
           (ORDER BY d.due_at, d.closing_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
       FROM (${owedRows}) d LEFT JOIN orderhook.orders o ON o.institution_id = $1 AND o.order_id = d.order_id
     ) w WHERE bytes_before < ${READ_CHARACTERS_MAX} ORDER BY due_at, closing_id`,
  );
  const commit = db.writing(COMMIT);
  const interrupted = db.writing(
    `UPDATE orderhook.executions SET status = 'ERROR', ended_at = $1, message = $2
     WHERE institution_id = $3 AND interface_id = $4 AND status = 'RUNNING' AND begun AND trigger <> 'RESEND'`,
  );
  const partitions = makePartitions(db);

  /** Commits at most one progress of each interface. */
  async function commitOnce(progress: readonly Progress[], nodeId: string): Promise<Progress[]> {
    const times = progress.flatMap(({ attempts }) => attempts.map(({ startedAt }) => startedAt));
    const rows = await withPartitions(partitions, 'attempts', times, () =>
      commit.arrays<[place: number]>(nodeId, ...commitValues(progress)),
    );
    const done = new Set(rows.map(([place]) => place));
    return progress.filter((_one, index) => !done.has(index + 1));
  }

  return {
    async engineInterfaces(institutionId) {
      const rows =
        institutionId === undefined ? await everyInterface.rows() : await interfacesOf.rows(institutionId);
      return rows.map(toEngineInterface);
    },

    async engineInterface(institutionId, id) {
      const row = await oneInterface.row(institutionId, id);
      return row && toEngineInterface(row);
    },

    async reserveExecutionIds(count) {
      return (await reserve.row(count))?.first as number;
    },

    async owed(institutionId, interfaceId, { dueBy, after, limit, withDetails }) {
      const rows = await (withDetails ? owedWithDetails : owed).arrays<OwedColumns>(
        institutionId,
        interfaceId,
        after?.dueAt ?? -1,
        after?.closingId ?? 0,
        dueBy ?? Number.MAX_SAFE_INTEGER,
        limit,
      );
      return rows.map(toOwed);
    },

    async waiting(institutionId, after, { limit, withDetails }) {
      const { xid, closingId, birth } = toPlace(after);
      const statements = withDetails ? waitingWithDetails : waiting;
      const keys = [institutionId, xid, closingId, limit] as const;
      const rows = birth
        ? await statements.afterBirth.arrays<WaitingColumns>(...keys, birth.xmax, int8Array(birth.running))
        : await statements.plain.arrays<WaitingColumns>(...keys);
      if (rows.length < limit) {
        const [lastXid, lastClosingId] = rows[rows.length - 1] ?? [xid, closingId];
        watch.reachedEnd(institutionId, {
          xid: lastXid,
          closingId: lastClosingId,
          ...(birth ? { birth } : {}),
        });
      }
      return rows.map((row) => toWaiting(row, birth));
    },

    async commitProgress(progress, nodeId) {
      const lost: Progress[] = [];
      for (let rest = progress; rest.length > 0; ) {
        const [now, later] = onePerInterface(rest);
        lost.push(...(await commitOnce(now, nodeId)));
        rest = later;
      }
      const executionIds = progress
        .filter((one) => !lost.includes(one))
        .flatMap(({ executions }) =>
          executions.filter(({ endedAt }) => endedAt !== undefined).map(({ id }) => id),
        );
      if (executionIds.length > 0) publish({ kind: 'executions_ended', executionIds });
      return lost.map(({ interfaceId }) => interfaceId);
    },

    async endInterrupted(institutionId, interfaceId, message, now) {
      await interrupted.rows(now, message, institutionId, interfaceId);
    },
  };

  function both(make: (birth: string) => Statement): { plain: Statement; afterBirth: Statement } {
    return { plain: make(''), afterBirth: make(afterBirth) };
  }
}

/** Columns of `unnest`, as `$n::type[]`, from the parameter `first` on. */
function parameters(first: number, types: string): string {
  return types
    .split(' ')
    .map((type, index) => `$${first + index}::${type}[]`)
    .join(', ');
}

/**
 * All of one call of commitProgress: under its fence each interface's outcomes enter their lists and its cursor moves.
 * Rows of one interface find each other by `p`, its place in the call.
 *
 * - `locked`: those whose lease holds, their rows locked in one order by all. Whoever takes an interface over needs the
 *   same row, so a lease that holds here holds until the commit. A deleted interface belongs to nobody: what was under way
 *   for it still enters the call log.
 * - `fresh`: a call that is made again, because the answer to it was lost, finds its own token and does nothing.
 */
const COMMIT = `
  WITH given AS MATERIALIZED (
    SELECT * FROM unnest(${parameters(2, 'bigint bigint bigint bigint bigint boolean bigint integer bigint')})
      WITH ORDINALITY AS g (institution_id, interface_id, fence, cursor_xid, cursor_id, sets_hold, held_until,
        attempt_count, token, p)
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
  ), settled AS (
    DELETE FROM orderhook.owed d
    USING unnest(${parameters(11, 'integer bigint')}) AS s (p, closing_id) JOIN alive a USING (p)
    WHERE d.institution_id = a.institution_id AND d.interface_id = a.interface_id AND d.closing_id = s.closing_id
    RETURNING a.p
  ), owed AS (
    INSERT INTO orderhook.owed AS d (institution_id, interface_id, closing_id, order_id, attempts, due_at)
    SELECT a.institution_id, a.interface_id, o.closing_id, o.order_id, o.attempts, o.due_at
    FROM unnest(${parameters(13, 'integer bigint bigint integer bigint')})
      AS o (p, closing_id, order_id, attempts, due_at) JOIN alive a USING (p)
    ON CONFLICT (institution_id, interface_id, closing_id)
      DO UPDATE SET attempts = excluded.attempts, due_at = excluded.due_at
    RETURNING d.institution_id, d.interface_id, d.xmax = 0 AS is_new
  ), resent AS (
    DELETE FROM orderhook.abandoned d
    USING unnest(${parameters(18, 'integer bigint')}) AS s (p, closing_id) JOIN alive a USING (p)
    WHERE d.institution_id = a.institution_id AND d.interface_id = a.interface_id AND d.closing_id = s.closing_id
    RETURNING a.p
  ), abandoned AS (
    INSERT INTO orderhook.abandoned AS d (institution_id, interface_id, closing_id, order_id, attempts)
    SELECT a.institution_id, a.interface_id, o.closing_id, o.order_id, o.attempts
    FROM unnest(${parameters(20, 'integer bigint bigint integer')}) AS o (p, closing_id, order_id, attempts)
      JOIN alive a USING (p)
    ON CONFLICT (institution_id, interface_id, closing_id) DO UPDATE SET attempts = excluded.attempts
    RETURNING d.institution_id, d.interface_id, d.xmax = 0 AS is_new
  ), executions AS (
    INSERT INTO orderhook.executions (execution_id, institution_id, interface_id, schedule_id, trigger, status, begun,
      started_at, ended_at, looked, filtered_out, called, delivered, failed, abandoned, message)
    SELECT e.execution_id, f.institution_id, f.interface_id, e.schedule_id, e.trigger, e.status, true,
      e.started_at, e.ended_at, e.looked, e.filtered_out, e.called, e.delivered, e.failed, e.abandoned, e.message
    FROM unnest(${parameters(
      24,
      'integer bigint bigint text text bigint bigint integer integer integer integer integer integer text',
    )}) AS e (p, execution_id, schedule_id, trigger, status, started_at, ended_at, looked, filtered_out, called,
      delivered, failed, abandoned, message) JOIN fresh f USING (p)
    ON CONFLICT (institution_id, execution_id) DO UPDATE SET status = excluded.status, begun = true,
      started_at = excluded.started_at, ended_at = excluded.ended_at, looked = excluded.looked,
      filtered_out = excluded.filtered_out, called = excluded.called, delivered = excluded.delivered,
      failed = excluded.failed, abandoned = excluded.abandoned, message = excluded.message
    RETURNING institution_id, execution_id, trigger, ended_at
  ), forgotten AS (
    DELETE FROM orderhook.resend_orders o USING executions e
    WHERE e.trigger = 'RESEND' AND e.ended_at IS NOT NULL
      AND o.institution_id = e.institution_id AND o.execution_id = e.execution_id
  ), resends AS (
    UPDATE orderhook.resends r SET sent_up_to = greatest(r.sent_up_to, s.sent_up_to)
    FROM unnest(${parameters(38, 'integer bigint bigint')}) AS s (p, execution_id, sent_up_to) JOIN alive a USING (p)
    WHERE r.institution_id = a.institution_id AND r.execution_id = s.execution_id
  ), ran AS (
    UPDATE orderhook.schedules s SET last_run_at = r.at
    FROM unnest(${parameters(41, 'integer bigint bigint')}) AS r (p, schedule_id, at) JOIN alive a USING (p)
    WHERE s.institution_id = a.institution_id AND s.schedule_id = r.schedule_id
  ), attempts AS (
    INSERT INTO orderhook.attempts (institution_id, interface_id, attempt_id, ${ATTEMPT_COLUMNS})
    SELECT f.institution_id, f.interface_id, f.last_attempt_id + t.n, ${ATTEMPT_COLUMNS}
    FROM unnest(${parameters(44, 'integer integer')}, ${attemptParameters(46)}) AS t (p, n, ${ATTEMPT_COLUMNS})
      JOIN fresh f USING (p)
  ), moved AS (
    UPDATE orderhook.queues q SET
      cursor_xid = CASE WHEN (f.cursor_xid, f.cursor_id) > (q.cursor_xid, q.cursor_id)
        THEN f.cursor_xid ELSE q.cursor_xid END,
      cursor_id = CASE WHEN (f.cursor_xid, f.cursor_id) > (q.cursor_xid, q.cursor_id)
        THEN f.cursor_id ELSE q.cursor_id END,
      owed = q.owed - (SELECT count(*) FROM settled s WHERE s.p = f.p)
        + (SELECT count(*) FROM owed o
           WHERE o.is_new AND o.institution_id = f.institution_id AND o.interface_id = f.interface_id),
      abandoned = q.abandoned - (SELECT count(*) FROM resent s WHERE s.p = f.p)
        + (SELECT count(*) FROM abandoned o
           WHERE o.is_new AND o.institution_id = f.institution_id AND o.interface_id = f.interface_id),
      last_attempt_id = q.last_attempt_id + f.attempt_count,
      held_until = CASE WHEN f.sets_hold AND NOT f.deleted THEN f.held_until ELSE q.held_until END,
      last_commit = f.token
    FROM fresh f WHERE q.institution_id = f.institution_id AND q.interface_id = f.interface_id
  )
  SELECT p FROM locked`;

function commitValues(all: readonly Progress[]): Value[] {
  const cursors = all.map(({ cursor }) => cursor && toPlace(cursor));
  const settled = flatten(all, ({ settled, owed }) => without(settled, owed));
  const owed = flatten(all, (progress) => progress.owed);
  const resent = flatten(all, ({ resent, abandoned }) => without(resent, abandoned));
  const abandoned = flatten(all, (progress) => progress.abandoned);
  const executions = flatten(all, (progress) => progress.executions);
  const resends = flatten(all, ({ resend }) => (resend ? [resend] : []));
  const ran = flatten(all, ({ ranAt = [] }) => [
    ...new Map(ranAt.map((run) => [run.scheduleId, run])).values(),
  ]);
  const attempts = flatten(all, (progress) => progress.attempts);
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
    int4Array(settled.places),
    int8Array(settled.items),
    int4Array(owed.places),
    int8Array(owed.items.map(({ closingId }) => closingId)),
    int8Array(owed.items.map(({ orderId }) => orderId)),
    int4Array(owed.items.map((each) => each.attempts)),
    int8Array(owed.items.map(({ dueAt }) => dueAt)),
    int4Array(resent.places),
    int8Array(resent.items),
    int4Array(abandoned.places),
    int8Array(abandoned.items.map(({ closingId }) => closingId)),
    int8Array(abandoned.items.map(({ orderId }) => orderId)),
    int4Array(abandoned.items.map((each) => each.attempts)),
    int4Array(executions.places),
    int8Array(executions.items.map(({ id }) => id)),
    int8Array(executions.items.map(({ scheduleId }) => scheduleId)),
    textArray(executions.items.map(({ trigger }) => trigger)),
    textArray(executions.items.map(({ status }) => status)),
    int8Array(executions.items.map(({ startedAt }) => startedAt)),
    int8Array(executions.items.map(({ endedAt }) => endedAt)),
    int4Array(executions.items.map(({ looked }) => looked)),
    int4Array(executions.items.map(({ filteredOut }) => filteredOut)),
    int4Array(executions.items.map(({ called }) => called)),
    int4Array(executions.items.map(({ delivered }) => delivered)),
    int4Array(executions.items.map(({ failed }) => failed)),
    int4Array(executions.items.map((each) => each.abandoned)),
    textArray(executions.items.map(({ message }) => message)),
    int4Array(resends.places),
    int8Array(resends.items.map(({ executionId }) => executionId)),
    int8Array(resends.items.map(({ sentUpTo }) => sentUpTo)),
    int4Array(ran.places),
    int8Array(ran.items.map(({ scheduleId }) => scheduleId)),
    int8Array(ran.items.map(({ at }) => at)),
    int4Array(attempts.places),
    int4Array(attempts.ordinals),
    ...attemptValues(attempts.items),
  ];
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

function onePerInterface(all: readonly Progress[]): [Progress[], Progress[]] {
  const seen = new Set<number>();
  const [now, later]: [Progress[], Progress[]] = [[], []];
  for (const progress of all) {
    (seen.has(progress.interfaceId) ? later : now).push(progress);
    seen.add(progress.interfaceId);
  }
  return [now, later];
}

function toEngineInterface(row: Row): EngineInterface {
  const requests = (row.requests ?? []) as Row[];
  return {
    institutionCode: row.code as string,
    externalInterface: toInterface(row),
    schedules: ((row.schedules ?? []) as Row[]).map(toSchedule),
    ...(row.allow_private === null ? {} : { opening: { allowPrivate: row.allow_private as boolean } }),
    requestedRuns: requests
      .filter(({ trigger }) => trigger === 'MANUAL')
      .map((request) => ({
        executionId: request.execution_id as number,
        scheduleId: request.schedule_id as number,
      })),
    resends: requests
      .filter(({ trigger }) => trigger === 'RESEND')
      .map((resend) => ({
        executionId: resend.execution_id as number,
        isBegun: resend.begun as boolean,
        sentUpTo: resend.sent_up_to as number,
        isCancelled: resend.cancelled as boolean,
        isFiltered: resend.kind === 'closed_between',
        execution: toExecution(resend),
      })),
    cursor: cursorOf(row),
    owed: row.owed as number,
    ...optional('owedDueAt', row.owed_due_at as number | null),
    ...optional('heldUntil', row.held_until as number | null),
  };
}

function cursorOf(row: Row): Position {
  return toPosition({
    xid: row.cursor_xid as number,
    closingId: row.cursor_id as number,
    birth: {
      xmax: row.first_xmax as number,
      running: (row.first_running as (number | string)[]).map(Number),
    },
  });
}

type WaitingColumns = [xid: number, closingId: ClosingId, orderId: string, details?: string | null];

function toWaiting(
  [xid, closingId, orderId, details]: WaitingColumns,
  birth: Birth | undefined,
): WaitingClosing {
  const position = toPosition({ xid, closingId, ...(birth ? { birth } : {}) });
  return { closingId, orderId, position, ...optional('details', details) };
}

type OwedColumns = [
  closingId: ClosingId,
  orderId: string,
  attempts: number,
  dueAt: number,
  details: string | null,
];

function toOwed([closingId, orderId, attempts, dueAt, details]: OwedColumns): OwedDelivery {
  return { closingId, orderId, attempts, dueAt, ...optional('details', details) };
}
