/** Leases, of which one process needs none, and the removal of what is old. */
import { type LeaseStore, ORDER_PASS_EVERY_MS, type RetentionStore } from '../store.ts';
import type { Database } from './database.ts';
import { detailsRemover } from './removal.ts';
import { roomKeeper } from './room.ts';

/** Rows that one step removes: some milliseconds of work. */
const STEP_ROWS = 500;
/** Orders that one step of a pass looks at, and that it removes: some milliseconds of work each. */
const STEP_LOOKS = 500;
const STEP_ORDERS = 100;

/** The folder lock leaves one process, and it has one engine: it holds every interface. */
export function leaseStore(db: Database): LeaseStore {
  const alive = db.prepareArrays(
    'SELECT institution_id, interface_id FROM interfaces WHERE deleted_at IS NULL',
  );
  return {
    async holdLeases() {
      const rows = db.read(() => alive.all()) as unknown as [number, number][];
      return {
        held: rows.map(([institutionId, interfaceId]) => ({ institutionId, interfaceId, fence: 0 })),
        excess: [],
      };
    },
    async releaseLeases() {},
  };
}

export function retentionStore(db: Database): RetentionStore {
  // Within an interface the call log is in the order of time, and so is the log of closings: the oldest rows tell whether
  // something is to be removed.
  const logs = db.prepareArrays('SELECT interface_id FROM queues WHERE last_attempt_id > 0');
  const oldestAttempt = db.prepareArrays(
    'SELECT started_at FROM attempts WHERE interface_id = ? ORDER BY attempt_id LIMIT 1',
  );
  const oldAttempts = db.prepare(
    `DELETE FROM attempts WHERE interface_id = :log AND attempt_id IN
       (SELECT attempt_id FROM (SELECT attempt_id, started_at FROM attempts WHERE interface_id = :log
        ORDER BY attempt_id LIMIT ${STEP_ROWS}) WHERE started_at < :time)`,
  );
  const oldExecutions = db.prepareArrays(
    `SELECT execution_id FROM executions INDEXED BY executions_by_time
     WHERE started_at < ? AND status <> 'RUNNING' LIMIT ${STEP_ROWS}`,
  );
  const removeExecution = db.prepare('DELETE FROM executions WHERE execution_id = ?');
  const removeResend = db.prepare('DELETE FROM resends WHERE execution_id = ?');
  // Closings that a queue has not passed, or still owes, stay however old they are.
  const institutions = db.prepareArrays('SELECT institution_id, last_closing_id FROM institutions');
  const slowest = db.prepareArrays(
    `SELECT min(min(q.cursor),
       coalesce(min((SELECT min(closing_id) FROM owed d WHERE d.interface_id = q.interface_id)) - 1, q.cursor),
       coalesce(min((SELECT min(closing_id) FROM abandoned a WHERE a.interface_id = q.interface_id)) - 1, q.cursor))
     FROM queues q JOIN interfaces i USING (interface_id)
     WHERE q.institution_id = ? AND i.deleted_at IS NULL`,
  );
  const oldestClosing = db.prepareArrays(
    'SELECT closing_id, closed_at FROM closings WHERE institution_id = ? ORDER BY closing_id LIMIT 1',
  );
  const oldClosings = db.prepare(
    `DELETE FROM closings WHERE institution_id = :institution AND closing_id <= :passed AND closing_id IN
       (SELECT closing_id FROM (SELECT closing_id, closed_at FROM closings WHERE institution_id = :institution
        ORDER BY closing_id LIMIT ${STEP_ROWS}) WHERE closed_at < :time)`,
  );

  const noteRemoval = db.prepare(
    "UPDATE upkeep SET value = ? WHERE name = 'attempts_removed_before' AND value < ?",
  );
  const emptySpan = db.prepareArrays(
    `SELECT f.value, t.value FROM upkeep f, upkeep t WHERE f.name = 'empty_executions_from' AND t.name = 'empty_executions_to'`,
  );
  const emptyExecutions = db.prepare(
    `DELETE FROM executions WHERE execution_id >= ? AND execution_id < ?
       AND trigger = 'AUTOMATIC' AND status = 'OK' AND looked = 0 AND called = 0 AND message IS NULL`,
  );
  const noteEmptySpan = db.prepare("UPDATE upkeep SET value = ? WHERE name = 'empty_executions_from'");

  /** What the next step removes; it answers how many rows that were. Looking takes no lock. */
  function nextStep(time: number): (() => number) | undefined {
    for (const [log] of logs.all() as unknown as [number][]) {
      const oldest = oldestAttempt.get(log) as unknown as [number] | undefined;
      if (oldest && oldest[0] < time) {
        return () => {
          noteRemoval.run(time, time);
          return Number(oldAttempts.run({ log, time }).changes);
        };
      }
    }
    const executions = oldExecutions.all(time) as unknown as [number][];
    if (executions.length > 0) {
      return () => {
        for (const [id] of executions) {
          removeExecution.run(id);
          removeResend.run(id);
        }
        return executions.length;
      };
    }
    for (const [institution, last] of institutions.all() as unknown as [number, number][]) {
      const oldest = oldestClosing.get(institution) as unknown as [number, number] | undefined;
      if (!oldest || oldest[1] >= time) continue;
      const passed = (slowest.get(institution) as unknown as [number | null])[0] ?? last;
      if (oldest[0] <= passed) return () => Number(oldClosings.run({ institution, time, passed }).changes);
    }
    const [from, to] = emptySpan.get() as unknown as [number, number];
    if (from >= to) return undefined;
    return () => {
      noteEmptySpan.run(from + STEP_ROWS);
      // 0 would end it.
      return Math.max(1, Number(emptyExecutions.run(from, Math.min(from + STEP_ROWS, to)).changes));
    };
  }

  // Orders are looked through in the order of their rows, since no index finds the old ones.
  const someOrders = db.prepareArrays(
    `SELECT rowid, institution_id, updated_at, last_closing_id, removed_at FROM orders
     WHERE rowid > ? ORDER BY rowid LIMIT ${STEP_LOOKS}`,
  );
  const isWaitingOrListed = db.prepareArrays(
    `WITH RECURSIVE chain (closing_id, previous_closing_id) AS (
       SELECT closing_id, previous_closing_id FROM closings WHERE institution_id = :institution AND closing_id = :closing
       UNION ALL
       SELECT c.closing_id, c.previous_closing_id FROM chain JOIN closings c
         ON c.institution_id = :institution AND c.closing_id = chain.previous_closing_id)
     SELECT max(EXISTS (SELECT 1 FROM queues q JOIN interfaces i USING (interface_id)
       WHERE i.institution_id = :institution AND i.deleted_at IS NULL AND (chain.closing_id > q.cursor
         OR q.owed > 0 AND EXISTS (SELECT 1 FROM owed d WHERE d.interface_id = q.interface_id AND d.closing_id = chain.closing_id)
         OR q.abandoned > 0 AND EXISTS (SELECT 1 FROM abandoned d WHERE d.interface_id = q.interface_id AND d.closing_id = chain.closing_id))))
     FROM chain`,
  );
  const removeDetails = detailsRemover(db);
  // The pages as they were are still in the write-ahead log.
  const oweCut = db.prepare("UPDATE upkeep SET value = 1 WHERE name = 'log_cut_owed'");
  const removeOrder = db.prepare('DELETE FROM orders WHERE rowid = ?');
  const lastStored = db.prepareArrays('SELECT updated_at FROM orders WHERE rowid = ?');
  type OrderColumns = [
    row: number,
    institution: number,
    updatedAt: number,
    closing: number | null,
    removedAt: number | null,
  ];
  /** The row up to which this pass has come; 0: none has begun. */
  let passedRow = 0;
  let lastPassBefore: number | undefined;

  /** Whether the order is needed as it is; undefined: no closing of it is there any more. */
  function isNeeded(institution: number, closing: number | null): boolean | undefined {
    if (closing === null) return undefined;
    const [needed] = isWaitingOrListed.get({ institution, closing }) as unknown as [number | null];
    return needed === null ? undefined : needed === 1;
  }

  /** What is to go of an order that is old. */
  function whatGoes([, institution, , closing, removedAt]: OrderColumns): 'details' | 'order' | undefined {
    const needed = isNeeded(institution, closing);
    if (needed === undefined) return 'order';
    return needed || removedAt !== null ? undefined : 'details';
  }

  /** The next orders of which something is to go, and the row up to which that looked; 0: at the last one. */
  function lookAtOrders(time: number): { going: OrderColumns[]; passed: number } {
    const orders = someOrders.all(passedRow) as unknown as OrderColumns[];
    const going: OrderColumns[] = [];
    for (const order of orders) {
      if (order[2] < time && whatGoes(order) !== undefined) going.push(order);
      if (going.length === STEP_ORDERS) return { going, passed: order[0] };
    }
    return { going, passed: orders.length === STEP_LOOKS ? (orders.at(-1) as OrderColumns)[0] : 0 };
  }

  /** Whether it was removed: somebody may have stored it again since it was looked at. */
  function remove(order: OrderColumns, time: number, now: number): boolean {
    const what = whatGoes(order);
    const [row] = order;
    const stored = lastStored.get(row) as unknown as [number] | undefined;
    if (what === undefined || stored === undefined || stored[0] >= time) return false;
    if (what === 'order') removeOrder.run(row);
    else removeDetails(row, now);
    return true;
  }

  const totals = db.prepare(
    `SELECT sum(t.last_closing_id - q.cursor) AS waiting, sum(q.owed) AS owed, sum(q.abandoned) AS abandoned
     FROM queues q JOIN institutions t USING (institution_id) JOIN interfaces i USING (interface_id)
     WHERE i.deleted_at IS NULL`,
  );

  return {
    async removeOlderThan(time) {
      const step = db.read(() => nextStep(time));
      return step ? db.write(step) : 0;
    },

    async removeOrdersOlderThan(time, now) {
      const isResting =
        lastPassBefore !== undefined && time >= lastPassBefore && time < lastPassBefore + ORDER_PASS_EVERY_MS;
      if (passedRow === 0 && isResting) return { removed: 0, hasMore: false };
      const { going, passed } = db.read(() => lookAtOrders(time));
      const removeAll = () => {
        oweCut.run();
        return going.filter((order) => remove(order, time, now)).length;
      };
      const removed = going.length === 0 ? 0 : db.write(removeAll);
      passedRow = passed;
      const hasMore = passed > 0;
      if (!hasMore) lastPassBefore = time;
      return { removed, hasMore };
    },

    giveRoomBack: roomKeeper(db),

    async queueTotals() {
      const row = db.read(() => totals.get());
      return {
        waiting: (row?.waiting ?? 0) as number,
        owed: (row?.owed ?? 0) as number,
        abandoned: (row?.abandoned ?? 0) as number,
      };
    },
  };
}
