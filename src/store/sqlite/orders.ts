/** Orders and their closings: what comes in. An order and its closing are always one commit. */
import type { Closing, ClosingId } from '../../model/delivery.ts';
import type { InstitutionId } from '../../model/entities.ts';
import { CLOSED, type OrderId, parseOrderId, withState } from '../../model/order.ts';
import { keptDetails, optional, toDelivery, toPage, wrongCursor } from '../rows.ts';
import type { Change, OrderPut, OrderStore, OrderStored } from '../store.ts';
import { type Database, orderIdValue, type Row } from './database.ts';
import { orderRemover } from './removal.ts';

export function orderStore(db: Database, publish: (change: Change) => void): OrderStore {
  const existing = db.prepareArrays(
    'SELECT rowid, order_state, last_closing_id FROM orders WHERE institution_id = ? AND order_id = ?',
  );
  const insert = db.prepare(
    `INSERT INTO orders (institution_id, order_id, order_state, last_closing_id, updated_at, details)
     VALUES (?, ?, ?, ?, ?, ?)`,
  );
  const update = db.prepare(
    `UPDATE orders SET order_state = ?, last_closing_id = ?, updated_at = ?, details = ?, removed_at = NULL
     WHERE rowid = ?`,
  );
  const lastClosing = db.prepareArrays('SELECT last_closing_id FROM institutions WHERE institution_id = ?');
  const setLastClosing = db.prepare('UPDATE institutions SET last_closing_id = ? WHERE institution_id = ?');
  const insertClosing = db.prepare(
    `INSERT INTO closings (institution_id, closing_id, order_id, closed_at, previous_closing_id)
     VALUES (?, ?, ?, ?, ?)`,
  );
  const select = db.prepare(
    `SELECT order_state, last_closing_id, updated_at, removed_at, details FROM orders
     WHERE institution_id = ? AND order_id = ?`,
  );
  const closingById = db.prepare(
    'SELECT closed_at, previous_closing_id FROM closings WHERE institution_id = ? AND closing_id = ?',
  );
  const columns = `CAST(o.order_id AS TEXT) AS order_id, o.order_state, o.updated_at, o.removed_at, c.closed_at
    FROM orders o LEFT JOIN closings c ON c.institution_id = o.institution_id AND c.closing_id = o.last_closing_id
    WHERE o.institution_id = ?`;
  const page = db.prepare(`SELECT ${columns} AND o.order_id < ? ORDER BY o.order_id DESC LIMIT ?`);
  const firstPage = db.prepare(`SELECT ${columns} ORDER BY o.order_id DESC LIMIT ?`);
  const pageOfState = db.prepare(
    `SELECT ${columns} AND o.order_state = ? AND o.order_id < ? ORDER BY o.order_id DESC LIMIT ?`,
  );
  const firstPageOfState = db.prepare(
    `SELECT ${columns} AND o.order_state = ? ORDER BY o.order_id DESC LIMIT ?`,
  );
  const one = db.prepare(`SELECT ${columns} AND o.order_id = ?`);
  const deliveries = db.prepare(`
    SELECT i.interface_id, q.first_closing_id, :closingId AS closing_id, :closedAt AS closed_at,
           :closingId > q.cursor AS is_waiting, o.attempts AS owed_attempts,
           CASE WHEN o.due_at > 0 THEN max(o.due_at, coalesce(q.held_until, 0)) END AS due_at,
           a.attempts AS abandoned_attempts,
           l.started_at AS last_started_at, l.reason, l.detail,
           (SELECT value FROM upkeep WHERE name = 'attempts_removed_before') AS removed_before,
           (SELECT outcome FROM attempts t WHERE t.interface_id = i.interface_id AND t.order_id = :orderId
              AND t.closing_id = :closingId AND t.trigger <> 'TEST' AND t.outcome IN ('DELIVERED', 'SIMULATED')
            ORDER BY t.attempt_id DESC LIMIT 1) AS outcome,
           (SELECT count(*) FROM attempts t WHERE t.interface_id = i.interface_id AND t.order_id = :orderId
              AND t.closing_id = :closingId AND t.trigger <> 'TEST') AS attempts
    FROM interfaces i JOIN queues q USING (interface_id)
    LEFT JOIN owed o ON o.interface_id = i.interface_id AND o.closing_id = :closingId
    LEFT JOIN abandoned a ON a.interface_id = i.interface_id AND a.closing_id = :closingId
    LEFT JOIN attempts l ON l.interface_id = i.interface_id AND l.attempt_id =
      (SELECT t.attempt_id FROM attempts t WHERE t.interface_id = i.interface_id AND t.order_id = :orderId
         AND t.closing_id = :closingId AND t.trigger <> 'TEST' ORDER BY t.attempt_id DESC LIMIT 1)
    WHERE i.institution_id = :institutionId AND i.deleted_at IS NULL ORDER BY i.interface_id`);

  const remove = orderRemover(db);

  /** Numbers closings of the institutions of one transaction, and keeps the numbers when it ends. */
  function closingNumbers() {
    const last = new Map<InstitutionId, number>();
    return {
      next(institutionId: InstitutionId): ClosingId {
        const known = last.get(institutionId) ?? (lastClosing.get(institutionId) as unknown as [number])[0];
        last.set(institutionId, known + 1);
        return known + 1;
      },
      keep(): void {
        for (const [institutionId, id] of last) setLastClosing.run(id, institutionId);
      },
      get institutionIds(): InstitutionId[] {
        return [...last.keys()];
      },
    };
  }

  function put(given: OrderPut, numbers: ReturnType<typeof closingNumbers>, now: number): OrderStored {
    const { institutionId, orderId, orderState, details } = given;
    const id = orderIdValue(orderId);
    const found = existing.get(institutionId, id) as unknown as [number, string, number | null] | undefined;
    const closes = orderState === CLOSED && found?.[1] !== CLOSED;
    const lastClosingId = found?.[2] ?? null;
    const closingId = closes ? numbers.next(institutionId) : lastClosingId;
    if (closes) insertClosing.run(institutionId, closingId, id, now, lastClosingId);
    if (found) update.run(orderState, closingId, now, details, found[0]);
    else insert.run(institutionId, id, orderState, closingId, now, details);
    return closes
      ? { orderId, orderState, closing: { closingId: closingId as number, orderId, closedAt: now } }
      : { orderId, orderState };
  }

  return {
    async putOrders(puts, closedAt) {
      const numbers = closingNumbers();
      const stored = db.write(() => {
        const results: OrderStored[] = [];
        for (const given of puts) results.push(put(given, numbers, closedAt));
        numbers.keep();
        return results;
      });
      if (numbers.institutionIds.length > 0)
        publish({ kind: 'closings', institutionIds: numbers.institutionIds });
      return stored;
    },

    async closeOrder(institutionId, orderId, closedAt) {
      const numbers = closingNumbers();
      const result = db.write(() => {
        const row = select.get(institutionId, orderIdValue(orderId));
        if (!row || (row.removed_at !== null && row.order_state !== CLOSED)) return undefined;
        if (row.order_state === CLOSED && row.last_closing_id !== null) {
          const closingId = row.last_closing_id as number;
          const closing = closingById.get(institutionId, closingId);
          const at = (closing?.closed_at ?? row.updated_at) as number;
          return { closing: { closingId, orderId, closedAt: at }, alreadyClosed: true };
        }
        const details = withState(row.details as string, CLOSED);
        const { closing } = put({ institutionId, orderId, orderState: CLOSED, details }, numbers, closedAt);
        numbers.keep();
        return { closing: closing as Closing, alreadyClosed: false };
      });
      if (result && !result.alreadyClosed) publish({ kind: 'closings', institutionIds: [institutionId] });
      return result;
    },

    async order(institutionId, orderId) {
      const row = db.read(() => select.get(institutionId, orderIdValue(orderId)));
      return (
        row && {
          orderId,
          orderState: row.order_state as string,
          ...keptDetails(row.details as string),
          updatedAt: row.updated_at as number,
          ...optional('removedAt', row.removed_at as number | null),
        }
      );
    },

    async removeOrder(institutionId, orderId, now) {
      return remove(institutionId, orderId, now);
    },

    async orders(institutionId, { limit, cursor, state, orderId }) {
      const rows = db.read((): Row[] => {
        if (orderId !== undefined) {
          const row = one.get(institutionId, orderIdValue(orderId));
          return row && (state === undefined || row.order_state === state) ? [row] : [];
        }
        if (cursor === undefined) {
          return state === undefined
            ? firstPage.all(institutionId, limit + 1)
            : firstPageOfState.all(institutionId, state, limit + 1);
        }
        const before = parseOrderId(cursor);
        if (before === undefined) throw wrongCursor();
        return state === undefined
          ? page.all(institutionId, orderIdValue(before), limit + 1)
          : pageOfState.all(institutionId, state, orderIdValue(before), limit + 1);
      });
      const orders = rows.map((row) => ({
        orderId: row.order_id as OrderId,
        orderState: row.order_state as string,
        updatedAt: row.updated_at as number,
        ...optional('lastClosedAt', row.closed_at as number | null),
        ...optional('removedAt', row.removed_at as number | null),
      }));
      return toPage(orders, limit, (order) => order.orderId);
    },

    async closingsOf(institutionId, orderId, limit) {
      return db.read(() => {
        const closings: Closing[] = [];
        let closingId = select.get(institutionId, orderIdValue(orderId))?.last_closing_id as
          | number
          | null
          | undefined;
        while (closingId && closings.length < limit) {
          const row = closingById.get(institutionId, closingId);
          if (!row) break; // retention has removed it and all before it
          closings.push({ closingId, orderId, closedAt: row.closed_at as number });
          closingId = row.previous_closing_id as number | null;
        }
        return closings;
      });
    },

    async deliveriesOf(institutionId, closings) {
      return db.read(() =>
        closings.flatMap(({ closingId, orderId, closedAt }) =>
          deliveries
            .all({ institutionId, closingId, orderId: orderIdValue(orderId), closedAt })
            .filter((row) => closingId > (row.first_closing_id as number))
            .map(toDelivery),
        ),
      );
    },
  };
}
