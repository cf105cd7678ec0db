/** The removal of single orders: of their details, and of what callees answered about them. */
import type { InstitutionId } from '../../model/entities.ts';
import type { OrderId } from '../../model/order.ts';
import { COMMIT_SPAN_ATTEMPTS } from '../shared-headers.ts';
import { type Database, orderIdValue } from './database.ts';

/** False when the order is unknown. When it is true, neither the database nor its write-ahead log has what was removed. */
export function orderRemover(
  db: Database,
): (institutionId: InstitutionId, orderId: OrderId, now: number) => boolean {
  const find = db.prepareArrays(
    'SELECT rowid, removed_at FROM orders WHERE institution_id = ? AND order_id = ?',
  );
  const removeDetails = detailsRemover(db);
  const oweCut = db.prepare("UPDATE upkeep SET value = 1 WHERE name = 'log_cut_owed'");
  const forgetAnswers = answerRemover(db);
  return (institutionId, orderId, now) => {
    const id = orderIdValue(orderId);
    const isKnown = db.write(() => {
      const [row, removedAt] = (find.get(institutionId, id) ?? []) as unknown as [number?, (number | null)?];
      if (row === undefined) return false;
      if (removedAt === null) removeDetails(row, now);
      forgetAnswers(institutionId, id);
      return true;
    });
    // The log still has the pages as they were. Who reads them keeps them a little longer: then it is cut by `giveRoomBack`.
    if (isKnown && !db.cutLog()) db.write(() => oweCut.run());
    return isKnown;
  };
}

/**
 * Takes the details of the order in this row, within the caller's transaction. The row is made anew in its place: one that only
 * gets shorter leaves its page as it is, nearly empty, and such a page is never used again nor given back.
 */
export function detailsRemover(db: Database): (row: number, now: number) => void {
  const columns = 'institution_id, order_id, order_state, last_closing_id, updated_at';
  const find = db.prepare(`SELECT ${columns} FROM orders WHERE rowid = ?`);
  const remove = db.prepare('DELETE FROM orders WHERE rowid = ?');
  const insert = db.prepare(
    `INSERT INTO orders (rowid, ${columns}, details, removed_at)
     VALUES (:row, :institution_id, :order_id, :order_state, :last_closing_id, :updated_at, '', :now)`,
  );
  // An order id may be greater than a number can hold.
  find.setReadBigInts(true);
  return (row, now) => {
    const order = find.get(row);
    remove.run(row);
    insert.run({ ...order, row, now });
  };
}

/** Takes what callees answered about an order out of the call log, within the caller's transaction. */
function answerRemover(db: Database): (institutionId: InstitutionId, orderId: number | bigint) => void {
  const logs = db.prepareArrays(
    `SELECT i.interface_id FROM interfaces i WHERE i.institution_id = ?
       AND EXISTS (SELECT 1 FROM attempts a WHERE a.interface_id = i.interface_id AND a.order_id = ?)`,
  );
  const keepers = db.prepareArrays(
    `SELECT attempt_id, headers FROM attempts WHERE interface_id = ? AND order_id = ? AND headers IS NOT NULL`,
  );
  // What a row keeps for those after it goes on to the first of these that is of another order.
  const heir = db.prepareArrays(
    `SELECT attempt_id FROM attempts WHERE interface_id = :log AND attempt_id > :keeper
       AND attempt_id <= :keeper + ${COMMIT_SPAN_ATTEMPTS} AND headers_in = :keeper AND order_id <> :orderId
     ORDER BY attempt_id LIMIT 1`,
  );
  const inherit = db.prepare(
    'UPDATE attempts SET headers = ?, headers_in = NULL WHERE interface_id = ? AND attempt_id = ?',
  );
  const follow = db.prepare(
    `UPDATE attempts SET headers_in = :heir WHERE interface_id = :log AND attempt_id > :heir
       AND attempt_id <= :keeper + ${COMMIT_SPAN_ATTEMPTS} AND headers_in = :keeper AND order_id <> :orderId`,
  );
  // What a call failed with before any answer is our own sentence; another one may quote the answer.
  const forget = db.prepare(
    `UPDATE attempts SET headers = NULL, headers_in = NULL, body_start = NULL,
       detail = CASE WHEN status IS NULL AND reason IS NOT 'protocol' THEN detail END
     WHERE interface_id = ? AND order_id = ? AND (status IS NOT NULL OR reason = 'protocol')`,
  );
  return (institutionId, orderId) => {
    for (const [log] of logs.all(institutionId, orderId) as unknown as [number][]) {
      for (const [keeper, headers] of keepers.all(log, orderId) as unknown as [number, string][]) {
        const [first] = (heir.get({ log, keeper, orderId }) ?? []) as unknown as [number?];
        if (first === undefined) continue;
        inherit.run(headers, log, first);
        follow.run({ log, keeper, orderId, heir: first });
      }
      forget.run(log, orderId);
    }
  };
}
