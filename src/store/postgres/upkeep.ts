/** Leases, which spread the interfaces over the nodes, and the removal of what is old. */

import type { Clock } from '../../model/clock.ts';
import type { Row } from '../rows.ts';
import { type Lease, type LeaseStore, ORDER_PASS_EVERY_MS, type RetentionStore } from '../store.ts';
import { int8Array } from './arrays.ts';
import type { Database } from './database.ts';
import { makePartitions, makePartitionsAhead } from './partitions.ts';
import { sqlState } from './trouble.ts';
import { COUNTED_OF_EACH_MAX, waitingCount, waitingCountOf } from './waiting-count.ts';

/**
 * One statement: a node that is paused in the middle of it leaves nothing half done.
 *
 * Of m interfaces each of n nodes may hold ⌊m / n⌋, and the m mod n that hold most (then by name) one more, so that
 * interfaces move as little as they must. What a node holds above that is its `excess`; all excess and what nobody holds
 * together are just what the others lack.
 *
 * The look may be a moment old. So an interface is taken only if its row is as it was seen: an owner that the look did not
 * know to be alive may have come since. What came out uneven is evened out at the next look.
 */
const HOLD = `
  WITH node AS (
    INSERT INTO orderhook.nodes AS n (node_id, expires_at)
    VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
    ON CONFLICT (node_id) DO UPDATE SET expires_at = excluded.expires_at
  ), living AS MATERIALIZED (
    SELECT node_id FROM orderhook.nodes WHERE expires_at > clock_timestamp() UNION SELECT $1
  ), alive AS MATERIALIZED (
    SELECT institution_id, interface_id, owner, fence FROM orderhook.queues WHERE NOT deleted
  ), shares AS (
    SELECT l.node_id, count(a.interface_id) AS holds, (SELECT count(*) FROM alive) AS all_interfaces,
      count(*) OVER () AS all_nodes, row_number() OVER (ORDER BY count(a.interface_id) DESC, l.node_id) AS rank
    FROM living l LEFT JOIN alive a ON a.owner = l.node_id GROUP BY l.node_id
  ), mine AS MATERIALIZED (
    SELECT holds, all_interfaces / all_nodes + CASE WHEN rank <= all_interfaces % all_nodes THEN 1 ELSE 0 END AS share
    FROM shares WHERE node_id = $1
  ), taken AS (
    UPDATE orderhook.queues q SET owner = $1, fence = q.fence + 1
    FROM (
      SELECT q.institution_id, q.interface_id FROM orderhook.queues q
      JOIN alive a ON a.institution_id = q.institution_id AND a.interface_id = q.interface_id
        AND a.fence = q.fence AND a.owner IS NOT DISTINCT FROM q.owner
      WHERE NOT q.deleted AND (a.owner IS NULL OR a.owner NOT IN (SELECT node_id FROM living))
      ORDER BY q.institution_id, q.interface_id
      LIMIT (SELECT greatest(share - holds, 0) FROM mine)
      FOR UPDATE OF q SKIP LOCKED
    ) f
    WHERE q.institution_id = f.institution_id AND q.interface_id = f.interface_id
    RETURNING q.institution_id, q.interface_id, q.fence
  )
  SELECT institution_id, interface_id, fence, false AS is_excess FROM taken
  UNION ALL
  SELECT institution_id, interface_id, fence,
    row_number() OVER (ORDER BY institution_id DESC, interface_id DESC) <= (SELECT holds - share FROM mine)
  FROM alive WHERE owner = $1`;

/** Nodes that ended without a word are forgotten after this. */
const NODE_KEPT_MINUTES = 60;

export function leaseStore(db: Database): LeaseStore {
  const hold = db.writing(HOLD);
  const forget = db.writing(
    `DELETE FROM orderhook.nodes WHERE expires_at < clock_timestamp() - interval '${NODE_KEPT_MINUTES} minutes'`,
  );
  const releaseAll = db.writing(
    `WITH node AS (DELETE FROM orderhook.nodes WHERE node_id = $1)
     UPDATE orderhook.queues SET owner = NULL WHERE owner = $1`,
  );
  const release = db.writing(
    'UPDATE orderhook.queues SET owner = NULL WHERE owner = $1 AND interface_id = ANY ($2::bigint[])',
  );
  let holds = 0;
  return {
    async holdLeases(nodeId, ttlMs) {
      const rows = await hold.rows(nodeId, ttlMs);
      holds += 1;
      if (holds % 100 === 1) await forget.rows();
      return {
        held: rows.map(toLease),
        excess: rows.filter((row) => row.is_excess).map((row) => row.interface_id as number),
      };
    },
    async releaseLeases(nodeId, interfaceIds) {
      if (interfaceIds === undefined) await releaseAll.rows(nodeId);
      else await release.rows(nodeId, int8Array(interfaceIds));
    },
  };
}

function toLease(row: Row): Lease {
  return {
    institutionId: row.institution_id as number,
    interfaceId: row.interface_id as number,
    fence: row.fence as number,
  };
}

/** Rows that one step removes: some milliseconds of work. */
const STEP_ROWS = 500;
/** Of a partition of the call log that is old in part: above this it waits until all of it is, and goes at once. */
const TRIMMED_ROWS_MAX = 200_000;
/** Whoever waits for a table has all others wait behind it. */
const DROP_WAIT_MS = 50;
/** Of a table that is looked through, for one step: half a megabyte. */
const STEP_BLOCKS = 64;
/** Orders that one such step looks at, and that it removes. */
const STEP_LOOKS = 200;
const STEP_ORDERS = 100;

export function retentionStore(db: Database, clock: Pick<Clock, 'now'>): RetentionStore {
  const ahead = makePartitions(db);
  const oldPartitions = db.reading(
    'SELECT name FROM orderhook.partitions WHERE parent = $1 AND to_at <= $2 ORDER BY from_at',
  );
  const partlyOld = db.reading(
    `SELECT p.name FROM orderhook.partitions p JOIN pg_class c ON c.oid = ('orderhook.' || quote_ident(p.name))::regclass
     WHERE p.parent = 'attempts' AND p.from_at < $1 AND p.to_at > $1 AND c.reltuples < ${TRIMMED_ROWS_MAX}`,
  );
  const drop = db.writing('SELECT orderhook.drop_partition($1, $2, $3) AS rows');
  const trim = db.writing('SELECT orderhook.trim_attempts($1, $2, $3) AS rows');
  const oldExecutions = db.writing(
    `WITH gone AS (
       DELETE FROM orderhook.executions e USING (
         SELECT institution_id, execution_id FROM orderhook.executions
         WHERE started_at < $1 AND status <> 'RUNNING' ORDER BY started_at LIMIT ${STEP_ROWS}) old
       WHERE e.institution_id = old.institution_id AND e.execution_id = old.execution_id
       RETURNING e.institution_id, e.execution_id
     ), resends AS (
       DELETE FROM orderhook.resends r USING gone
       WHERE r.institution_id = gone.institution_id AND r.execution_id = gone.execution_id
     )
     SELECT count(*) AS rows FROM gone`,
  );
  const noteRemoval = db.writing(
    "UPDATE orderhook.upkeep SET value = $1 WHERE name = 'attempts_removed_before' AND value < $1",
  );
  const emptyExecutions = db.writing('SELECT orderhook.remove_empty_executions($1) AS rows');
  const oldOrders = db.writing('SELECT * FROM orderhook.remove_old_orders($1, $2, $3, $4, $5, $6)');
  const queues = db.reading(
    `SELECT q.owed, q.abandoned, w.* FROM orderhook.queues q CROSS JOIN LATERAL (${waitingCountOf(COUNTED_OF_EACH_MAX)}) w WHERE NOT q.deleted`,
  );

  /** How many rows went with it; undefined when somebody uses the table or what is in it. */
  async function dropPartition(table: string, name: string): Promise<number | undefined> {
    try {
      return ((await drop.row(table, name, DROP_WAIT_MS))?.rows as number | null) ?? undefined;
    } catch (error) {
      if (isStillUsed(error)) return undefined;
      throw error;
    }
  }

  return {
    async removeOlderThan(time) {
      await makePartitionsAhead(ahead, clock.now());
      for (const table of ['attempts', 'closings']) {
        for (const { name } of await oldPartitions.rows(table, time)) {
          if (table === 'attempts') await noteRemoval.rows(time);
          const rows = await dropPartition(table, name as string);
          if (rows !== undefined) return Math.max(rows, 1);
        }
      }
      for (const { name } of await partlyOld.rows(time)) {
        await noteRemoval.rows(time);
        const rows = (await trim.row(name as string, time, STEP_ROWS))?.rows as number;
        if (rows > 0) return rows;
      }
      const executions = ((await oldExecutions.row(time))?.rows as number | undefined) ?? 0;
      if (executions > 0) return executions;
      const empty = (await emptyExecutions.row(STEP_BLOCKS))?.rows as number | null;
      return empty === null ? 0 : Math.max(empty, 1);
    },

    async removeOrdersOlderThan(time, now) {
      const row = await oldOrders.row(time, now, STEP_BLOCKS, STEP_LOOKS, STEP_ORDERS, ORDER_PASS_EVERY_MS);
      return { removed: row?.removed as number, hasMore: row?.has_more === true };
    },

    /** The server's autovacuum does that. */
    async giveRoomBack() {
      return { hasMore: false };
    },

    async queueTotals() {
      const totals = { waiting: 0, owed: 0, abandoned: 0 };
      for (const row of await queues.rows()) {
        totals.waiting += waitingCount(row, COUNTED_OF_EACH_MAX);
        totals.owed += row.owed as number;
        totals.abandoned += row.abandoned as number;
      }
      return totals;
    },
  };
}

/** Waited DROP_WAIT_MS for the table in vain; the store says so as an error of the database, with its cause. */
function isStillUsed(error: unknown): boolean {
  return error instanceof Error && sqlState(error.cause) === '55P03';
}
