/** What the pages on PostgreSQL tell to type does what they say. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { orderText } from './store-contract.ts';
import { CODE, Venue } from './support/postgres-fixture.ts';
import { openTestStore, PostgresServer } from './support/postgres-server.ts';

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

/** The blocks of a page that are set off as code, and begin so. */
function blocks(page: string, beginning: string): string[] {
  const text = readFileSync(new URL(`../docs/${page}`, import.meta.url), 'utf8');
  const all = [...text.matchAll(/^( *)```\w*\n([\s\S]*?)^ *```/gm)].map(([, , block]) =>
    (block as string).trim(),
  );
  return all.filter((block) => block.startsWith(beginning));
}

describe('docs/scaling.md', () => {
  test('the settings for pgbouncer are what a node without LISTEN needs', async () => {
    const url = await server.database();
    await server.query('CREATE ROLE orderhook LOGIN', url);
    const [{ name } = {}] = await server.query('SELECT current_database() AS name', url);
    await server.query(`GRANT CREATE ON DATABASE ${name} TO orderhook`, url);
    await server.query('ALTER ROLE orderhook SET synchronous_commit = off', url);
    const own = url.replace('//postgres', '//orderhook');
    await assert.rejects(openTestStore(own, { listen: false }), /synchronous_commit is off/);
    const [settings] = blocks('scaling.md', 'ALTER ROLE orderhook');
    await server.query(settings as string, url);
    await (await openTestStore(own, { listen: false })).close();
    const [row] = await server.query(
      `SELECT current_setting('statement_timeout') AS statements, current_setting('jit') AS jit,
         current_setting('idle_in_transaction_session_timeout') AS idle, current_setting('enable_seqscan') AS seqscan,
         current_setting('enable_bitmapscan') AS bitmapscan`,
      own,
    );
    assert.deepEqual(row, { statements: '5s', jit: 'off', idle: '10s', seqscan: 'off', bitmapscan: 'off' });
  });

  test('partitions get the length that is set', async (t) => {
    const venue = await Venue.open(server);
    t.after(() => venue.store.close());
    const [shorter] = blocks('scaling.md', 'UPDATE');
    await server.query(shorter as string, venue.url);
    const [row] = await server.query('SELECT partition_days FROM orderhook.installation', venue.url);
    assert.deepEqual(row, { partition_days: 1 });
  });

  test('a long transaction, and a prepared one, are found', async (t) => {
    const preparing = await PostgresServer.start({ settings: ['max_prepared_transactions=2'] });
    t.after(() => preparing.remove());
    const [finding] = blocks('scaling.md', 'SELECT pid');
    const [running, prepared] = (finding as string).split(';\n') as [string, string];
    const client = await preparing.client();
    t.after(() => client.end());
    await client.query('BEGIN; CREATE TABLE forgotten ()');
    const [found] = await preparing.query(running);
    assert.deepEqual([found?.datname, found?.usename], ['postgres', 'postgres']);
    await client.query("PREPARE TRANSACTION 'forgotten'");
    assert.deepEqual(await preparing.query(running), []);
    assert.deepEqual(
      (await preparing.query(prepared)).map(({ gid }) => gid),
      ['forgotten'],
    );
    await client.query("ROLLBACK PREPARED 'forgotten'");
  });
});

describe('docs/outbox.md', () => {
  test('an administrator can make the role that the migrations could not', async (t) => {
    // Roles are those of the whole server.
    const fresh = await PostgresServer.start();
    t.after(() => fresh.remove());
    const url = await fresh.database();
    await fresh.query('CREATE ROLE owner LOGIN; CREATE ROLE ticketing LOGIN', url);
    const [{ name } = {}] = await fresh.query('SELECT current_database() AS name', url);
    await fresh.query(`GRANT CREATE ON DATABASE ${name} TO owner`, url);
    const as = (role: string) => url.replace('//postgres', `//${role}`);
    const store = await openTestStore(as('owner'));
    t.after(() => store.close());
    const { id } = await store.createInstitution({ code: CODE, name: 'x', timeZone: 'UTC', createdAt: 0 });
    const call = `SELECT orderhook.close_order('${CODE}', '${orderText(1)}')`;
    await assert.rejects(fresh.query(call, as('ticketing')), { code: '42501' });
    const [making] = blocks('outbox.md', 'CREATE ROLE orderhook_outbox');
    const [granting] = blocks('outbox.md', 'GRANT orderhook_outbox');
    await fresh.query(making as string, url);
    await fresh.query(granting as string, url);
    await fresh.query(call, as('ticketing'));
    assert.equal((await store.closingsOf(id, '1', 9)).length, 1);
  });
});
