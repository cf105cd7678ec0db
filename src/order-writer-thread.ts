/**
 * Writes the orders of imports in a thread of its own, with its own connection to the SQLite file: it stores a batch while
 * the next one is parsed, and a commit keeps no request waiting. The thread is there while something is imported. This is the
 * side that starts it; `order-writer-thread-main.ts` is what runs there.
 */
import { AskedThread } from './asked-thread.ts';
import { AppError } from './model/app-error.ts';
import type { InstitutionId } from './model/entities.ts';
import type { FileChoice } from './open-store.ts';
import type { OrderPut, OrderStored, Store } from './store/store.ts';

/** Orders by columns of one length, because objects are dear between threads. */
export type OrderColumns = {
  readonly institutionIds: readonly InstitutionId[];
  readonly orderIds: readonly string[];
  readonly orderStates: readonly string[];
  readonly details: readonly string[];
  readonly closedAt: number;
};
/** Of each order, the closing that it got by being stored, if any. */
export type ClosingColumn = readonly (number | undefined)[];

export type OrderWriter = Pick<Store, 'putOrders'> & { stop(): Promise<void> };

const IDLE_MS = 5_000;

type Thread = AskedThread<OrderColumns, ClosingColumn>;

export function createOrderWriter(database: FileChoice): OrderWriter {
  let thread: Promise<Thread> | undefined;
  let running = 0;
  let idle: NodeJS.Timeout | undefined;

  async function started(): Promise<Thread> {
    thread ??= AskedThread.start<OrderColumns, ClosingColumn>({
      main: new URL('./order-writer-thread-main.ts', import.meta.url),
      name: 'orderhook-writer',
      workerData: database,
    });
    const starting = thread;
    try {
      return await starting;
    } catch (error) {
      if (thread === starting) thread = undefined;
      throw new AppError('store_unavailable', 'The thread that stores orders could not start.', {
        cause: error,
      });
    }
  }

  async function stop(): Promise<void> {
    clearTimeout(idle);
    const stopping = thread;
    thread = undefined;
    const stopped = await stopping?.catch(() => undefined);
    try {
      // It answers in order, so it is not writing then: it would die with the lock of the database.
      await stopped?.ask(toColumns([], 0));
    } finally {
      await stopped?.stop();
    }
  }

  return {
    async putOrders(puts, closedAt) {
      clearTimeout(idle);
      running += 1;
      try {
        const closings = await (await started()).ask(toColumns(puts, closedAt));
        return puts.map((put, index) => toStored(put, closings[index], closedAt));
      } finally {
        running -= 1;
        if (running === 0) idle = setTimeout(stop, IDLE_MS).unref();
      }
    },
    stop,
  };
}

function toColumns(puts: readonly OrderPut[], closedAt: number): OrderColumns {
  return {
    institutionIds: puts.map(({ institutionId }) => institutionId),
    orderIds: puts.map(({ orderId }) => orderId),
    orderStates: puts.map(({ orderState }) => orderState),
    details: puts.map(({ details }) => details),
    closedAt,
  };
}

function toStored(
  { orderId, orderState }: OrderPut,
  closingId: number | undefined,
  closedAt: number,
): OrderStored {
  return closingId === undefined
    ? { orderId, orderState }
    : { orderId, orderState, closing: { closingId, orderId, closedAt } };
}
