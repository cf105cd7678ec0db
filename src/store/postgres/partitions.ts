/**
 * The log of closings and the call log are cut by time into partitions, so that what is old goes by dropping a table.
 *
 * There is no default partition: it would grow, and have to be searched each time another one is made. Partitions are made
 * ahead at the start and by retention; a time for which there is none, because a clock jumped, gets one when it comes.
 */
import { int8Array } from './arrays.ts';
import type { Database, Statement } from './database.ts';
import { isPartitionMissing } from './trouble.ts';

export type PartitionedTable = 'closings' | 'attempts';
export const PARTITIONED_TABLES: readonly PartitionedTable[] = ['closings', 'attempts'];

const MS_PER_DAY = 86_400_000;
/** Longer than a process could fail to come to it, and than a weekend. */
const AHEAD_DAYS = 14;

/** Parameters: the table and an array of times. */
export function makePartitions(db: Database): Statement {
  return db.writing('SELECT orderhook.make_partition($1, at) FROM unnest($2::bigint[]) at ORDER BY at');
}

export async function makePartitionsAhead(statement: Statement, now: number): Promise<void> {
  const days = Array.from({ length: AHEAD_DAYS + 1 }, (_, day) => now + day * MS_PER_DAY);
  for (const table of PARTITIONED_TABLES) await statement.rows(table, int8Array(days));
}

/** Runs `work`, which writes rows of these times; once more, should there be no partition for them. */
export async function withPartitions<T>(
  statement: Statement,
  table: PartitionedTable,
  times: readonly number[],
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isPartitionMissing(error)) throw error;
    const days = new Set(times.map((time) => Math.floor(time / MS_PER_DAY) * MS_PER_DAY));
    await statement.rows(table, int8Array([...days]));
    return work();
  }
}
