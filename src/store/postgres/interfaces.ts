/** Interfaces and proxy openings: what operators and administrators set. */
import {
  type ExternalInterface,
  type InstitutionId,
  type InterfaceId,
  type Method,
  OPENING_DECISIONS,
  type OpeningState,
  type ProxyOpening,
} from '../../model/entities.ts';
import type { Granularity } from '../../model/granularity.ts';
import { cursorNumber, FROM_NEWEST, optional, type Row, toPage, wrongOpeningState } from '../rows.ts';
import type { Change, InterfaceStore, KeptInterfaceSettings, OpeningStore } from '../store.ts';
import { textArray } from './arrays.ts';
import { changeByFunction } from './change.ts';
import { type Database, orConflict, type Value } from './database.ts';
import { isUniqueViolation } from './trouble.ts';
import { COUNTED_MAX, waitingCount, waitingCountOf } from './waiting-count.ts';

export function interfaceStore(db: Database, publish: (change: Change) => void): InterfaceStore {
  // The snapshot is that of the statement: whatever is committed after it belongs to the queue. See log-position.ts.
  const insert = db.writing(
    `WITH made AS (
       INSERT INTO orderhook.interfaces (name, url, method, payload, filter, granularity, concurrency, simulation, active,
         attempts_max, destination, updated_at, institution_id, created_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $12) RETURNING *
     ), queue AS (
       INSERT INTO orderhook.queues (institution_id, interface_id, cursor_xid, cursor_id, first_xmin, first_xmax,
         first_running)
       SELECT m.institution_id, m.interface_id, orderhook.log_horizon(), 0, orderhook.log_horizon(),
         pg_snapshot_xmax(pg_current_snapshot())::text::bigint + i.xid_offset,
         ARRAY(SELECT r::text::bigint + i.xid_offset FROM pg_snapshot_xip(pg_current_snapshot()) r)
       FROM made m CROSS JOIN orderhook.installation i
     )
     SELECT * FROM made`,
  );
  const update = db.writing(
    `WITH changed AS (
       UPDATE orderhook.interfaces SET name = $1, url = $2, method = $3, payload = $4, filter = $5, granularity = $6,
         concurrency = $7, simulation = $8, active = $9, attempts_max = $10, destination = $11, updated_at = $12,
         revision = revision + 1
       WHERE institution_id = $13 AND interface_id = $14 AND revision = $15 AND deleted_at IS NULL RETURNING *
     ), no_hold AS (
       UPDATE orderhook.queues q SET held_until = NULL, hold_lifted_at = c.updated_at FROM changed c
       WHERE $16 AND q.institution_id = c.institution_id AND q.interface_id = c.interface_id
     )
     SELECT * FROM changed`,
  );
  const page = db.reading(
    `SELECT * FROM orderhook.interfaces WHERE institution_id = $1 AND deleted_at IS NULL AND interface_id > $2
     ORDER BY interface_id LIMIT $3`,
  );
  const byId = db.reading(
    'SELECT * FROM orderhook.interfaces WHERE institution_id = $1 AND interface_id = $2 AND deleted_at IS NULL',
  );
  // The row of the queue stays: it numbers the call log. Its lease ends with it.
  const remove = db.writing(
    `WITH gone AS (
       UPDATE orderhook.interfaces SET deleted_at = $1, active = false
       WHERE institution_id = $2 AND interface_id = $3 AND revision = coalesce($4, revision) AND deleted_at IS NULL
       RETURNING institution_id, interface_id
     ), queue AS (
       UPDATE orderhook.queues q SET owed = 0, abandoned = 0, held_until = NULL, owner = NULL, deleted = true
       FROM gone WHERE q.institution_id = gone.institution_id AND q.interface_id = gone.interface_id
     ), no_schedules AS (
       DELETE FROM orderhook.schedules s USING gone
       WHERE s.institution_id = gone.institution_id AND s.interface_id = gone.interface_id
     ), no_owed AS (
       DELETE FROM orderhook.owed o USING gone
       WHERE o.institution_id = gone.institution_id AND o.interface_id = gone.interface_id
     ), no_abandoned AS (
       DELETE FROM orderhook.abandoned a USING gone
       WHERE a.institution_id = gone.institution_id AND a.interface_id = gone.interface_id
     ), no_requests AS (
       UPDATE orderhook.executions e
       SET status = 'ERROR', ended_at = started_at, message = 'The interface was deleted.' FROM gone
       WHERE e.institution_id = gone.institution_id AND e.interface_id = gone.interface_id
         AND e.status = 'RUNNING' AND (NOT e.begun OR e.trigger = 'RESEND')
     )
     SELECT 1 FROM gone`,
  );
  const endHold = db.writing(
    `UPDATE orderhook.queues q SET held_until = NULL, hold_lifted_at = $3 FROM orderhook.interfaces i
     WHERE i.institution_id = $1 AND i.interface_id = $2 AND i.deleted_at IS NULL
       AND q.institution_id = i.institution_id AND q.interface_id = i.interface_id RETURNING 1`,
  );
  const figures = db.reading(
    `SELECT q.owed, q.abandoned, q.held_until, w.*,
       (SELECT c.closed_at FROM orderhook.closings c
        WHERE c.institution_id = q.institution_id AND (c.xid, c.closing_id) > (q.cursor_xid, q.cursor_id)
          AND NOT (c.xid < q.first_xmax AND c.xid <> ALL (q.first_running))
        ORDER BY c.xid, c.closing_id LIMIT 1) AS oldest_waiting_at,
       (SELECT c.closed_at FROM (SELECT o.closing_id FROM orderhook.owed o
          WHERE o.institution_id = q.institution_id AND o.interface_id = q.interface_id ORDER BY o.closing_id LIMIT 1) o
        JOIN orderhook.closings c ON c.institution_id = q.institution_id AND c.closing_id = o.closing_id) AS oldest_owed_at
     FROM orderhook.queues q CROSS JOIN LATERAL (${waitingCountOf(COUNTED_MAX)}) w
     WHERE q.institution_id = $1 AND q.interface_id = $2 AND NOT q.deleted`,
  );

  const find = async (institutionId: InstitutionId, id: InterfaceId) => {
    const row = await byId.row(institutionId, id);
    return row && toInterface(row);
  };

  return {
    async createInterface(institutionId, settings, now) {
      const row = (await insert.row(...settingValues(settings), now, institutionId)) as Row;
      publish({ kind: 'configuration', institutionId });
      return toInterface(row);
    },
    async interfaces(institutionId, { limit, cursor }) {
      const rows = await page.rows(institutionId, cursorNumber(cursor, 0), limit + 1);
      return toPage(rows.map(toInterface), limit, ({ id }) => id);
    },
    interfaceById: find,
    async updateInterface(institutionId, id, change, now) {
      const row = await changeByFunction(
        () => find(institutionId, id),
        (current) => {
          const settings = change(current);
          const isElsewhere = settings.url !== current.url || settings.method !== current.method;
          return update.row(
            ...settingValues(settings),
            now,
            institutionId,
            id,
            current.revision,
            isElsewhere,
          );
        },
      );
      if (!row) return undefined;
      publish({ kind: 'configuration', institutionId });
      return toInterface(row);
    },
    async deleteInterface(institutionId, id, now, check) {
      const removed = check
        ? await changeByFunction(
            () => find(institutionId, id),
            (current) => {
              check(current);
              return remove.row(now, institutionId, id, current.revision);
            },
          )
        : await remove.row(now, institutionId, id, null);
      const found = removed !== undefined;
      if (found) publish({ kind: 'configuration', institutionId });
      return found;
    },
    async liftHold(institutionId, id, now) {
      const isFound = (await endHold.row(institutionId, id, now)) !== undefined;
      if (isFound) publish({ kind: 'configuration', institutionId });
      return isFound;
    },
    async queueFigures(institutionId, id) {
      const row = await figures.row(institutionId, id);
      return (
        row && {
          waiting: waitingCount(row, COUNTED_MAX),
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

function settingValues(settings: KeptInterfaceSettings): Value[] {
  return [
    settings.name,
    settings.url,
    settings.method,
    settings.payload ?? null,
    settings.filter ?? null,
    settings.granularity,
    settings.concurrency,
    settings.simulation,
    settings.active,
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
    simulation: row.simulation as boolean,
    active: row.active as boolean,
    attemptsMax: row.attempts_max as number,
    destination: row.destination as string,
    createdAt: row.created_at as number,
    updatedAt: row.updated_at as number,
    revision: row.revision as number,
  };
}

export function openingStore(db: Database, publish: (change: Change) => void): OpeningStore {
  const insert = db.writing(
    `INSERT INTO orderhook.proxy_openings
       (institution_id, destination, state, allow_private, reason, requested_at, requested_by)
     VALUES ($1, $2, 'REQUESTED', false, $3, $4, $5) RETURNING *`,
  );
  const page = db.reading(
    `SELECT * FROM orderhook.proxy_openings WHERE institution_id = $1 AND opening_id < $2
     ORDER BY opening_id DESC LIMIT $3`,
  );
  const byId = db.reading(
    'SELECT * FROM orderhook.proxy_openings WHERE institution_id = $1 AND opening_id = $2',
  );
  const open = db.reading(
    "SELECT * FROM orderhook.proxy_openings WHERE institution_id = $1 AND destination = $2 AND state = 'OPEN'",
  );
  const decide = db.writing(
    `UPDATE orderhook.proxy_openings SET state = $1, allow_private = $2, decided_by = $3, decided_at = $4
     WHERE institution_id = $5 AND opening_id = $6 AND state = ANY ($7::text[]) RETURNING *`,
  );
  return {
    async requestOpening(institutionId, { destination, reason, requestedAt, requestedBy }) {
      const message = `A proxy opening for ${destination} is requested or open already.`;
      return orConflict(message, isUniqueViolation, async () =>
        toOpening(
          (await insert.row(institutionId, destination, reason ?? null, requestedAt, requestedBy)) as Row,
        ),
      );
    },
    async openings(institutionId, { limit, cursor }) {
      const rows = await page.rows(institutionId, cursorNumber(cursor, FROM_NEWEST), limit + 1);
      return toPage(rows.map(toOpening), limit, ({ id }) => id);
    },
    async openOpening(institutionId, destination) {
      const row = await open.row(institutionId, destination);
      return row && toOpening(row);
    },
    async decideOpening(institutionId, id, decision, { allowPrivate, decidedBy, decidedAt }) {
      const { from, to } = OPENING_DECISIONS[decision];
      const values = [to, allowPrivate, decidedBy, decidedAt, institutionId, id] as const;
      const decided = await decide.row(...values, textArray(from));
      if (!decided) {
        const row = await byId.row(institutionId, id);
        if (!row) return undefined;
        throw wrongOpeningState(row.state, decision);
      }
      publish({ kind: 'configuration', institutionId });
      return toOpening(decided);
    },
  };
}

function toOpening(row: Row): ProxyOpening {
  return {
    id: row.opening_id as number,
    institutionId: row.institution_id as number,
    destination: row.destination as string,
    state: row.state as OpeningState,
    allowPrivate: row.allow_private as boolean,
    ...optional('reason', row.reason as string | null),
    requestedAt: row.requested_at as number,
    requestedBy: row.requested_by as string,
    ...optional('decidedAt', row.decided_at as number | null),
    ...optional('decidedBy', row.decided_by as string | null),
  };
}
