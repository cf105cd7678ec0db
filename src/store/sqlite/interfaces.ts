/** Interfaces and proxy openings: what operators and administrators set. */
import { AppError } from '../../model/app-error.ts';
import {
  type ExternalInterface,
  type Method,
  OPENING_DECISIONS,
  type OpeningState,
  type ProxyOpening,
} from '../../model/entities.ts';
import type { Granularity } from '../../model/granularity.ts';
import { cursorNumber, optional, toPage, wrongOpeningState } from '../rows.ts';
import type { Change, InterfaceStore, KeptInterfaceSettings, OpeningStore } from '../store.ts';
import { type Bindable, type Database, isUniqueViolation, type Row } from './database.ts';

const FROM_NEWEST = Number.MAX_SAFE_INTEGER;

export function interfaceStore(db: Database, publish: (change: Change) => void): InterfaceStore {
  const insert = db.prepare(
    `INSERT INTO interfaces (name, url, method, payload, filter, granularity, concurrency, simulation, active,
       attempts_max, destination, updated_at, institution_id, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
  );
  const insertQueue = db.prepare(
    `INSERT INTO queues (interface_id, institution_id, first_closing_id, cursor)
     SELECT ?, institution_id, last_closing_id, last_closing_id FROM institutions WHERE institution_id = ?`,
  );
  const update = db.prepare(
    `UPDATE interfaces SET name = ?, url = ?, method = ?, payload = ?, filter = ?, granularity = ?, concurrency = ?,
       simulation = ?, active = ?, attempts_max = ?, destination = ?, updated_at = ?, revision = revision + 1
     WHERE institution_id = ? AND interface_id = ? AND deleted_at IS NULL RETURNING *`,
  );
  const page = db.prepare(
    `SELECT * FROM interfaces WHERE institution_id = ? AND deleted_at IS NULL AND interface_id > ?
     ORDER BY interface_id LIMIT ?`,
  );
  const byId = db.prepare(
    'SELECT * FROM interfaces WHERE institution_id = ? AND interface_id = ? AND deleted_at IS NULL',
  );
  const markDeleted = db.prepare(
    `UPDATE interfaces SET deleted_at = ?, active = 0
     WHERE institution_id = ? AND interface_id = ? AND deleted_at IS NULL`,
  );
  const removals = ['schedules', 'owed', 'abandoned'].map((table) =>
    db.prepare(`DELETE FROM ${table} WHERE interface_id = ?`),
  );
  const endRequests = db.prepare(
    `UPDATE executions SET status = 'ERROR', ended_at = started_at, message = 'The interface was deleted.'
     WHERE interface_id = ? AND status = 'RUNNING' AND (begun = 0 OR trigger = 'RESEND')`,
  );
  const endHold = db.prepare(
    'UPDATE queues SET held_until = NULL, hold_lifted_at = ? WHERE interface_id = ?',
  );
  const emptyQueue = db.prepare(
    'UPDATE queues SET owed = 0, abandoned = 0, held_until = NULL WHERE interface_id = ?',
  );
  const figures = db.prepare(
    `SELECT t.last_closing_id - q.cursor AS waiting, q.owed, q.abandoned, q.held_until,
       (SELECT closed_at FROM closings c WHERE c.institution_id = q.institution_id AND c.closing_id > q.cursor
        ORDER BY c.closing_id LIMIT 1) AS oldest_waiting_at,
       (SELECT c.closed_at FROM owed d JOIN closings c ON c.institution_id = q.institution_id AND c.closing_id = d.closing_id
        WHERE d.interface_id = q.interface_id ORDER BY d.closing_id LIMIT 1) AS oldest_owed_at
     FROM queues q JOIN institutions t USING (institution_id) JOIN interfaces i USING (interface_id)
     WHERE q.institution_id = ? AND q.interface_id = ? AND i.deleted_at IS NULL`,
  );

  return {
    async createInterface(institutionId, settings, now) {
      const created = db.write(() => {
        const row = insert.get(...settingValues(settings), now, institutionId, now) as Row;
        insertQueue.run(row.interface_id as number, institutionId);
        return toInterface(row);
      });
      publish({ kind: 'configuration', institutionId });
      return created;
    },
    async interfaces(institutionId, { limit, cursor }) {
      const rows = db.read(() => page.all(institutionId, cursorNumber(cursor, 0), limit + 1));
      return toPage(rows.map(toInterface), limit, ({ id }) => id);
    },
    async interfaceById(institutionId, id) {
      const row = db.read(() => byId.get(institutionId, id));
      return row && toInterface(row);
    },
    async updateInterface(institutionId, id, change, now) {
      const changed = db.write(() => {
        const row = byId.get(institutionId, id);
        if (!row) return undefined;
        const current = toInterface(row);
        const settings = change(current);
        if (settings.url !== current.url || settings.method !== current.method) endHold.run(now, id);
        return toInterface(update.get(...settingValues(settings), now, institutionId, id) as Row);
      });
      if (changed) publish({ kind: 'configuration', institutionId });
      return changed;
    },
    async deleteInterface(institutionId, id, now, check) {
      const found = db.write(() => {
        const row = check && byId.get(institutionId, id);
        if (row) check(toInterface(row));
        if (markDeleted.run(now, institutionId, id).changes === 0) return false;
        for (const remove of removals) remove.run(id);
        emptyQueue.run(id);
        endRequests.run(id);
        return true;
      });
      if (found) publish({ kind: 'configuration', institutionId });
      return found;
    },
    async liftHold(institutionId, id, now) {
      const isFound = db.write(
        () => byId.get(institutionId, id) !== undefined && endHold.run(now, id).changes === 1,
      );
      if (isFound) publish({ kind: 'configuration', institutionId });
      return isFound;
    },
    async queueFigures(institutionId, id) {
      const row = db.read(() => figures.get(institutionId, id));
      return (
        row && {
          waiting: row.waiting as number,
          owed: row.owed as number,
          abandoned: row.abandoned as number,
          ...optional('oldestWaitingAt', row.oldest_waiting_at as number | null),
          ...optional('oldestOwedAt', row.oldest_owed_at as number | null),
          ...optional('heldUntil', row.held_until as number | null),
        }
      );
    },
  };
}

function settingValues(settings: KeptInterfaceSettings): Bindable[] {
  return [
    settings.name,
    settings.url,
    settings.method,
    settings.payload ?? null,
    settings.filter ?? null,
    settings.granularity,
    settings.concurrency,
    Number(settings.simulation),
    Number(settings.active),
    settings.attemptsMax,
    settings.destination,
  ];
}

export function toInterface(row: Row): ExternalInterface {
  return {
    id: row.interface_id as number,
    institutionId: row.institution_id as number,
    name: row.name as string,
    url: row.url as string,
    method: row.method as Method,
    ...optional('payload', row.payload as string | null),
    ...optional('filter', row.filter as string | null),
    granularity: row.granularity as Granularity,
    concurrency: row.concurrency as number,
    simulation: row.simulation === 1,
    active: row.active === 1,
    attemptsMax: row.attempts_max as number,
    destination: row.destination as string,
    createdAt: row.created_at as number,
    updatedAt: row.updated_at as number,
    revision: row.revision as number,
  };
}

export function openingStore(db: Database, publish: (change: Change) => void): OpeningStore {
  const insert = db.prepare(
    `INSERT INTO proxy_openings (institution_id, destination, state, allow_private, reason, requested_at, requested_by)
     VALUES (?, ?, 'REQUESTED', 0, ?, ?, ?) RETURNING *`,
  );
  const page = db.prepare(
    'SELECT * FROM proxy_openings WHERE institution_id = ? AND opening_id < ? ORDER BY opening_id DESC LIMIT ?',
  );
  const byId = db.prepare('SELECT * FROM proxy_openings WHERE institution_id = ? AND opening_id = ?');
  const open = db.prepare(
    "SELECT * FROM proxy_openings WHERE institution_id = ? AND destination = ? AND state = 'OPEN'",
  );
  const decide = db.prepare(
    `UPDATE proxy_openings SET state = ?, allow_private = ?, decided_by = ?, decided_at = ?
     WHERE opening_id = ? RETURNING *`,
  );
  return {
    async requestOpening(institutionId, { destination, reason, requestedAt, requestedBy }) {
      return db.write(() => {
        try {
          return toOpening(
            insert.get(institutionId, destination, reason ?? null, requestedAt, requestedBy) as Row,
          );
        } catch (error) {
          if (!isUniqueViolation(error)) throw error;
          throw new AppError('conflict', `A proxy opening for ${destination} is requested or open already.`);
        }
      });
    },
    async openings(institutionId, { limit, cursor }) {
      const rows = db.read(() => page.all(institutionId, cursorNumber(cursor, FROM_NEWEST), limit + 1));
      return toPage(rows.map(toOpening), limit, ({ id }) => id);
    },
    async openOpening(institutionId, destination) {
      const row = db.read(() => open.get(institutionId, destination));
      return row && toOpening(row);
    },
    async decideOpening(institutionId, id, decision, { allowPrivate, decidedBy, decidedAt }) {
      const { from, to } = OPENING_DECISIONS[decision];
      const decided = db.write(() => {
        const row = byId.get(institutionId, id);
        if (!row) return undefined;
        if (!from.some((state) => state === row.state)) throw wrongOpeningState(row.state, decision);
        return toOpening(decide.get(to, Number(allowPrivate), decidedBy, decidedAt, id) as Row);
      });
      if (decided) publish({ kind: 'configuration', institutionId });
      return decided;
    },
  };
}

function toOpening(row: Row): ProxyOpening {
  return {
    id: row.opening_id as number,
    institutionId: row.institution_id as number,
    destination: row.destination as string,
    state: row.state as OpeningState,
    allowPrivate: row.allow_private === 1,
    ...optional('reason', row.reason as string | null),
    requestedAt: row.requested_at as number,
    requestedBy: row.requested_by as string,
    ...optional('decidedAt', row.decided_at as number | null),
    ...optional('decidedBy', row.decided_by as string | null),
  };
}
