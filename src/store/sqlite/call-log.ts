import type { Attempt } from '../../model/delivery.ts';
import type { InterfaceId } from '../../model/entities.ts';
import { contentHash, cursorNumber, toLoggedAttempt, toPage } from '../rows.ts';
import { shareHeaders } from '../shared-headers.ts';
import type { CallLogStore, QueueStore } from '../store.ts';
import { type Database, orderIdValue, type Row } from './database.ts';

const FROM_NEWEST = Number.MAX_SAFE_INTEGER;

/** Appends attempts within the caller's transaction. */
export type AttemptWriter = (
  interfaceId: InterfaceId,
  attempts: readonly (Attempt & { callTemplateId: number })[],
) => number;

export function attemptWriter(db: Database): AttemptWriter {
  const reserve = db.prepareArrays(
    'UPDATE queues SET last_attempt_id = last_attempt_id + ? WHERE interface_id = ? RETURNING last_attempt_id',
  );
  const insert = db.prepare(
    `INSERT INTO attempts (interface_id, attempt_id, closing_id, order_id, attempt, execution_id, trigger, started_at,
       duration_ms, outcome, reason, detail, status, headers, headers_in, body_start, next_attempt_at,
       call_template_id)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  return (interfaceId, attempts) => {
    const [last] = reserve.get(attempts.length, interfaceId) as unknown as [number];
    const first = last - attempts.length + 1;
    const { texts, keptBy } = shareHeaders(attempts);
    for (const [index, attempt] of attempts.entries()) {
      const { answer } = attempt;
      const holder = keptBy[index] as number | null;
      insert.run(
        interfaceId,
        first + index,
        attempt.closingId ?? null,
        orderIdValue(attempt.orderId),
        attempt.attempt,
        attempt.executionId ?? null,
        attempt.trigger,
        attempt.startedAt,
        attempt.durationMs,
        attempt.outcome,
        attempt.reason ?? null,
        attempt.detail ?? null,
        answer?.status ?? null,
        texts[index] as string | null,
        holder === null ? null : first + holder,
        answer?.bodyStart || null,
        attempt.nextAttemptAt ?? null,
        attempt.callTemplateId,
      );
    }
    return last;
  };
}

export function callLogStore(db: Database): CallLogStore & Pick<QueueStore, 'callTemplateId'> {
  const writeAttempts = attemptWriter(db);
  // The next attempt of a delivery that is still owed comes no sooner than the hold ends.
  const columns = `a.attempt_id, a.closing_id, CAST(a.order_id AS TEXT) AS order_id, a.attempt, a.execution_id,
      a.trigger, a.started_at, a.duration_ms, a.outcome, a.reason, a.detail, a.status, a.body_start,
      coalesce(a.headers, (SELECT h.headers FROM attempts h
        WHERE h.interface_id = a.interface_id AND h.attempt_id = a.headers_in)) AS headers,
      coalesce((SELECT max(a.next_attempt_at, q.held_until) FROM owed d JOIN queues q USING (interface_id)
        WHERE a.next_attempt_at IS NOT NULL AND d.interface_id = a.interface_id AND d.closing_id = a.closing_id
          AND d.attempts BETWEEN a.attempt - 1 AND a.attempt AND q.held_until IS NOT NULL), a.next_attempt_at)
        AS next_attempt_at, t.method, t.url, t.payload, t.user_agent
    FROM attempts a JOIN call_templates t USING (call_template_id) WHERE a.interface_id = ?`;
  const order = 'ORDER BY a.attempt_id DESC LIMIT ?';
  const byId = db.prepare(`SELECT ${columns} AND a.attempt_id = ?`);
  const all = db.prepare(`SELECT ${columns} AND a.attempt_id < ? ${order}`);
  const delivered = db.prepare(`SELECT ${columns} AND a.outcome = 'DELIVERED' AND a.attempt_id < ? ${order}`);
  const undelivered = db.prepare(
    `SELECT ${columns} AND a.outcome = ? AND a.outcome <> 'DELIVERED' AND a.attempt_id < ? ${order}`,
  );
  const ofOrder = db.prepare(`SELECT ${columns} AND a.order_id = ? AND a.attempt_id < ? ${order}`);
  const ofOrderWithOutcome = db.prepare(
    `SELECT ${columns} AND a.order_id = ? AND a.outcome = ? AND a.attempt_id < ? ${order}`,
  );
  const known = db.prepare('SELECT 1 FROM interfaces WHERE institution_id = ? AND interface_id = ?');
  const findTemplate = db.prepareArrays(
    'SELECT call_template_id FROM call_templates WHERE interface_id = ? AND content_hash = ?',
  );
  const insertTemplate = db.prepareArrays(
    `INSERT INTO call_templates (interface_id, content_hash, method, url, payload, user_agent)
     VALUES (?, ?, ?, ?, ?, ?) RETURNING call_template_id`,
  );

  return {
    async callTemplateId(_institutionId, interfaceId, template) {
      const hash = contentHash(template);
      const find = () => (findTemplate.get(interfaceId, hash) as unknown as [number] | undefined)?.[0];
      const { method, url, payload, userAgent } = template;
      const insert = () =>
        (
          insertTemplate.get(interfaceId, hash, method, url, payload ?? null, userAgent) as unknown as [
            number,
          ]
        )[0];
      return db.read(find) ?? db.write(() => find() ?? insert());
    },

    async logAttempt(_institutionId, interfaceId, callTemplateId, attempt) {
      return db.write(() => {
        const id = writeAttempts(interfaceId, [{ ...attempt, callTemplateId }]);
        return toLoggedAttempt(byId.get(interfaceId, id) as Row);
      });
    },

    async calls(institutionId, interfaceId, { limit, cursor, outcome, orderId }) {
      const before = cursorNumber(cursor, FROM_NEWEST);
      const rows = db.read(() => {
        if (!known.get(institutionId, interfaceId)) return undefined;
        if (orderId !== undefined) {
          const id = orderIdValue(orderId);
          return outcome === undefined
            ? ofOrder.all(interfaceId, id, before, limit + 1)
            : ofOrderWithOutcome.all(interfaceId, id, outcome, before, limit + 1);
        }
        if (outcome === undefined) return all.all(interfaceId, before, limit + 1);
        if (outcome === 'DELIVERED') return delivered.all(interfaceId, before, limit + 1);
        return undelivered.all(interfaceId, outcome, before, limit + 1);
      });
      return rows && toPage(rows.map(toLoggedAttempt), limit, ({ id }) => id);
    },
  };
}
