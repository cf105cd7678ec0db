/** Resends: a second read of the log, or of a list, that does not move the queue. */

import { keptDetails, type Row, toExecution } from '../rows.ts';
import {
  type Change,
  READ_CHARACTERS_MAX,
  type ResendDelivery,
  type ResendSelection,
  type ResendStore,
} from '../store.ts';
import { int8Array } from './arrays.ts';
import type { Database, Value } from './database.ts';
import { detailsOf } from './orders.ts';
import { nextExecutionId } from './schedules.ts';

/** What each kind of resend is made of: closings `c` with their ids and orders. $1 institution, $2 interface, then its own. */
const SOURCES = {
  // The newest closing of each, once. Orders that never closed are left out, and those that the queue will call anyway.
  orders: `SELECT DISTINCT c.closing_id, c.order_id FROM orderhook.orders o JOIN orderhook.closings c
      ON c.institution_id = o.institution_id AND c.closing_id = o.last_closing_id AND c.closed_at = o.last_closed_at
    JOIN orderhook.queues q
      ON q.institution_id = c.institution_id AND q.interface_id = $2 AND (c.xid, c.closing_id) <= (q.cursor_xid, q.cursor_id)
    WHERE o.institution_id = $1 AND o.order_id = ANY ($3::bigint[])`,
  abandoned: `SELECT a.closing_id, a.order_id FROM orderhook.abandoned a
    WHERE a.institution_id = $1 AND a.interface_id = $2`,
  owed: `SELECT o.closing_id, o.order_id FROM orderhook.owed o
    WHERE o.institution_id = $1 AND o.interface_id = $2`,
  closed_between: `SELECT c.closing_id, c.order_id FROM orderhook.closings c JOIN orderhook.queues q
      ON q.institution_id = c.institution_id AND q.interface_id = $2 AND (c.xid, c.closing_id) <= (q.cursor_xid, q.cursor_id)
    WHERE c.institution_id = $1 AND c.closed_at >= $3 AND c.closed_at < $4`,
} as const;
type Kind = keyof typeof SOURCES;
const KINDS = Object.keys(SOURCES) as Kind[];

export function resendStore(db: Database, publish: (change: Change) => void): ResendStore {
  const alive = `EXISTS (SELECT FROM orderhook.interfaces i
    WHERE i.institution_id = $1 AND i.interface_id = $2 AND i.deleted_at IS NULL)`;
  const count = ofKinds((kind) =>
    db.reading(`SELECT (SELECT count(*) FROM (${SOURCES[kind]}) c) AS count WHERE ${alive}`),
  );
  const request = ofKinds((kind) => {
    const from = kind === 'closed_between' ? '$3::bigint, $4::bigint' : 'NULL::bigint, NULL::bigint';
    const now = { orders: '$4', abandoned: '$3', owed: '$3', closed_between: '$5' }[kind];
    const keepOrders = `, kept AS (
      INSERT INTO orderhook.resend_orders (institution_id, execution_id, closing_id, order_id)
      SELECT $1, e.execution_id, c.closing_id, c.order_id FROM execution e CROSS JOIN chosen c)`;
    return db.writing(
      `WITH chosen AS MATERIALIZED (${SOURCES[kind]}),
       counted AS MATERIALIZED (
         SELECT count(*) AS count, coalesce(min(closing_id), 1) AS first_id, coalesce(max(closing_id), 0) AS last_id
         FROM chosen),
       drawn AS (${nextExecutionId(`SELECT WHERE ${alive}`)}),
       execution AS (
         INSERT INTO orderhook.executions (execution_id, institution_id, interface_id, trigger, status, begun, started_at,
           looked, filtered_out, called, delivered, failed, abandoned)
         SELECT drawn.execution_id, $1, $2, 'RESEND', 'RUNNING', false, ${now}, 0, 0, 0, 0, 0, 0 FROM drawn RETURNING *),
       resend AS (
         INSERT INTO orderhook.resends (institution_id, execution_id, interface_id, kind, count, closed_from, closed_to,
           last_closing_id, sent_up_to)
         SELECT $1, e.execution_id, $2, '${kind}', d.count, ${from}, d.last_id, d.first_id - 1
         FROM execution e CROSS JOIN counted d)
       ${kind === 'orders' ? keepOrders : ''}
       SELECT e.*, d.count FROM execution e CROSS JOIN counted d`,
    );
  });
  const find = db.reading('SELECT * FROM orderhook.resends WHERE institution_id = $1 AND execution_id = $2');
  const left = {
    orders: `SELECT c.closing_id, c.order_id FROM orderhook.resend_orders c
      WHERE c.institution_id = $1 AND c.execution_id = $6`,
    abandoned: `SELECT c.closing_id, c.order_id FROM orderhook.abandoned c
      WHERE c.institution_id = $1 AND c.interface_id = $2`,
    owed: `SELECT c.closing_id, c.order_id FROM orderhook.owed c
      WHERE c.institution_id = $1 AND c.interface_id = $2`,
    closed_between: `SELECT c.closing_id, c.order_id FROM orderhook.closings c
      WHERE c.institution_id = $1 AND c.closed_at >= $6 AND c.closed_at < $7`,
  };
  const deliveries = ofKinds((kind) => {
    const page = `${left[kind]} AND c.closing_id > $3 AND c.closing_id <= $4 ORDER BY c.closing_id LIMIT $5`;
    const lists = `d.attempts AS owed_attempts, a.attempts AS abandoned_attempts
      FROM (${page}) c
      LEFT JOIN orderhook.owed d
        ON d.institution_id = $1 AND d.interface_id = $2 AND d.closing_id = c.closing_id
      LEFT JOIN orderhook.abandoned a
        ON a.institution_id = $1 AND a.interface_id = $2 AND a.closing_id = c.closing_id`;
    return {
      plain: db.reading(
        `SELECT c.closing_id, c.order_id::text, NULL AS details, ${lists} ORDER BY closing_id`,
      ),
      withDetails: db.reading(
        `SELECT * FROM (
           SELECT c.closing_id, c.order_id::text, o.details,
             coalesce(sum(octet_length(o.details)) OVER
               (ORDER BY c.closing_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before,
             ${lists}
           ${detailsOf('c')}
         ) w WHERE bytes_before < ${READ_CHARACTERS_MAX} ORDER BY closing_id`,
      ),
    };
  });
  const cancel = db.writing(
    `UPDATE orderhook.resends r SET cancelled = true WHERE institution_id = $1 AND execution_id = $2
       AND EXISTS (SELECT FROM orderhook.executions e
         WHERE e.institution_id = $1 AND e.execution_id = $2 AND e.status = 'RUNNING')`,
  );

  return {
    async countResend(institutionId, interfaceId, selection) {
      const row = await count[selection.kind].row(institutionId, interfaceId, ...selectionValues(selection));
      return row?.count as number | undefined;
    },

    async requestResend(institutionId, interfaceId, selection, now) {
      const values = selectionValues(selection);
      const row = await request[selection.kind].row(institutionId, interfaceId, ...values, now);
      if (!row) return undefined;
      publish({ kind: 'configuration', institutionId });
      return { count: row.count as number, execution: toExecution(row) };
    },

    async resendDeliveries(institutionId, executionId, { after, limit, withDetails }) {
      const resend = await find.row(institutionId, executionId);
      if (!resend) return [];
      const kind = resend.kind as Kind;
      const { plain, withDetails: detailed } = deliveries[kind];
      const own = {
        orders: [executionId],
        abandoned: [],
        owed: [],
        closed_between: [resend.closed_from as number, resend.closed_to as number],
      }[kind];
      const rows = await (withDetails ? detailed : plain).rows(
        institutionId,
        resend.interface_id as number,
        Math.max(after, resend.sent_up_to as number),
        resend.last_closing_id as number,
        limit,
        ...own,
      );
      return rows.map(toResendDelivery);
    },

    async cancelResend(institutionId, executionId) {
      const found = (await cancel.count(institutionId, executionId)) === 1;
      if (found) publish({ kind: 'configuration', institutionId });
      return found;
    },

    async resendCount(institutionId, executionId) {
      return (await find.row(institutionId, executionId))?.count as number | undefined;
    },
  };
}

function ofKinds<T>(make: (kind: Kind) => T): Record<Kind, T> {
  return Object.fromEntries(KINDS.map((kind) => [kind, make(kind)])) as Record<Kind, T>;
}

function selectionValues(selection: ResendSelection): Value[] {
  if (selection.kind === 'orders') return [int8Array(selection.orderIds)];
  return selection.kind === 'closed_between' ? [selection.from, selection.to] : [];
}

function toResendDelivery(row: Row): ResendDelivery {
  const list =
    row.owed_attempts !== null ? 'owed' : row.abandoned_attempts !== null ? 'abandoned' : undefined;
  return {
    closingId: row.closing_id as number,
    orderId: row.order_id as string,
    attempts: (row.owed_attempts ?? row.abandoned_attempts ?? 0) as number,
    list,
    ...keptDetails(row.details as string | null),
  };
}
