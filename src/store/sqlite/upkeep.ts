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
  // Within an interface the call log is in the order of time, so its oldest rows tell whether something is to be removed.
  const logs = db.prepareArrays('SELECT interface_id FROM queues WHERE last_attempt_id > 0');
  const oldAttempts = db.prepare(
    `DELETE FROM attempts WHERE interface_id = :log AND attempt_id IN
       (SELECT attempt_id FROM (SELECT attempt_id, started_at FROM attempts WHERE interface_id = :log
        ORDER BY attempt_id LIMIT ${STEP_ROWS}) WHERE started_at < :time)`,
  );
  const oldExecutions = db.prepare(
    `DELETE FROM executions WHERE execution_id IN
       (SELECT execution_id FROM executions INDEXED BY executions_by_time
        WHERE started_at < ? AND status <> 'RUNNING' LIMIT ${STEP_ROWS})`,
  );
  const orphanedResends = db.prepare(
    'DELETE FROM resends WHERE NOT EXISTS (SELECT 1 FROM executions e WHERE e.execution_id = resends.execution_id)',
  );
  // Closings that a queue has not passed, or still owes, stay however old they are.
  const institutions = db.prepareArrays('SELECT institution_id, last_closing_id FROM institutions');
  const slowest = db.prepareArrays(
    `SELECT min(min(q.cursor),
       coalesce(min((SELECT min(closing_id) FROM owed d WHERE d.interface_id = q.interface_id)) - 1, q.cursor),
       coalesce(min((SELECT min(closing_id) FROM abandoned a WHERE a.interface_id = q.interface_id)) - 1, q.cursor))
     FROM queues q JOIN interfaces i USING (interface_id)
     WHERE q.institution_id = ? AND i.deleted_at IS NULL`,
  );
  const oldClosings = db.prepare(
    `DELETE FROM closings WHERE institution_id = :institution AND closing_id IN
       (SELECT closing_id FROM closings WHERE institution_id = :institution AND closed_at < :time
          AND closing_id <= :passed ORDER BY closed_at LIMIT ${STEP_ROWS})`,
  );
  const totals = db.prepare(
    `SELECT sum(t.last_closing_id - q.cursor) AS waiting, sum(q.owed) AS owed, sum(q.abandoned) AS abandoned
     FROM queues q JOIN institutions t USING (institution_id) JOIN interfaces i USING (interface_id)
     WHERE i.deleted_at IS NULL`,
  );

  return {
    async removeOlderThan(time) {
      return db.write(() => {
        for (const [log] of logs.all() as unknown as [number][]) {
          const attempts = Number(oldAttempts.run({ log, time }).changes);
          if (attempts > 0) return attempts;
        }
        const executions = Number(oldExecutions.run(time).changes);
        if (executions > 0) return executions + Number(orphanedResends.run().changes);
        for (const [institution, last] of institutions.all() as unknown as [number, number][]) {
          const [passed] = slowest.get(institution) as unknown as [number | null];
          const closings = Number(oldClosings.run({ institution, time, passed: passed ?? last }).changes);
          if (closings > 0) return closings;
        }
        return 0;
      });
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
