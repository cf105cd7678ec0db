/** Resends: a second read of the log, or of a list, that does not move the queue. */
import type { ClosingId } from '../../model/delivery.ts';
import type { InstitutionId, InterfaceId } from '../../model/entities.ts';
import { keptDetails, toExecution } from '../rows.ts';
import type { Change, ResendDelivery, ResendSelection, ResendStore } from '../store.ts';
import { READ_CHARACTERS_MAX } from '../store.ts';
import { type Bindable, type Database, orderIdValue, type Row } from './database.ts';

type Counted = { count: number; firstClosingId: ClosingId; lastClosingId: ClosingId };

export function resendStore(db: Database, publish: (change: Change) => void): ResendStore {
  const known = db.prepare(
    'SELECT 1 FROM interfaces WHERE institution_id = ? AND interface_id = ? AND deleted_at IS NULL',
  );
  const newestClosing = db.prepareArrays(
    `SELECT last_closing_id FROM orders WHERE institution_id = ? AND order_id = ?
       AND last_closing_id <= (SELECT cursor FROM queues WHERE interface_id = ?)`,
  );
  const countAbandoned = db.prepareArrays(
    `SELECT abandoned, 1, coalesce((SELECT max(closing_id) FROM abandoned a WHERE a.interface_id = q.interface_id), 0)
     FROM queues q WHERE interface_id = ?`,
  );
  const countOwed = db.prepareArrays(
    `SELECT owed, 1, coalesce((SELECT max(closing_id) FROM owed d WHERE d.interface_id = q.interface_id), 0)
     FROM queues q WHERE interface_id = ?`,
  );
  const countBetween = db.prepareArrays(
    `SELECT count(*), coalesce(min(closing_id), 1), coalesce(max(closing_id), 0) FROM closings
     WHERE institution_id = ? AND closed_at >= ? AND closed_at < ?
       AND closing_id <= (SELECT cursor FROM queues WHERE interface_id = ?)`,
  );
  const reserve = db.prepareArrays(
    "UPDATE counters SET next = next + 1 WHERE name = 'execution' RETURNING next - 1",
  );
  const insertExecution = db.prepare(
    `INSERT INTO executions (execution_id, institution_id, interface_id, trigger, status, begun, started_at, looked,
       filtered_out, called, delivered, failed, abandoned)
     VALUES (?, ?, ?, 'RESEND', 'RUNNING', 0, ?, 0, 0, 0, 0, 0, 0) RETURNING *`,
  );
  const insert = db.prepare(
    `INSERT INTO resends (execution_id, institution_id, interface_id, kind, count, closed_from, closed_to,
       last_closing_id, sent_up_to)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const insertOrder = db.prepare(
    'INSERT INTO resend_orders (execution_id, closing_id, order_id) VALUES (?, ?, ?)',
  );
  const find = db.prepare('SELECT * FROM resends WHERE execution_id = ? AND institution_id = ?');
  const lists = `d.attempts AS owed_attempts, a.attempts AS abandoned_attempts, %details% AS details
    FROM %source% c
    LEFT JOIN owed d ON d.interface_id = :interfaceId AND d.closing_id = c.closing_id
    LEFT JOIN abandoned a ON a.interface_id = :interfaceId AND a.closing_id = c.closing_id
    %orders%
    WHERE %where% AND c.closing_id > :after AND c.closing_id <= :last ORDER BY c.closing_id LIMIT :limit`;
  const statement = (source: string, where: string) => {
    const make = (details: string, orders: string) =>
      db.prepare(
        `SELECT c.closing_id, CAST(c.order_id AS TEXT) AS order_id, ${lists
          .replace('%details%', details)
          .replace('%source%', source)
          .replace('%orders%', orders)
          .replace('%where%', where)}`,
      );
    const join = 'LEFT JOIN orders o ON o.institution_id = :institutionId AND o.order_id = c.order_id';
    return { plain: make('NULL', ''), withDetails: make('o.details', join) };
  };
  const deliveries = {
    orders: statement('resend_orders', 'c.execution_id = :executionId'),
    abandoned: statement('abandoned', 'c.interface_id = :interfaceId'),
    owed: statement('owed', 'c.interface_id = :interfaceId'),
    closed_between: statement(
      'closings',
      'c.institution_id = :institutionId AND c.closed_at >= :from AND c.closed_at < :to',
    ),
  };
  const cancel = db.prepare(
    `UPDATE resends SET cancelled = 1 WHERE execution_id = ? AND institution_id = ?
       AND EXISTS (SELECT 1 FROM executions e WHERE e.execution_id = resends.execution_id AND e.status = 'RUNNING')`,
  );

  function count(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    selection: ResendSelection,
  ): Counted {
    if (selection.kind === 'orders') {
      const ids = closingsOf(institutionId, interfaceId, selection.orderIds).map(([closingId]) => closingId);
      return { count: ids.length, firstClosingId: 1, lastClosingId: Math.max(0, ...ids) };
    }
    const row =
      selection.kind === 'closed_between'
        ? countBetween.get(institutionId, selection.from, selection.to, interfaceId)
        : (selection.kind === 'owed' ? countOwed : countAbandoned).get(interfaceId);
    const [total, firstClosingId, lastClosingId] = row as unknown as [number, number, number];
    return { count: total, firstClosingId, lastClosingId };
  }

  /** Each order's newest closing, once. Orders that never closed are left out, and those that the queue will call anyway. */
  function closingsOf(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    orderIds: readonly string[],
  ): [ClosingId, string][] {
    return [...new Set(orderIds)].flatMap((orderId): [ClosingId, string][] => {
      const row = newestClosing.get(institutionId, orderIdValue(orderId), interfaceId) as unknown as
        | [ClosingId]
        | undefined;
      return row ? [[row[0], orderId]] : [];
    });
  }

  return {
    async countResend(institutionId, interfaceId, selection) {
      return db.read(() =>
        known.get(institutionId, interfaceId)
          ? count(institutionId, interfaceId, selection).count
          : undefined,
      );
    },

    async requestResend(institutionId, interfaceId, selection, now) {
      const requested = db.write(() => {
        if (!known.get(institutionId, interfaceId)) return undefined;
        const counted = count(institutionId, interfaceId, selection);
        const [executionId] = reserve.get() as unknown as [number];
        const row = insertExecution.get(executionId, institutionId, interfaceId, now) as Row;
        const { from = null, to = null } = selection.kind === 'closed_between' ? selection : {};
        const { firstClosingId, lastClosingId } = counted;
        const keys: Bindable[] = [
          executionId,
          institutionId,
          interfaceId,
          selection.kind,
          counted.count,
          from,
          to,
        ];
        insert.run(...keys, lastClosingId, firstClosingId - 1);
        if (selection.kind === 'orders') {
          for (const [closingId, orderId] of closingsOf(institutionId, interfaceId, selection.orderIds)) {
            insertOrder.run(executionId, closingId, orderIdValue(orderId));
          }
        }
        return { count: counted.count, execution: toExecution(row) };
      });
      if (requested) publish({ kind: 'configuration', institutionId });
      return requested;
    },

    async resendDeliveries(institutionId, executionId, { after, limit, withDetails }) {
      return db.read(() => {
        const resend = find.get(executionId, institutionId);
        if (!resend) return [];
        const { plain, withDetails: detailed } = deliveries[resend.kind as keyof typeof deliveries];
        const parameters: Record<string, Bindable> = {
          interfaceId: resend.interface_id as number,
          after: Math.max(after, resend.sent_up_to as number),
          last: resend.last_closing_id as number,
          limit,
        };
        if (resend.kind === 'orders') parameters.executionId = executionId;
        if (resend.kind === 'closed_between') {
          Object.assign(parameters, { from: resend.closed_from, to: resend.closed_to });
        }
        if (resend.kind === 'closed_between' || withDetails) parameters.institutionId = institutionId;
        return readBounded((withDetails ? detailed : plain).iterate(parameters));
      });
    },

    async cancelResend(institutionId, executionId) {
      const found = db.write(() => cancel.run(executionId, institutionId).changes === 1);
      if (found) publish({ kind: 'configuration', institutionId });
      return found;
    },

    async resendCount(institutionId, executionId) {
      return db.read(() => find.get(executionId, institutionId)?.count) as number | undefined;
    },
  };
}

function readBounded(rows: Iterable<Row>): ResendDelivery[] {
  const deliveries: ResendDelivery[] = [];
  let characters = 0;
  for (const row of rows) {
    const list =
      row.owed_attempts !== null ? 'owed' : row.abandoned_attempts !== null ? 'abandoned' : undefined;
    deliveries.push({
      closingId: row.closing_id as number,
      orderId: row.order_id as string,
      attempts: (row.owed_attempts ?? row.abandoned_attempts ?? 0) as number,
      list,
      ...keptDetails(row.details as string | null),
    });
    characters += (row.details as string | null)?.length ?? 0;
    if (characters >= READ_CHARACTERS_MAX) break;
  }
  return deliveries;
}
