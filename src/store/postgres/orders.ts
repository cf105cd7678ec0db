/** Orders and their closings: what comes in. An order and its closing are always one commit. */
import type { Closing, ClosingId } from '../../model/delivery.ts';
import type { InstitutionId } from '../../model/entities.ts';
import { CLOSED, type OrderId, parseOrderId, withState } from '../../model/order.ts';
import { keptDetails, optional, type Row, toDelivery, toPage, wrongCursor } from '../rows.ts';
import { COMMIT_SPAN_ATTEMPTS } from '../shared-headers.ts';
import type { Change, OrderPut, OrderStore, OrderStored } from '../store.ts';
import { int4Array, int8Array, textArray } from './arrays.ts';
import { COMMIT_SPAN_MS } from './call-log.ts';
import type { Database } from './database.ts';
import { unavailable } from './trouble.ts';

/** Somebody changes the order each time between its reading and its closing. */
const CLOSE_TRIES_MAX = 10;

/**
 * Joins the orders `o` of rows with an order_id, of the institution $1. A plan is made before the limit is known, and for
 * what might be many rows the planner would rather read all orders; this way it has no choice.
 */
export function detailsOf(rows: string): string {
  return `LEFT JOIN LATERAL (SELECT details FROM orderhook.orders
    WHERE institution_id = $1 AND order_id = ${rows}.order_id LIMIT 1) o ON true`;
}

export function orderStore(db: Database, publish: (change: Change) => void): OrderStore {
  // The rule stands in migrations/postgres: the outbox follows the same one.
  const put = db.writing(
    `SELECT place, closing_id FROM orderhook.put_orders(
       $1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::integer[], $6::bigint)`,
  );
  const close = db.writing('SELECT * FROM orderhook.close_stored_order($1, $2, $3, $4, $5)');
  const select = db.reading(
    `SELECT order_state, updated_at, removed_at, details FROM orderhook.orders
     WHERE institution_id = $1 AND order_id = $2`,
  );
  const remove = db.writing('SELECT orderhook.remove_order($1, $2, $3, $4, $5) AS found');
  const columns = `SELECT order_id::text, order_state, updated_at, removed_at, last_closed_at FROM orderhook.orders
    WHERE institution_id = $1`;
  const order = 'ORDER BY orders.order_id DESC LIMIT';
  const page = db.reading(`${columns} AND order_id < $2 ${order} $3`);
  const firstPage = db.reading(`${columns} ${order} $2`);
  const pageOfState = db.reading(`${columns} AND order_state = $2 AND order_id < $3 ${order} $4`);
  const firstPageOfState = db.reading(`${columns} AND order_state = $2 ${order} $3`);
  const one = db.reading(`${columns} AND order_id = $2`);
  const chain = db.reading(
    `WITH RECURSIVE chain AS (
       SELECT 1 AS n, c.closing_id, c.closed_at, c.previous_closing_id, c.previous_closed_at
       FROM orderhook.orders o JOIN orderhook.closings c ON c.institution_id = o.institution_id
         AND c.closing_id = o.last_closing_id AND c.closed_at = o.last_closed_at
       WHERE o.institution_id = $1 AND o.order_id = $2
       UNION ALL
       SELECT n + 1, c.closing_id, c.closed_at, c.previous_closing_id, c.previous_closed_at
       FROM chain JOIN orderhook.closings c ON c.institution_id = $1
         AND c.closing_id = chain.previous_closing_id AND c.closed_at = chain.previous_closed_at
       WHERE n < $3
     )
     SELECT closing_id, closed_at FROM chain WHERE n <= $3 ORDER BY n`,
  );
  const deliveries = db.reading(`
    SELECT i.interface_id, c.closing_id, c.closed_at, o.attempts AS owed_attempts,
           CASE WHEN o.due_at > 0 THEN greatest(o.due_at, q.held_until) END AS due_at, a.attempts AS abandoned_attempts, l.started_at AS last_started_at, l.reason, l.detail,
           (SELECT value FROM orderhook.upkeep WHERE name = 'attempts_removed_before') AS removed_before,
           (c.xid, c.closing_id) > (q.cursor_xid, q.cursor_id) AS is_waiting,
           (SELECT t.outcome FROM orderhook.attempts t
            WHERE t.institution_id = $1 AND t.interface_id = i.interface_id AND t.order_id = c.order_id
              AND t.closing_id = c.closing_id AND t.trigger <> 'TEST' AND t.outcome IN ('DELIVERED', 'SIMULATED')
            ORDER BY t.attempt_id DESC LIMIT 1) AS outcome,
           (SELECT count(*) FROM orderhook.attempts t
            WHERE t.institution_id = $1 AND t.interface_id = i.interface_id AND t.order_id = c.order_id
              AND t.closing_id = c.closing_id AND t.trigger <> 'TEST') AS attempts
    FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS given (closing_id, closed_at, place)
    JOIN orderhook.closings c
      ON c.institution_id = $1 AND c.closing_id = given.closing_id AND c.closed_at = given.closed_at
    JOIN orderhook.interfaces i ON i.institution_id = $1 AND i.deleted_at IS NULL
    JOIN orderhook.queues q ON q.institution_id = $1 AND q.interface_id = i.interface_id
      AND c.xid >= q.first_xmin AND NOT (c.xid < q.first_xmax AND c.xid <> ALL (q.first_running))
    LEFT JOIN orderhook.owed o
      ON o.institution_id = $1 AND o.interface_id = i.interface_id AND o.closing_id = c.closing_id
    LEFT JOIN orderhook.abandoned a
      ON a.institution_id = $1 AND a.interface_id = i.interface_id AND a.closing_id = c.closing_id
    LEFT JOIN LATERAL (SELECT t.started_at, t.reason, t.detail FROM orderhook.attempts t
      WHERE t.institution_id = $1 AND t.interface_id = i.interface_id AND t.order_id = c.order_id
        AND t.closing_id = c.closing_id AND t.trigger <> 'TEST'
      ORDER BY t.attempt_id DESC LIMIT 1) l ON true
    ORDER BY given.place, i.interface_id`);

  return {
    async putOrders(puts, closedAt) {
      if (puts.length === 0) return [];
      const made = await put.arrays<[place: number, closingId: ClosingId]>(
        int8Array(puts.map(({ institutionId }) => institutionId)),
        int8Array(puts.map(({ orderId }) => orderId)),
        textArray(puts.map(({ orderState }) => orderState)),
        textArray(puts.map(({ details }) => details)),
        int4Array(segmentsOf(puts)),
        closedAt,
      );
      const closingIds = new Map(made);
      const institutionIds = new Set<InstitutionId>();
      const stored = puts.map(({ institutionId, orderId, orderState }, index): OrderStored => {
        const closingId = closingIds.get(index + 1);
        if (closingId === undefined) return { orderId, orderState };
        institutionIds.add(institutionId);
        return { orderId, orderState, closing: { closingId, orderId, closedAt } };
      });
      if (institutionIds.size > 0) publish({ kind: 'closings', institutionIds: [...institutionIds] });
      return stored;
    },

    async closeOrder(institutionId, orderId, closedAt) {
      for (let tries = 1; tries <= CLOSE_TRIES_MAX; tries += 1) {
        const stored = await select.row(institutionId, orderId);
        if (!stored || (stored.removed_at !== null && stored.order_state !== CLOSED)) return undefined;
        const details = stored.details as string;
        const closed = stored.removed_at === null ? withState(details, CLOSED) : details;
        const row = await close.row(institutionId, orderId, details, closed, closedAt);
        if (row?.result === 'unknown') return undefined;
        if (row?.result === 'changed') continue;
        const closing = {
          closingId: row?.closing_id as ClosingId,
          orderId,
          closedAt: row?.closed_at as number,
        };
        const alreadyClosed = row?.result === 'already_closed';
        if (!alreadyClosed) publish({ kind: 'closings', institutionIds: [institutionId] });
        return { closing, alreadyClosed };
      }
      throw unavailable(`The order ${orderId} is being changed over and over.`);
    },

    async order(institutionId, orderId) {
      const row = await select.row(institutionId, orderId);
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
      const row = await remove.row(institutionId, orderId, now, COMMIT_SPAN_ATTEMPTS, COMMIT_SPAN_MS);
      return row?.found === true;
    },

    async orders(institutionId, { limit, cursor, state, orderId }) {
      async function find(): Promise<Row[]> {
        if (orderId !== undefined) {
          const rows = await one.rows(institutionId, orderId);
          return rows.filter((row) => state === undefined || row.order_state === state);
        }
        if (cursor === undefined) {
          return state === undefined
            ? firstPage.rows(institutionId, limit + 1)
            : firstPageOfState.rows(institutionId, state, limit + 1);
        }
        const before = parseOrderId(cursor);
        if (before === undefined) throw wrongCursor();
        return state === undefined
          ? page.rows(institutionId, before, limit + 1)
          : pageOfState.rows(institutionId, state, before, limit + 1);
      }
      const orders = (await find()).map((row) => ({
        orderId: row.order_id as OrderId,
        orderState: row.order_state as string,
        updatedAt: row.updated_at as number,
        ...optional('lastClosedAt', row.last_closed_at as number | null),
        ...optional('removedAt', row.removed_at as number | null),
      }));
      return toPage(orders, limit, (each) => each.orderId);
    },

    async closingsOf(institutionId, orderId, limit) {
      const rows = await chain.rows(institutionId, orderId, limit);
      return rows.map(
        (row): Closing => ({
          closingId: row.closing_id as ClosingId,
          orderId,
          closedAt: row.closed_at as number,
        }),
      );
    },

    async deliveriesOf(institutionId, closings) {
      const rows = await deliveries.rows(
        institutionId,
        int8Array(closings.map(({ closingId }) => closingId)),
        int8Array(closings.map(({ closedAt }) => closedAt)),
      );
      return rows.map(toDelivery);
    },
  };
}

/**
 * One statement changes a row once. So a batch is cut before an order that it has had already, which then finds what was
 * done before; all parts are one commit.
 */
function segmentsOf(puts: readonly OrderPut[]): number[] {
  let segment = 0;
  let seen = new Set<string>();
  return puts.map(({ institutionId, orderId }) => {
    const key = `${institutionId} ${orderId}`;
    if (seen.has(key)) {
      segment += 1;
      seen = new Set();
    }
    seen.add(key);
    return segment;
  });
}
