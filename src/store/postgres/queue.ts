/** The engine's side: the log read forward from a cursor, the owed list, and the one commit that moves them. */
import type { ClosingId } from '../../model/delivery.ts';
import type { Execution, InstitutionId } from '../../model/entities.ts';
import {
  keptDetails,
  type OwedColumns,
  optional,
  type Row,
  toExecution,
  toOwed,
  toSchedule,
} from '../rows.ts';
import type { Change, EngineInterface, Position, Progress, QueueStore, WaitingClosing } from '../store.ts';
import { READ_CHARACTERS_MAX } from '../store.ts';
import { int8Array } from './arrays.ts';
import { progressCommit } from './commit.ts';
import type { Database, Statement } from './database.ts';
import { toInterface } from './interfaces.ts';
import { type Birth, type Place, toPlace, toPosition } from './log-position.ts';
import { detailsOf } from './orders.ts';
import { makePartitions, withPartitions } from './partitions.ts';

/** Told of reads that ended before closings which are committed and cannot be read yet. */
export type LogWatch = { reachedEnd(institutionId: InstitutionId, end: Place): void };

export function queueStore(
  db: Database,
  publish: (change: Change, elsewhere?: Change | null) => void,
  watch: LogWatch,
): Omit<QueueStore, 'callTemplateId'> {
  const engineRows = (where: string) =>
    db.reading(
      `SELECT i.*, t.code, q.cursor_xid, q.cursor_id, q.first_xmax, q.first_running, q.owed, q.held_until, q.hold_lifted_at,
         p.allow_private,
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
         ${detailsOf('c')}
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
       FROM (${owedRows}) d ${detailsOf('d')}
     ) w WHERE bytes_before < ${READ_CHARACTERS_MAX} ORDER BY due_at, closing_id`,
  );
  const commit = progressCommit(db);
  const interrupted = db.writing(
    `UPDATE orderhook.executions SET status = 'ERROR', ended_at = $1, message = $2
     WHERE institution_id = $3 AND interface_id = $4 AND status = 'RUNNING' AND begun AND trigger <> 'RESEND'`,
  );
  const partitions = makePartitions(db);

  /** Commits at most one progress of each interface. */
  async function commitOnce(progress: readonly Progress[], nodeId: string): Promise<Progress[]> {
    const times = progress.flatMap(({ attempts }) => attempts.map(({ startedAt }) => startedAt));
    const done = await withPartitions(partitions, 'attempts', times, () => commit(progress, nodeId));
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
      const ended = progress
        .filter((one) => !lost.includes(one))
        .flatMap(({ executions }) => executions.filter(({ endedAt }) => endedAt !== undefined));
      if (ended.length > 0) {
        // Whoever asked for one waits, maybe at another node; nobody waits for those that run by themselves, and under a
        // continuous schedule there are hundreds a second.
        const asked = ended.filter(({ trigger }) => trigger !== 'AUTOMATIC');
        publish(endOf(ended), asked.length > 0 ? endOf(asked) : null);
      }
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

function endOf(executions: readonly Execution[]): Change {
  return { kind: 'executions_ended', executionIds: executions.map(({ id }) => id) };
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
    ...optional('holdLiftedAt', row.hold_lifted_at as number | null),
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
  return { closingId, orderId, position, ...keptDetails(details) };
}
