/** How SQLite goes about each statement of the store: what a table's growth may not change. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { openSqliteStore } from '../src/store/sqlite/sqlite-store.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

/**
 * Tables, and names that statements give them, with a row for each thing that people set up; `chain` is the closings of one
 * order. All others grow with orders.
 */
const SMALL = ['counters', 'api_keys', 'institutions', 'interfaces', 'queues', 'i', 'q', 'chain'];

/** The plan's lines that look at every row, or sort rows, of a table that grows. */
function costlySteps(db: DatabaseSync, sql: string): string[] {
  return db
    .prepare(`EXPLAIN QUERY PLAN ${sql}`)
    .all()
    .map(({ detail }) => String(detail))
    .filter((detail) => {
      const scanned = /^SCAN (\S+)/.exec(detail)?.[1];
      if (scanned?.startsWith('(subquery-')) return false; // what it consists of has lines of its own
      return (
        (scanned !== undefined && !SMALL.includes(scanned)) || /TEMP B-TREE|AUTOMATIC .*INDEX/.test(detail)
      );
    });
}

test('no statement looks at every row of a table that grows', async (t) => {
  const prepare = t.mock.method(DatabaseSync.prototype, 'prepare');
  const folder = temporaryFolder();
  t.after(() => folder.remove());
  const file = join(folder.path, 'orderhook.db');
  const store = openSqliteStore({ file });
  const statements = new Set(prepare.mock.calls.map(({ arguments: [sql] }) => String(sql)));
  prepare.mock.restore();
  await store.close();

  const db = new DatabaseSync(file);
  t.after(() => db.close());
  const questions = [...statements].filter((sql) => /^\s*(SELECT|INSERT|UPDATE|DELETE|WITH)/.test(sql));
  assert.ok(questions.length > 100, `only ${questions.length} statements were seen`);
  const costly = questions.flatMap((sql) => costlySteps(db, sql).map((step) => `${step}: ${sql}`));
  assert.deepEqual(costly, []);
  // The check itself can fail.
  assert.deepEqual(costlySteps(db, 'SELECT * FROM attempts WHERE status = 500'), ['SCAN attempts']);
  assert.equal(
    costlySteps(db, 'SELECT * FROM orders WHERE institution_id = 1 ORDER BY updated_at').length,
    1,
  );
});
