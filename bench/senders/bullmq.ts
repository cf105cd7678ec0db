/**
 * BullMQ, set up at its best: one worker with many jobs at once, which its documentation says is the way for jobs that wait
 * for a network, and its client's answers read in one go; jobs are removed as they complete, so that Redis keeps nothing it
 * does not need. BullMQ fetches the next job with the completion of the last one, and has no batches of jobs.
 */
import { isWanted, type OrderDetails, orderDetails } from '../support/orders.ts';
import { loadPeer } from '../support/peer.ts';
import { Calls, runSender } from './sender.ts';

/** What is used of it. */
type BullMq = {
  readonly Queue: new (
    name: string,
    options: object,
  ) => {
    addBulk(jobs: readonly { name: string; data: unknown; opts: object }[]): Promise<unknown>;
  };
  readonly Worker: new (
    name: string,
    process: (job: { data: OrderDetails }) => Promise<void>,
    options: object,
  ) => {
    on(event: 'completed' | 'failed' | 'error', listener: (first: unknown, error: Error) => void): void;
    close(): Promise<void>;
  };
};

const QUEUE = 'orders';
/** More than there are connections to the callee, so that these never wait for Redis; 64, 200 and 400 were slower. */
const JOBS_AT_ONCE = 100;
const JOBS_PER_ADD = 1_000;

await runSender(async ({ url, concurrency, serverUrl }) => {
  const { Queue, Worker } = await loadPeer<BullMq>('bullmq');
  const { hostname: host, port } = new URL(serverUrl);
  const connection = { host, port: Number(port) };
  const queue = new Queue(QUEUE, { connection });
  const calls = new Calls(url, concurrency);
  return {
    description: `BullMQ, one worker, concurrency ${JOBS_AT_ONCE}, jobs removed on completion, undici Pool.dispatch`,

    async load(first, count) {
      for (let done = 0; done < count; done += JOBS_PER_ADD) {
        const orders = Array.from({ length: Math.min(JOBS_PER_ADD, count - done) }, (_, at) =>
          orderDetails(first + done + at),
        );
        await queue.addBulk(
          orders.map((data) => ({
            name: 'order',
            data,
            opts: { removeOnComplete: true, removeOnFail: true },
          })),
        );
      }
    },

    async drain(_first, count) {
      const process = async ({ data }: { data: OrderDetails }) => {
        if (isWanted(data)) await calls.promise(data.orderId);
      };
      let completed = 0;
      const worker = new Worker(QUEUE, process, { connection, concurrency: JOBS_AT_ONCE });
      await new Promise<void>((resolve, reject) => {
        // Told after Redis has answered that the job is completed.
        worker.on('completed', () => {
          completed += 1;
          if (completed === count) resolve();
        });
        worker.on('failed', (_job, error) => reject(error));
        worker.on('error', (error) => reject(error));
      });
      // Not awaited: it is no part of the work, and waits for a blocking read to end.
      worker.close().catch(() => {});
    },
  };
});
