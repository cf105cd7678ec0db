import { after, before } from 'node:test';
import { storeContract } from './store-contract.ts';
import { openTestStore, PostgresServer } from './support/postgres-server.ts';

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

storeContract('the PostgreSQL store', async () => {
  const store = await openTestStore(await server.database());
  return { store, close: () => store.close() };
});
