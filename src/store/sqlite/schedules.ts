/** Schedules and their executions. */
import type { ScheduleSettings } from '../../model/entities.ts';
import { cursorNumber, executionCursor, toExecution, toPage, toSchedule } from '../rows.ts';
import type { Change, ScheduleStore } from '../store.ts';
import type { Bindable, Database, Row } from './database.ts';

export function scheduleStore(db: Database, publish: (change: Change) => void): ScheduleStore {
  const insert = db.prepare(
    `INSERT INTO schedules (name, launch, frequency_minutes, start_at, end_at, batch_size, updated_at,
       institution_id, interface_id, created_at)
     SELECT ?, ?, ?, ?, ?, ?, ?, institution_id, interface_id, ? FROM interfaces
     WHERE institution_id = ? AND interface_id = ? AND deleted_at IS NULL RETURNING *`,
  );
  const update = db.prepare(
    `UPDATE schedules SET name = ?, launch = ?, frequency_minutes = ?, start_at = ?, end_at = ?, batch_size = ?,
       updated_at = ?, revision = revision + 1
     WHERE institution_id = ? AND schedule_id = ? RETURNING *`,
  );
  const pageOfInstitution = db.prepare(
    'SELECT * FROM schedules WHERE institution_id = ? AND schedule_id > ? ORDER BY schedule_id LIMIT ?',
  );
  const pageOfInterface = db.prepare(
    `SELECT * FROM schedules WHERE institution_id = ? AND interface_id = ? AND schedule_id > ?
     ORDER BY schedule_id LIMIT ?`,
  );
  const byId = db.prepare('SELECT * FROM schedules WHERE institution_id = ? AND schedule_id = ?');
  const remove = db.prepare('DELETE FROM schedules WHERE institution_id = ? AND schedule_id = ?');
  const removeRequests = db.prepare(
    "UPDATE executions SET status = 'ERROR', ended_at = started_at, message = 'The schedule was deleted.' " +
      "WHERE schedule_id = ? AND status = 'RUNNING' AND begun = 0",
  );
  const reserve = db.prepareArrays(
    "UPDATE counters SET next = next + 1 WHERE name = 'execution' RETURNING next - 1",
  );
  const insertRequest = db.prepare(
    `INSERT INTO executions (execution_id, institution_id, interface_id, schedule_id, trigger, status, begun,
       started_at, looked, filtered_out, called, delivered, failed, abandoned)
     VALUES (?, ?, ?, ?, 'MANUAL', 'RUNNING', 0, ?, 0, 0, 0, 0, 0, 0) RETURNING *`,
  );
  const executionPage = db.prepare(
    `SELECT * FROM executions WHERE schedule_id = ? AND (started_at, execution_id) < (?, ?) AND institution_id = ?
     ORDER BY started_at DESC, execution_id DESC LIMIT ?`,
  );
  const executionById = db.prepare('SELECT * FROM executions WHERE execution_id = ? AND institution_id = ?');

  return {
    async createSchedule(institutionId, interfaceId, settings, now) {
      const row = db.write(() =>
        insert.get(...settingValues(settings), now, now, institutionId, interfaceId),
      );
      if (!row) return undefined;
      publish({ kind: 'configuration', institutionId });
      return toSchedule(row);
    },
    async schedules(institutionId, interfaceId, { limit, cursor }) {
      const after = cursorNumber(cursor, 0);
      const rows = db.read(() =>
        interfaceId === undefined
          ? pageOfInstitution.all(institutionId, after, limit + 1)
          : pageOfInterface.all(institutionId, interfaceId, after, limit + 1),
      );
      return toPage(rows.map(toSchedule), limit, ({ id }) => id);
    },
    async scheduleById(institutionId, id) {
      const row = db.read(() => byId.get(institutionId, id));
      return row && toSchedule(row);
    },
    async updateSchedule(institutionId, id, change, now) {
      const row = db.write(() => {
        const current = byId.get(institutionId, id);
        if (!current) return undefined;
        return update.get(...settingValues(change(toSchedule(current))), now, institutionId, id);
      });
      if (!row) return undefined;
      publish({ kind: 'configuration', institutionId });
      return toSchedule(row);
    },
    async deleteSchedule(institutionId, id, check) {
      const found = db.write(() => {
        const row = check && byId.get(institutionId, id);
        if (row) check(toSchedule(row));
        if (remove.run(institutionId, id).changes === 0) return false;
        removeRequests.run(id);
        return true;
      });
      if (found) publish({ kind: 'configuration', institutionId });
      return found;
    },
    async requestRun(institutionId, id, now) {
      const requested = db.write(() => {
        const schedule = byId.get(institutionId, id);
        if (!schedule) return undefined;
        const [executionId] = reserve.get() as unknown as [number];
        return toExecution(
          insertRequest.get(executionId, institutionId, schedule.interface_id as number, id, now) as Row,
        );
      });
      if (requested) publish({ kind: 'configuration', institutionId });
      return requested;
    },
    async executions(institutionId, scheduleId, { limit, cursor }) {
      const before = executionCursor(cursor);
      const rows = db.read(() => executionPage.all(scheduleId, ...before, institutionId, limit + 1));
      return toPage(rows.map(toExecution), limit, ({ startedAt, id }) => `${startedAt}-${id}`);
    },
    async executionById(institutionId, id) {
      const row = db.read(() => executionById.get(id, institutionId));
      return row && toExecution(row);
    },
  };
}

function settingValues(settings: ScheduleSettings): Bindable[] {
  return [
    settings.name,
    settings.launch,
    settings.frequencyMinutes ?? null,
    settings.start ?? null,
    settings.end ?? null,
    settings.batchSize,
  ];
}
