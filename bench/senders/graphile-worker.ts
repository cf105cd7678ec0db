/**
 * graphile-worker, set up at its best, as its page on performance says: a local queue that fetches many jobs at a time,
 * completions in batches without a delay, and as many jobs at once as there are connections to the callee.
 */
import { setTimeout as wait } from 'node:timers/promises';
import pg from 'pg';
import { isWanted, type OrderDetails, orderDetails } from '../support/orders.ts';
import { loadPeer } from '../support/peer.ts';
import { Calls, runSender } from './sender.ts';

/** What is used of it. */
type GraphileWorker = {
  readonly Logger: new (factory: () => () => void) => object;
  makeWorkerUtils(options: object): Promise<{
    migrate(): Promise<void>;
    addJobs(jobs: readonly { identifier: string; payload: unknown }[]): Promise<unknown>;
  }>;
  run(options: object): Promise<{ stop(): Promise<void> }>;
};

const TASK = 'order';
/** 100 and 256 at once, and local queues of 1,000 and 2,000, were slower. */
const JOBS_AT_ONCE = 64;
const LOCAL_QUEUE_SIZE = 500;
const JOBS_PER_ADD = 1_000;

await runSender(async ({ url, concurrency, serverUrl }) => {
  const { Logger, makeWorkerUtils, run } = await loadPeer<GraphileWorker>('graphile-worker');
  const logger = new Logger(() => () => {});
  const utils = await makeWorkerUtils({ connectionString: serverUrl, logger });
  await utils.migrate();
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  const calls = new Calls(url, concurrency);
  return {
    description: `graphile-worker, ${JOBS_AT_ONCE} jobs at once, local queue of ${LOCAL_QUEUE_SIZE}, completions in batches, undici Pool.dispatch`,

    async load(first, count) {
      for (let done = 0; done < count; done += JOBS_PER_ADD) {
        const orders = Array.from({ length: Math.min(JOBS_PER_ADD, count - done) }, (_, at) =>
          orderDetails(first + done + at),
        );
        await utils.addJobs(orders.map((payload) => ({ identifier: TASK, payload })));
      }
      // What autovacuum would do in time, so that a round does not pay for the one before.
      await client.query('VACUUM ANALYZE');
    },

    async drain(_first, count) {
      let called = 0;
      const task = async (payload: unknown) => {
        const details = payload as OrderDetails;
        if (isWanted(details)) await calls.promise(details.orderId);
        called += 1;
      };
      const preset = {
        worker: {
          connectionString: serverUrl,
          concurrentJobs: JOBS_AT_ONCE,
          maxPoolSize: 10,
          localQueue: { size: LOCAL_QUEUE_SIZE },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
          logger,
        },
      };
      const runner = await run({ preset, taskList: { [TASK]: task }, noHandleSignals: true });
      while (called < count) await wait(5);
      // A completed job is deleted.
      const left = 'SELECT 1 FROM graphile_worker._private_jobs LIMIT 1';
      while ((await client.query(left)).rowCount !== 0) await wait(2);
      // Not awaited: it is no part of the work.
      runner.stop().catch(() => {});
    },
  };
});
