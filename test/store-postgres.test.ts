import { after, before } from 'node:test';
import { storeContract } from './store-contract.ts';
import { openTestStore, PostgresServer, pretendEarlierVersion } from './support/postgres-server.ts';

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

storeContract('the PostgreSQL store', async () => {
  const url = await server.database();
  const store = await openTestStore(url);
  return {
    store,
    pretendEarlierVersion: () => pretendEarlierVersion(server, url),
    close: () => store.close(),
  };
});
