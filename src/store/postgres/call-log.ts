import type { Attempt } from '../../model/delivery.ts';
import { contentHash, cursorNumber, FROM_NEWEST, type Row, toLoggedAttempt, toPage } from '../rows.ts';
import { type SharedHeaders, shareHeaders } from '../shared-headers.ts';
import type { CallLogStore, QueueStore } from '../store.ts';
import { int4Array, int8Array, textArray } from './arrays.ts';
import type { Database, Value } from './database.ts';
import { makePartitions, withPartitions } from './partitions.ts';

/** Columns of the table, in the order of `attemptValues`; beside them there are the keys, and `headers_in`. */
export const ATTEMPT_COLUMNS = `closing_id, order_id, attempt, execution_id, trigger, started_at, duration_ms, outcome,
  reason, detail, status, headers, body_start, next_attempt_at, call_template_id`;

export const ATTEMPT_TYPES: readonly string[] =
  'bigint bigint integer bigint text bigint integer text text text integer text text bigint bigint'.split(
    ' ',
  );

/** Attempts of one commit started within this time: only partitions of that time are looked through for their headers. */
export const COMMIT_SPAN_MS = 60 * 60 * 1_000;

export type AttemptToLog = Attempt & { readonly callTemplateId: number };

/**
 * `headers`: of each, its JSON text where its row keeps them. Columns that say nothing, as most do of what was delivered, are
 * empty: `unnest` fills up with nulls.
 */
export function attemptValues(attempts: readonly AttemptToLog[], headers: SharedHeaders['texts']): Value[] {
  return [
    int8Array(attempts.map(({ closingId }) => closingId)),
    int8Array(attempts.map(({ orderId }) => orderId)),
    int4Array(attempts.map(({ attempt }) => attempt)),
    int8Array(attempts.map(({ executionId }) => executionId)),
    textArray(attempts.map(({ trigger }) => trigger)),
    int8Array(attempts.map(({ startedAt }) => startedAt)),
    int4Array(attempts.map(({ durationMs }) => Math.round(durationMs))),
    textArray(attempts.map(({ outcome }) => outcome)),
    textArray(orNone(attempts.map(({ reason }) => reason))),
    textArray(orNone(attempts.map(({ detail }) => storable(detail)))),
    int4Array(attempts.map(({ answer }) => answer?.status)),
    textArray(headers),
    textArray(orNone(attempts.map(({ answer }) => storable(answer?.bodyStart || undefined)))),
    int8Array(orNone(attempts.map(({ nextAttemptAt }) => nextAttemptAt))),
    int8Array(attempts.map(({ callTemplateId }) => callTemplateId)),
  ];
}

function orNone<T>(values: readonly T[]): readonly T[] {
  return values.every((value) => value === undefined) ? [] : values;
}

/** A callee may send the one character that PostgreSQL cannot keep; that must not stop the commit. */
function storable(text: string | undefined): string | undefined {
  return text?.includes('\0') ? text.replaceAll('\0', '\uFFFD') : text;
}

export function callLogStore(db: Database): CallLogStore & Pick<QueueStore, 'callTemplateId'> {
  // The next attempt of a delivery that is still owed comes no sooner than the hold ends.
  const columns = `SELECT a.attempt_id, a.closing_id, a.order_id::text, a.attempt, a.execution_id, a.trigger,
      a.started_at, a.duration_ms, a.outcome, a.reason, a.detail, a.status, a.body_start,
      coalesce((SELECT greatest(a.next_attempt_at, q.held_until) FROM orderhook.owed d
        JOIN orderhook.queues q ON q.institution_id = d.institution_id AND q.interface_id = d.interface_id
        WHERE a.next_attempt_at IS NOT NULL AND d.institution_id = a.institution_id AND d.interface_id = a.interface_id
          AND d.closing_id = a.closing_id AND d.attempts BETWEEN a.attempt - 1 AND a.attempt), a.next_attempt_at)
        AS next_attempt_at,
      coalesce(a.headers, (SELECT h.headers FROM orderhook.attempts h
        WHERE h.institution_id = a.institution_id AND h.interface_id = a.interface_id AND h.attempt_id = a.headers_in
          AND h.started_at BETWEEN a.started_at - ${COMMIT_SPAN_MS} AND a.started_at + ${COMMIT_SPAN_MS})) AS headers,
      t.method, t.url, t.payload, t.user_agent
    FROM orderhook.attempts a JOIN orderhook.call_templates t USING (institution_id, call_template_id)
    WHERE a.institution_id = $1 AND a.interface_id = $2`;
  const end = 'AND a.attempt_id < $3 ORDER BY a.attempt_id DESC LIMIT $4';
  const byId = db.reading(`${columns} AND a.attempt_id = $3 AND a.started_at = $4`);
  const all = db.reading(`${columns} ${end}`);
  const delivered = db.reading(`${columns} AND a.outcome = 'DELIVERED' ${end}`);
  const undelivered = db.reading(`${columns} AND a.outcome = $5 AND a.outcome <> 'DELIVERED' ${end}`);
  const ofOrder = db.reading(`${columns} AND a.order_id = $5 ${end}`);
  const ofOrderWithOutcome = db.reading(`${columns} AND a.order_id = $5 AND a.outcome = $6 ${end}`);
  const known = db.reading(
    'SELECT 1 FROM orderhook.interfaces WHERE institution_id = $1 AND interface_id = $2',
  );
  const log = db.writing(
    `WITH queue AS (
       UPDATE orderhook.queues SET last_attempt_id = last_attempt_id + 1
       WHERE institution_id = $1 AND interface_id = $2 RETURNING last_attempt_id
     )
     INSERT INTO orderhook.attempts (institution_id, interface_id, attempt_id, ${ATTEMPT_COLUMNS})
     SELECT $1, $2, queue.last_attempt_id, t.* FROM queue CROSS JOIN unnest(${ATTEMPT_TYPES.map((type, index) => `$${index + 3}::${type}[]`).join(', ')}) t
     RETURNING attempt_id`,
  );
  const findTemplate = db.reading(
    `SELECT call_template_id FROM orderhook.call_templates
     WHERE institution_id = $1 AND interface_id = $2 AND content_hash = $3`,
  );
  const insertTemplate = db.writing(
    `INSERT INTO orderhook.call_templates (institution_id, interface_id, content_hash, method, url, payload, user_agent)
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (institution_id, interface_id, content_hash) DO NOTHING`,
  );
  const partitions = makePartitions(db);

  return {
    async callTemplateId(institutionId, interfaceId, template) {
      const hash = contentHash(template);
      const find = async () =>
        (await findTemplate.row(institutionId, interfaceId, hash))?.call_template_id as number | undefined;
      const known = await find();
      if (known !== undefined) return known;
      const { method, url, payload, userAgent } = template;
      await insertTemplate.rows(institutionId, interfaceId, hash, method, url, payload ?? null, userAgent);
      return (await find()) as number;
    },

    async logAttempt(institutionId, interfaceId, callTemplateId, attempt) {
      const [row] = await withPartitions(partitions, 'attempts', [attempt.startedAt], () =>
        log.rows(
          institutionId,
          interfaceId,
          ...attemptValues([{ ...attempt, callTemplateId }], shareHeaders([attempt]).texts),
        ),
      );
      const logged = await byId.row(institutionId, interfaceId, row?.attempt_id as number, attempt.startedAt);
      return toLoggedAttempt(logged as Row);
    },

    async calls(institutionId, interfaceId, { limit, cursor, outcome, orderId }) {
      const keys = [institutionId, interfaceId, cursorNumber(cursor, FROM_NEWEST), limit + 1] as const;
      if (!(await known.row(institutionId, interfaceId))) return undefined;
      function find(): Promise<Row[]> {
        if (orderId !== undefined) {
          return outcome === undefined
            ? ofOrder.rows(...keys, orderId)
            : ofOrderWithOutcome.rows(...keys, orderId, outcome);
        }
        if (outcome === undefined) return all.rows(...keys);
        return outcome === 'DELIVERED' ? delivered.rows(...keys) : undelivered.rows(...keys, outcome);
      }
      return toPage((await find()).map(toLoggedAttempt), limit, ({ id }) => id);
    },
  };
}
