/** The engine's side: the log read forward from a cursor, the owed list, and the one commit that moves them. */

import type { ClosingId } from '../../model/delivery.ts';
import type { Execution, InstitutionId } from '../../model/entities.ts';
import { keptDetails, type OwedColumns, optional, toExecution, toOwed, toSchedule } from '../rows.ts';
import type { Change, EngineInterface, Position, Progress, QueueStore, WaitingClosing } from '../store.ts';
import { attemptWriter } from './call-log.ts';
import { type Database, orderIdValue, type Row } from './database.ts';
import { toInterface } from './interfaces.ts';

/** A read ends with so many characters of details: it is one of many small ones, since it costs little here. */
const PIECE_CHARACTERS_MAX = 512 * 1024;

// In SQLite a position in the log is the id of the closing there.
const toPosition = (closingId: ClosingId) => closingId as unknown as Position;
const toClosingId = (position: Position) => position as unknown as ClosingId;

export function queueStore(
  db: Database,
  publish: (change: Change) => void,
): Omit<QueueStore, 'callTemplateId'> {
  const writeAttempts = attemptWriter(db);
  const engineColumns = `i.*, t.code, q.cursor, q.owed, q.held_until, q.hold_lifted_at, p.allow_private,
      (SELECT min(due_at) FROM owed d WHERE d.interface_id = i.interface_id) AS owed_due_at
    FROM interfaces i JOIN institutions t USING (institution_id) JOIN queues q USING (interface_id)
    LEFT JOIN proxy_openings p
      ON p.institution_id = i.institution_id AND p.destination = i.destination AND p.state = 'OPEN'
    WHERE i.deleted_at IS NULL`;
  const everyInterface = db.prepare(`SELECT ${engineColumns} ORDER BY i.interface_id`);
  const interfacesOf = db.prepare(`SELECT ${engineColumns} AND i.institution_id = ? ORDER BY i.interface_id`);
  const oneInterface = db.prepare(`SELECT ${engineColumns} AND i.institution_id = ? AND i.interface_id = ?`);
  const schedulesOf = db.prepare('SELECT * FROM schedules WHERE interface_id = ? ORDER BY schedule_id');
  const requestsOf = db.prepare(
    `SELECT execution_id, schedule_id FROM executions
     WHERE interface_id = ? AND status = 'RUNNING' AND begun = 0 AND trigger = 'MANUAL' ORDER BY execution_id`,
  );
  const resendsOf = db.prepare(
    `SELECT e.*, r.sent_up_to, r.cancelled, r.kind FROM executions e JOIN resends r USING (execution_id)
     WHERE e.interface_id = ? AND e.status = 'RUNNING' ORDER BY e.execution_id`,
  );
  const reserve = db.prepareArrays(
    "UPDATE counters SET next = next + ? WHERE name = 'execution' RETURNING next",
  );
  const waiting = db.prepareArrays(
    `SELECT closing_id, CAST(order_id AS TEXT) FROM closings
     WHERE institution_id = ? AND closing_id > ? ORDER BY closing_id LIMIT ?`,
  );
  const waitingWithDetails = db.prepareArrays(
    `SELECT c.closing_id, CAST(c.order_id AS TEXT), o.details
     FROM closings c LEFT JOIN orders o ON o.institution_id = c.institution_id AND o.order_id = c.order_id
     WHERE c.institution_id = ? AND c.closing_id > ? ORDER BY c.closing_id LIMIT ?`,
  );
  const owed = db.prepareArrays(
    `SELECT d.closing_id, CAST(d.order_id AS TEXT), d.attempts, d.due_at, NULL FROM owed d
     WHERE d.interface_id = ? AND (d.due_at, d.closing_id) > (?, ?) AND d.due_at <= ?
     ORDER BY d.due_at, d.closing_id LIMIT ?`,
  );
  const owedWithDetails = db.prepareArrays(
    `SELECT d.closing_id, CAST(d.order_id AS TEXT), d.attempts, d.due_at, o.details
     FROM owed d LEFT JOIN orders o ON o.institution_id = ? AND o.order_id = d.order_id
     WHERE d.interface_id = ? AND (d.due_at, d.closing_id) > (?, ?) AND d.due_at <= ?
     ORDER BY d.due_at, d.closing_id LIMIT ?`,
  );
  const alive = db.prepare('SELECT 1 FROM interfaces WHERE interface_id = ? AND deleted_at IS NULL');
  const removeOwed = db.prepare('DELETE FROM owed WHERE interface_id = ? AND closing_id = ?');
  const hasOwed = db.prepare('SELECT 1 FROM owed WHERE interface_id = ? AND closing_id = ?');
  const putOwed = db.prepare(
    `INSERT INTO owed (interface_id, closing_id, order_id, attempts, due_at) VALUES (?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET attempts = excluded.attempts, due_at = excluded.due_at`,
  );
  const putAbandoned = db.prepare(
    `INSERT INTO abandoned (interface_id, closing_id, order_id, attempts) VALUES (?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET attempts = excluded.attempts`,
  );
  const moveQueue = db.prepare(
    `UPDATE queues SET cursor = max(cursor, coalesce(?, cursor)), owed = owed + ?, abandoned = abandoned + ?
     WHERE interface_id = ?`,
  );
  const hold = db.prepare('UPDATE queues SET held_until = ? WHERE interface_id = ?');
  const putExecution = db.prepare(
    `INSERT INTO executions (execution_id, institution_id, interface_id, schedule_id, trigger, status, begun,
       started_at, ended_at, looked, filtered_out, called, delivered, failed, abandoned, message)
     VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET status = excluded.status, begun = 1, started_at = excluded.started_at,
       ended_at = excluded.ended_at, looked = excluded.looked, filtered_out = excluded.filtered_out,
       called = excluded.called, delivered = excluded.delivered, failed = excluded.failed,
       abandoned = excluded.abandoned, message = excluded.message`,
  );
  const ran = db.prepare('UPDATE schedules SET last_run_at = ?, last_status = ? WHERE schedule_id = ?');
  const interrupted = db.prepare(
    `UPDATE executions SET status = 'ERROR', ended_at = ?, message = ?
     WHERE interface_id = ? AND status = 'RUNNING' AND begun = 1 AND trigger <> 'RESEND'`,
  );
  const removeAbandoned = db.prepare('DELETE FROM abandoned WHERE interface_id = ? AND closing_id = ?');
  const hasAbandoned = db.prepare('SELECT 1 FROM abandoned WHERE interface_id = ? AND closing_id = ?');
  const moveResend = db.prepare('UPDATE resends SET sent_up_to = ? WHERE execution_id = ?');
  const forgetResendOrders = db.prepare('DELETE FROM resend_orders WHERE execution_id = ?');

  function toEngineInterface(row: Row): EngineInterface {
    const id = row.interface_id as number;
    return {
      institutionCode: row.code as string,
      externalInterface: toInterface(row),
      schedules: schedulesOf.all(id).map(toSchedule),
      ...(row.allow_private === null ? {} : { opening: { allowPrivate: row.allow_private === 1 } }),
      requestedRuns: requestsOf.all(id).map((request) => ({
        executionId: request.execution_id as number,
        scheduleId: request.schedule_id as number,
      })),
      resends: resendsOf.all(id).map((resend) => ({
        executionId: resend.execution_id as number,
        isBegun: resend.begun === 1,
        sentUpTo: resend.sent_up_to as number,
        isCancelled: resend.cancelled === 1,
        isFiltered: resend.kind === 'closed_between',
        execution: toExecution(resend),
      })),
      cursor: toPosition(row.cursor as number),
      owed: row.owed as number,
      ...optional('owedDueAt', row.owed_due_at as number | null),
      ...optional('heldUntil', row.held_until as number | null),
      ...optional('holdLiftedAt', row.hold_lifted_at as number | null),
    };
  }

  function commit(progress: Progress): void {
    const id = progress.interfaceId;
    if (progress.attempts.length > 0) writeAttempts(id, progress.attempts);
    for (const execution of progress.executions) writeExecution(execution);
    if (!alive.get(id)) return; // it was deleted while it was worked: its queue is gone
    let owedChange = 0;
    let abandonedChange = 0;
    for (const closingId of progress.settled) owedChange -= Number(removeOwed.run(id, closingId).changes);
    for (const { closingId, orderId, attempts, dueAt } of progress.owed) {
      if (!hasOwed.get(id, closingId)) owedChange += 1;
      putOwed.run(id, closingId, orderIdValue(orderId), attempts, dueAt);
    }
    for (const closingId of progress.resent)
      abandonedChange -= Number(removeAbandoned.run(id, closingId).changes);
    for (const { closingId, orderId, attempts } of progress.abandoned) {
      if (!hasAbandoned.get(id, closingId)) abandonedChange += 1;
      putAbandoned.run(id, closingId, orderIdValue(orderId), attempts);
    }
    if (progress.resend) moveResend.run(progress.resend.sentUpTo, progress.resend.executionId);
    const cursor = progress.cursor === undefined ? null : toClosingId(progress.cursor);
    moveQueue.run(cursor, owedChange, abandonedChange, id);
    if (progress.heldUntil !== undefined) hold.run(progress.heldUntil, id);
    for (const { scheduleId, at, status } of progress.ranAt ?? []) ran.run(at, status, scheduleId);
  }

  function writeExecution(execution: Execution): void {
    putExecution.run(
      execution.id,
      execution.institutionId,
      execution.interfaceId,
      execution.scheduleId ?? null,
      execution.trigger,
      execution.status,
      execution.startedAt,
      execution.endedAt ?? null,
      execution.looked,
      execution.filteredOut,
      execution.called,
      execution.delivered,
      execution.failed,
      execution.abandoned,
      execution.message ?? null,
    );
    if (execution.trigger === 'RESEND' && execution.endedAt !== undefined)
      forgetResendOrders.run(execution.id);
  }

  return {
    async engineInterfaces(institutionId) {
      return db.read(() =>
        (institutionId === undefined ? everyInterface.all() : interfacesOf.all(institutionId)).map(
          toEngineInterface,
        ),
      );
    },

    async engineInterface(institutionId, id) {
      return db.read(() => {
        const row = oneInterface.get(institutionId, id);
        return row && toEngineInterface(row);
      });
    },

    async reserveExecutionIds(count) {
      return db.write(() => (reserve.get(count) as unknown as [number])[0] - count);
    },

    async owed(institutionId, interfaceId, { dueBy, after, limit, withDetails }) {
      const keys = [
        interfaceId,
        after?.dueAt ?? -1,
        after?.closingId ?? 0,
        dueBy ?? Number.MAX_SAFE_INTEGER,
        limit,
      ] as const;
      return db.read(() => {
        const rows = (withDetails
          ? owedWithDetails.all(institutionId, ...keys)
          : owed.all(...keys)) as unknown as OwedColumns[];
        return rows.map(toOwed);
      });
    },

    async waiting(institutionId: InstitutionId, after, { limit, withDetails }) {
      const from = toClosingId(after);
      return db.read(() => {
        if (!withDetails) {
          const rows = waiting.all(institutionId, from, limit) as unknown as [ClosingId, string][];
          return rows.map(([closingId, orderId]) => ({
            closingId,
            orderId,
            position: toPosition(closingId),
          }));
        }
        return readWithDetails(waitingWithDetails.iterate(institutionId, from, limit) as Iterable<unknown>);
      });
    },

    async commitProgress(progress) {
      db.write(() => {
        for (const one of progress) commit(one);
      });
      const executionIds = progress.flatMap(({ executions }) =>
        executions.filter(({ endedAt }) => endedAt !== undefined).map(({ id }) => id),
      );
      if (executionIds.length > 0) publish({ kind: 'executions_ended', executionIds });
      return [];
    },

    async endInterrupted(_institutionId, interfaceId, message, now) {
      db.write(() => interrupted.run(now, message, interfaceId));
    },
  };
}

function readWithDetails(rows: Iterable<unknown>): WaitingClosing[] {
  const closings: WaitingClosing[] = [];
  let characters = 0;
  for (const row of rows) {
    const [closingId, orderId, details] = row as [ClosingId, string, string | null];
    closings.push({ closingId, orderId, position: toPosition(closingId), ...keptDetails(details) });
    characters += details?.length ?? 0;
    if (characters >= PIECE_CHARACTERS_MAX) break;
  }
  return closings;
}
