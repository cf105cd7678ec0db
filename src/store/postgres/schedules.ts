/** Schedules and their executions. */
import type { InstitutionId, ScheduleId, ScheduleSettings } from '../../model/entities.ts';
import { cursorNumber, executionCursor, toExecution, toPage, toSchedule } from '../rows.ts';
import type { Change, ScheduleStore } from '../store.ts';
import { changeByFunction } from './change.ts';
import type { Database, Value } from './database.ts';

/** A common table expression that draws the next execution id, if `condition` finds a row. */
export function nextExecutionId(condition: string): string {
  return `UPDATE orderhook.counters SET next = next + 1
    WHERE name = 'execution' AND EXISTS (${condition}) RETURNING next - 1 AS execution_id`;
}

export function scheduleStore(db: Database, publish: (change: Change) => void): ScheduleStore {
  const insert = db.writing(
    `INSERT INTO orderhook.schedules (name, launch, frequency_minutes, start_at, end_at, batch_size, updated_at,
       institution_id, interface_id, created_at)
     SELECT $1, $2, $3::integer, $4::bigint, $5::bigint, $6, $7::bigint, institution_id, interface_id, $7
     FROM orderhook.interfaces
     WHERE institution_id = $8 AND interface_id = $9 AND deleted_at IS NULL RETURNING *`,
  );
  const update = db.writing(
    `UPDATE orderhook.schedules SET name = $1, launch = $2, frequency_minutes = $3, start_at = $4, end_at = $5,
       batch_size = $6, updated_at = $7, revision = revision + 1
     WHERE institution_id = $8 AND schedule_id = $9 AND revision = $10 RETURNING *`,
  );
  const pageOfInstitution = db.reading(
    `SELECT * FROM orderhook.schedules WHERE institution_id = $1 AND schedule_id > $2 ORDER BY schedule_id LIMIT $3`,
  );
  const pageOfInterface = db.reading(
    `SELECT * FROM orderhook.schedules WHERE institution_id = $1 AND interface_id = $2 AND schedule_id > $3
     ORDER BY schedule_id LIMIT $4`,
  );
  const byId = db.reading('SELECT * FROM orderhook.schedules WHERE institution_id = $1 AND schedule_id = $2');
  const remove = db.writing(
    `WITH gone AS (
       DELETE FROM orderhook.schedules
       WHERE institution_id = $1 AND schedule_id = $2 AND revision = coalesce($3, revision) RETURNING interface_id
     ), no_requests AS (
       UPDATE orderhook.executions e
       SET status = 'ERROR', ended_at = started_at, message = 'The schedule was deleted.' FROM gone
       WHERE e.institution_id = $1 AND e.interface_id = gone.interface_id AND e.schedule_id = $2
         AND e.status = 'RUNNING' AND NOT e.begun
     )
     SELECT 1 FROM gone`,
  );
  const request = db.writing(
    `WITH found AS (
       SELECT interface_id FROM orderhook.schedules WHERE institution_id = $1 AND schedule_id = $2 FOR SHARE
     ), drawn AS (${nextExecutionId('SELECT FROM found')})
     INSERT INTO orderhook.executions (execution_id, institution_id, interface_id, schedule_id, trigger, status, begun,
       started_at, looked, filtered_out, called, delivered, failed, abandoned)
     SELECT drawn.execution_id, $1, found.interface_id, $2, 'MANUAL', 'RUNNING', false, $3, 0, 0, 0, 0, 0, 0
     FROM found CROSS JOIN drawn RETURNING *`,
  );
  const executionPage = db.reading(
    `SELECT * FROM orderhook.executions
     WHERE institution_id = $1 AND schedule_id = $2 AND (started_at, execution_id) < ($3, $4)
     ORDER BY started_at DESC, execution_id DESC LIMIT $5`,
  );
  const executionById = db.reading(
    'SELECT * FROM orderhook.executions WHERE institution_id = $1 AND execution_id = $2',
  );

  const find = async (institutionId: InstitutionId, id: ScheduleId) => {
    const row = await byId.row(institutionId, id);
    return row && toSchedule(row);
  };

  return {
    async createSchedule(institutionId, interfaceId, settings, now) {
      const row = await insert.row(...settingValues(settings), now, institutionId, interfaceId);
      if (!row) return undefined;
      publish({ kind: 'configuration', institutionId });
      return toSchedule(row);
    },
    async schedules(institutionId, interfaceId, { limit, cursor }) {
      const after = cursorNumber(cursor, 0);
      const rows =
        interfaceId === undefined
          ? await pageOfInstitution.rows(institutionId, after, limit + 1)
          : await pageOfInterface.rows(institutionId, interfaceId, after, limit + 1);
      return toPage(rows.map(toSchedule), limit, ({ id }) => id);
    },
    scheduleById: find,
    async updateSchedule(institutionId, id, change, now) {
      const row = await changeByFunction(
        () => find(institutionId, id),
        (current) => update.row(...settingValues(change(current)), now, institutionId, id, current.revision),
      );
      if (!row) return undefined;
      publish({ kind: 'configuration', institutionId });
      return toSchedule(row);
    },
    async deleteSchedule(institutionId, id, check) {
      const removed = check
        ? await changeByFunction(
            () => find(institutionId, id),
            (current) => {
              check(current);
              return remove.row(institutionId, id, current.revision);
            },
          )
        : await remove.row(institutionId, id, null);
      const found = removed !== undefined;
      if (found) publish({ kind: 'configuration', institutionId });
      return found;
    },
    async requestRun(institutionId, id, now) {
      const row = await request.row(institutionId, id, now);
      if (!row) return undefined;
      publish({ kind: 'configuration', institutionId });
      return toExecution(row);
    },
    async executions(institutionId, scheduleId, { limit, cursor }) {
      const rows = await executionPage.rows(institutionId, scheduleId, ...executionCursor(cursor), limit + 1);
      return toPage(rows.map(toExecution), limit, ({ startedAt, id }) => `${startedAt}-${id}`);
    },
    async executionById(institutionId, id) {
      const row = await executionById.row(institutionId, id);
      return row && toExecution(row);
    },
  };
}

function settingValues(settings: ScheduleSettings): Value[] {
  return [
    settings.name,
    settings.launch,
    settings.frequencyMinutes ?? null,
    settings.start ?? null,
    settings.end ?? null,
    settings.batchSize,
  ];
}
