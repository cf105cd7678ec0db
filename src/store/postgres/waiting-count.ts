/**
 * How many closings a queue has yet to look at, without counting a million rows: exact up to COUNTED_MAX. Beyond that
 * the rest is estimated from the ids: as many closings of this institution among the newer ids as among those counted.
 * A counter per institution would be exact, and would have all that close orders wait in line for its row.
 */
import type { Row } from '../rows.ts';

/** Some 5 ms of work, for the figures of one queue. */
export const COUNTED_MAX = 20_000;
/** For all queues together. */
export const COUNTED_OF_EACH_MAX = 2_000;

/** Lateral to a queue `q`. What was committed before the interface was created does not count. */
export function waitingCountOf(countedMax: number): string {
  return `
  SELECT coalesce(count(*), 0) AS counted, min(l.closing_id) AS first_id, max(l.closing_id) AS last_id,
    (SELECT c.closing_id FROM orderhook.closings c WHERE c.institution_id = q.institution_id
     ORDER BY c.xid DESC, c.closing_id DESC LIMIT 1) AS newest_id
  FROM (SELECT c.closing_id FROM orderhook.closings c
        WHERE c.institution_id = q.institution_id AND (c.xid, c.closing_id) > (q.cursor_xid, q.cursor_id)
          AND NOT (c.xid < q.first_xmax AND c.xid <> ALL (q.first_running))
        ORDER BY c.xid, c.closing_id LIMIT ${countedMax}) l`;
}

export function waitingCount(row: Row, countedMax: number): number {
  const counted = row.counted as number;
  if (counted < countedMax) return counted;
  const [first, last, newest] = [row.first_id, row.last_id, row.newest_id] as [number, number, number];
  const share = counted / Math.max(1, last - first + 1);
  return counted + Math.round(Math.max(0, newest - last) * Math.min(1, share));
}
