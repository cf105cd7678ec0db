/**
 * pg-boss, set up at its best: jobs fetched and completed in batches, by several loops, so that one batch is called while
 * others are fetched and completed; no maintenance while a round runs. Its `fetch` and `complete` are what its `work` does,
 * without the polling between, and tell exactly when a batch is completed.
 */
import pg from 'pg';
import { isWanted, type OrderDetails, orderDetails } from '../support/orders.ts';
import { loadPeer } from '../support/peer.ts';
import { Calls, runSender } from './sender.ts';

/** What is used of it. */
type PgBossModule = {
  readonly PgBoss: new (
    options: object,
  ) => {
    on(event: 'error', listener: (error: Error) => void): void;
    start(): Promise<unknown>;
    createQueue(name: string, options?: object): Promise<void>;
    insert(name: string, jobs: readonly { data: unknown }[]): Promise<unknown>;
    fetch(name: string, options: { batchSize: number }): Promise<{ id: string; data: OrderDetails }[]>;
    complete(name: string, ids: string[]): Promise<{ affected: number }>;
    deleteAllJobs(name: string): Promise<unknown>;
  };
};

const QUEUE = 'orders';
/** 1, 2 and 5 loops, and batches of 250 and 500, were slower. */
const BATCH_SIZE = 1_000;
const LOOPS = 3;
const JOBS_PER_INSERT = 1_000;

await runSender(async ({ url, concurrency, serverUrl }) => {
  const { PgBoss } = await loadPeer<PgBossModule>('pg-boss');
  const boss = new PgBoss({ connectionString: serverUrl, supervise: false, schedule: false, max: 10 });
  boss.on('error', (error) => {
    throw error;
  });
  await boss.start();
  await boss.createQueue(QUEUE, {});
  const calls = new Calls(url, concurrency);

  async function work(): Promise<number> {
    let completed = 0;
    for (;;) {
      const jobs = await boss.fetch(QUEUE, { batchSize: BATCH_SIZE });
      if (jobs.length === 0) return completed;
      await Promise.all(jobs.map(({ data }) => isWanted(data) && calls.promise(data.orderId)));
      const { affected } = await boss.complete(
        QUEUE,
        jobs.map(({ id }) => id),
      );
      completed += affected;
    }
  }

  return {
    description: `pg-boss, ${LOOPS} loops that fetch and complete ${BATCH_SIZE} jobs at a time, undici Pool.dispatch`,

    async load(first, count) {
      await boss.deleteAllJobs(QUEUE);
      for (let done = 0; done < count; done += JOBS_PER_INSERT) {
        const orders = Array.from({ length: Math.min(JOBS_PER_INSERT, count - done) }, (_, at) =>
          orderDetails(first + done + at),
        );
        await boss.insert(
          QUEUE,
          orders.map((data) => ({ data })),
        );
      }
      await vacuum(serverUrl);
    },

    async drain(_first, count) {
      const completed = await Promise.all(Array.from({ length: LOOPS }, work));
      const sum = completed.reduce((total, each) => total + each, 0);
      if (sum !== count) throw new Error(`${sum} of ${count} jobs were completed`);
    },
  };
});

/** What autovacuum would do in time: a round finds neither the dead rows of the last one nor plans for an empty table. */
async function vacuum(connectionString: string): Promise<void> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  await client.query('VACUUM ANALYZE');
  await client.end();
}
