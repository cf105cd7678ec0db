/** Leases, of which one process needs none, and the removal of what is old. */
import type { LeaseStore, RetentionStore } from '../store.ts';
import type { Database } from './database.ts';

/** Rows that one step removes: some milliseconds of work. */
const STEP_ROWS = 500;

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

  /** What the next step removes; it answers how many rows that were. Looking takes no lock. */
  function nextStep(time: number): (() => number) | undefined {
    for (const [log] of logs.all() as unknown as [number][]) {
      const oldest = oldestAttempt.get(log) as unknown as [number] | undefined;
      if (oldest && oldest[0] < time) return () => Number(oldAttempts.run({ log, time }).changes);
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
    return undefined;
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
