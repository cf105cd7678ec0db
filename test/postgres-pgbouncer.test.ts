/** Everything that works on PostgreSQL works the same where sessions are not kept. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { storeContract } from './store-contract.ts';
import { nextChange, putClosed, Venue } from './support/postgres-fixture.ts';
import { installedPgbouncer, Pgbouncer } from './support/postgres-pgbouncer.ts';
import { openTestStore, PostgresServer, pretendEarlierVersion } from './support/postgres-server.ts';

const binary = installedPgbouncer();
const skip = binary ? false : 'pgbouncer is not installed';

describe('behind pgbouncer in transaction mode', { skip }, () => {
  let server: PostgresServer;
  let pgbouncer: Pgbouncer;
  before(async () => {
    // pgbouncer keeps some connections to the database of each test.
    server = await PostgresServer.start({ settings: ['max_connections=200'] });
    pgbouncer = await Pgbouncer.start(binary as string, server);
  });
  after(async () => {
    await pgbouncer.stop();
    await server.remove();
  });

  storeContract('the PostgreSQL store', async () => {
    const url = await server.database();
    const store = await openTestStore(pgbouncer.url(url), { listen: false });
    return {
      store,
      pretendEarlierVersion: () => pretendEarlierVersion(server, url),
      close: () => store.close(),
    };
  });

  test('many stores share few sessions, and one that looks for itself hears of what others close', async () => {
    const venue = await Venue.open(server);
    await venue.createInterface();
    const url = pgbouncer.url(venue.url);
    const stores = await Promise.all(Array.from({ length: 6 }, () => openTestStore(url, { listen: false })));
    const heard = nextChange(venue.store, 'closings');
    const looked = stores.map((store) => nextChange(store, 'closings'));
    await Promise.all(
      stores.map((store, n) =>
        putClosed(
          store,
          venue.id,
          Array.from({ length: 50 }, (_, i) => n * 40 + i + 1),
        ),
      ),
    );
    await Promise.all([heard, ...looked]);
    const [{ closings } = {}] = await server.query(
      'SELECT count(*)::int AS closings FROM orderhook.closings',
      venue.url,
    );
    assert.equal(closings, 250);
    const sessions = await server.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'orderhook'`,
      venue.url,
    );
    assert.ok(sessions.length <= 3 + 5, `${sessions.length} sessions`);
    await Promise.all(stores.map((store) => store.close()));
    await venue.store.close();
  });
});
