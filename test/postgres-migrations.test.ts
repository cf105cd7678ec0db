/** What a new version does to the big tables of an installation that has been used. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { openTestStore, PostgresServer } from './support/postgres-server.ts';

const MIGRATIONS = new URL('../src/store/migrations/postgres/', import.meta.url);
/** With these the tables are there and can be filled. */
const FIRST = 2;
const ROWS = 20_000;

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

describe('migrations after the first', () => {
  test('rewrite no big table, build no index of one, and keep every row', async (t) => {
    const url = await server.database();
    const client = await server.client(url);
    t.after(() => client.end());
    const names = readdirSync(MIGRATIONS).sort();
    await client.query('CREATE SCHEMA orderhook');
    await client.query(
      'CREATE TABLE orderhook.migrations (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())',
    );
    for (const [index, name] of names.slice(0, FIRST).entries()) {
      await client.query(readFileSync(new URL(name, MIGRATIONS), 'utf8'));
      await client.query('INSERT INTO orderhook.migrations (version, name) VALUES ($1, $2)', [
        index + 1,
        name,
      ]);
    }
    await client.query(
      `INSERT INTO orderhook.orders (institution_id, order_id, updated_at, order_state, details)
         SELECT 1, n, n, 'OPEN', '{}' FROM generate_series(1, ${ROWS}) n`,
    );
    await client.query("SELECT orderhook.make_partition('attempts', 5)");
    await client.query(
      `INSERT INTO orderhook.attempts (institution_id, interface_id, attempt_id, started_at, order_id, call_template_id,
           duration_ms, attempt, trigger, outcome)
         SELECT 1, 1, n, 5, n, 1, 1, 1, 'AUTOMATIC', 'DELIVERED' FROM generate_series(1, ${ROWS}) n`,
    );
    // Names and files of tables, partitions and indexes: a rewritten one has another file.
    const files = async () => {
      const { rows } = await client.query<{ name: string; file: string }>(
        `SELECT c.relname AS name, pg_relation_filenode(c.oid)::text AS file FROM pg_class c
         WHERE c.relnamespace = 'orderhook'::regnamespace AND c.relkind IN ('r', 'i') AND pg_relation_size(c.oid) > 100000
         ORDER BY 1`,
      );
      return rows;
    };
    const filled = await files();
    for (const table of ['orders', 'attempts']) {
      assert.ok(
        filled.some(({ name }) => name.startsWith(table)),
        table,
      );
    }

    await (await openTestStore(url)).close();

    assert.deepEqual(await files(), filled);
    const { rows } = await client.query(
      `SELECT (SELECT count(*)::integer FROM orderhook.orders) AS orders,
         (SELECT count(*)::integer FROM orderhook.attempts) AS attempts,
         (SELECT count(*)::integer FROM orderhook.migrations) AS migrations`,
    );
    assert.deepEqual(rows[0], { orders: ROWS, attempts: ROWS, migrations: names.length });
  });
});
