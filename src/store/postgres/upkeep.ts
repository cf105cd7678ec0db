/** Leases, which spread the interfaces over the nodes, and the removal of what is old. */
import type { Lease, LeaseStore, RetentionStore } from '../store.ts';
import { int8Array } from './arrays.ts';
import type { Database } from './database.ts';
import { makePartitions, makePartitionsAhead } from './partitions.ts';
import type { Row } from './rows.ts';
import { sqlState } from './trouble.ts';
import { WAITING_COUNT, waitingCount } from './waiting-count.ts';

/**
 * One statement: a node that is paused in the middle of it leaves nothing half done.
 *
 * Every node may hold ⌊interfaces / nodes⌋, and those that come first one more while some are left. Who takes is decided by
 * the locks on the rows, so two nodes never take the same interface; who *may* take, by a look that may be a moment old, and
 * what was too much is given back after the next look.
 *
 * - A node whose time is over holds nothing, whether or not somebody has taken its interfaces yet.
 * - It gives back (`excess`) only when others are short of interfaces that nobody is free to give them; of several that
 *   hold too much, those that hold most begin.
 */
const HOLD = `
  WITH node AS (
    INSERT INTO orderhook.nodes AS n (node_id, expires_at)
    VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
    ON CONFLICT (node_id) DO UPDATE SET expires_at = excluded.expires_at
  ), living AS MATERIALIZED (
    SELECT node_id FROM orderhook.nodes WHERE expires_at > clock_timestamp() UNION SELECT $1
  ), shares AS MATERIALIZED (
    SELECT l.node_id, count(q.interface_id) AS holds FROM living l
    LEFT JOIN orderhook.queues q ON q.owner = l.node_id AND NOT q.deleted GROUP BY l.node_id
  ), sums AS MATERIALIZED (
    SELECT (SELECT count(*) FROM orderhook.queues WHERE NOT deleted) / count(*) AS fair,
      (SELECT count(*) FROM orderhook.queues WHERE NOT deleted) - sum(holds) AS free,
      coalesce(max(holds) FILTER (WHERE node_id = $1), 0) AS mine
    FROM shares
  ), needs AS MATERIALIZED (
    SELECT sums.*,
      (SELECT coalesce(sum(fair - holds), 0) FROM shares WHERE node_id <> $1 AND holds < fair) AS others_lack,
      -- What those give back that hold more than this node, or as much and come first.
      (SELECT coalesce(sum(holds - fair), 0) FROM shares
       WHERE holds > fair AND (holds, node_id) > (mine, $1)) AS others_give
    FROM sums
  ), taken AS (
    UPDATE orderhook.queues q SET owner = $1, fence = q.fence + 1
    FROM (
      SELECT institution_id, interface_id FROM orderhook.queues
      WHERE NOT deleted AND (owner IS NULL OR owner NOT IN (SELECT node_id FROM living))
      ORDER BY institution_id, interface_id
      LIMIT (SELECT greatest(fair - mine, 0) + CASE WHEN mine <= fair AND free - greatest(fair - mine, 0) > others_lack
        THEN 1 ELSE 0 END FROM needs)
      FOR UPDATE SKIP LOCKED
    ) f
    WHERE q.institution_id = f.institution_id AND q.interface_id = f.interface_id
    RETURNING q.institution_id, q.interface_id, q.fence
  )
  SELECT institution_id, interface_id, fence, 0 AS excess FROM taken
  UNION ALL
  SELECT institution_id, interface_id, fence,
    CASE WHEN row_number() OVER (ORDER BY institution_id DESC, interface_id DESC)
      <= least(mine - fair, others_lack - free - others_give) THEN 1 ELSE 0 END
  FROM orderhook.queues CROSS JOIN needs WHERE owner = $1 AND NOT deleted`;

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
        excess: rows.filter(({ excess }) => excess === 1).map((row) => row.interface_id as number),
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

export function retentionStore(db: Database): RetentionStore {
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
  const queues = db.reading(
    `SELECT q.owed, q.abandoned, w.* FROM orderhook.queues q CROSS JOIN LATERAL (${WAITING_COUNT}) w WHERE NOT q.deleted`,
  );

  /** How many rows went with it; undefined when somebody uses the table or what is in it. */
  async function dropPartition(table: string, name: string): Promise<number | undefined> {
    try {
      return (await drop.row(table, name, DROP_WAIT_MS))?.rows as number | undefined;
    } catch (error) {
      if (isStillUsed(error)) return undefined;
      throw error;
    }
  }

  return {
    async removeOlderThan(time) {
      await makePartitionsAhead(ahead, Date.now());
      for (const table of ['attempts', 'closings']) {
        for (const { name } of await oldPartitions.rows(table, time)) {
          const rows = await dropPartition(table, name as string);
          if (rows !== undefined) return Math.max(rows, 1);
        }
      }
      for (const { name } of await partlyOld.rows(time)) {
        const rows = (await trim.row(name as string, time, STEP_ROWS))?.rows as number;
        if (rows > 0) return rows;
      }
      return ((await oldExecutions.row(time))?.rows as number | undefined) ?? 0;
    },

    async queueTotals() {
      const totals = { waiting: 0, owed: 0, abandoned: 0 };
      for (const row of await queues.rows()) {
        totals.waiting += waitingCount(row);
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
