/**
 * The numbered SQL files of `migrations/postgres`, each applied once and in order, forward only.
 *
 * All that are missing are one transaction, begun by a lock: of several nodes that start at once one applies them, and
 * the others find nothing left to do. So a file must not lock a big table for long, and whatever cannot run inside a
 * transaction (CREATE INDEX CONCURRENTLY) does not belong there.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type pg from 'pg';
import { StartError } from '../../model/app-error.ts';
import type { Database } from './database.ts';
import { sqlState } from './trouble.ts';

const MIGRATIONS = new URL('../migrations/postgres/', import.meta.url);
/** A migration that waits for a table would have everybody else wait behind it. */
const LOCK_TIMEOUT_MS = 5_000;
const LOCK_RETRIES_MAX = 24;
/** PostgreSQL 14. */
const SERVER_VERSION_MIN = 140_000;

/** @throws StartError when the schema is of a newer Orderhook, or the server or the user cannot carry it */
export async function migrate(db: Database): Promise<void> {
  const names = readdirSync(MIGRATIONS)
    .filter((name) => /^\d{4}-.+\.sql$/.test(name))
    .sort();
  const client = await db.connect(false);
  try {
    await checkServer(client);
    if ((await versionOf(client, db, names.length)) === names.length) return;
    for (let tries = 1; ; tries += 1) {
      try {
        await apply(client, db, names);
        return;
      } catch (error) {
        await client.query('ROLLBACK');
        if (sqlState(error) === '55P03' && tries < LOCK_RETRIES_MAX) continue;
        if (sqlState(error) === '42501') {
          throw new StartError(
            `The database user may not create the schema ${db.schema} or something in it: ${(error as Error).message}. ` +
              'Start once, or run `orderhook migrate`, as a user who may.',
            { cause: error },
          );
        }
        throw error;
      }
    }
  } finally {
    await client.end();
  }
}

async function apply(client: pg.Client, db: Database, names: readonly string[]): Promise<void> {
  await client.query('BEGIN');
  await client.query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
  await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`${db.schema}.migrations`]);
  // Only when it is not there: the statement asks for the right to create schemas even if it is.
  const known = await client.query('SELECT FROM pg_namespace WHERE nspname = $1', [db.schema]);
  if (known.rowCount === 0) await client.query(db.named('CREATE SCHEMA orderhook'));
  await client.query(
    db.named(`CREATE TABLE IF NOT EXISTS orderhook.migrations (
      version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`),
  );
  const version = await versionOf(client, db, names.length);
  for (const [index, name] of names.entries()) {
    if (index < version) continue;
    await client.query(db.named(readFileSync(new URL(name, MIGRATIONS), 'utf8')));
    await client.query(db.named('INSERT INTO orderhook.migrations (version, name) VALUES ($1, $2)'), [
      index + 1,
      name,
    ]);
  }
  await client.query('COMMIT');
}

/** 0: there is nothing yet. */
async function versionOf(client: pg.Client, db: Database, newest: number): Promise<number> {
  const { rows } = await client.query('SELECT to_regclass($1) IS NOT NULL AS is_there', [
    `${db.schema}.migrations`,
  ]);
  if (!rows[0]?.is_there) return 0;
  const result = await client.query(
    db.named('SELECT coalesce(max(version), 0) AS version FROM orderhook.migrations'),
  );
  const version = Number(result.rows[0]?.version);
  if (version > newest) {
    throw new StartError(
      `The database has schema version ${version}; this Orderhook knows versions up to ${newest}. ` +
        'Use the Orderhook that wrote it, or a newer one.',
    );
  }
  return version;
}

async function checkServer(client: pg.Client): Promise<void> {
  const { rows } = await client.query(
    `SELECT current_setting('server_version_num')::integer AS number, current_setting('server_version') AS name,
       pg_encoding_to_char(encoding) AS encoding FROM pg_database WHERE datname = current_database()`,
  );
  const { number, name, encoding } = rows[0] as { number: number; name: string; encoding: string };
  if (number < SERVER_VERSION_MIN) {
    throw new StartError(`The database server is PostgreSQL ${name}; Orderhook needs 14 or newer.`);
  }
  if (encoding !== 'UTF8') {
    throw new StartError(`The database is encoded in ${encoding}; Orderhook needs one in UTF8.`);
  }
}
