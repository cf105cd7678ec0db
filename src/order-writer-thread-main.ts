/** What runs in the thread that writes imported orders: a store of its own. */
import { workerData } from 'node:worker_threads';
import { answerQuestions } from './asked-thread.ts';
import { type FileChoice, openFile } from './open-store.ts';
import type { ClosingColumn, OrderColumns } from './order-writer-thread.ts';

const store = openFile(workerData as FileChoice);

answerQuestions<OrderColumns, ClosingColumn>(async (columns) => {
  const { institutionIds, orderIds, orderStates, details, closedAt } = columns;
  const puts = orderIds.map((orderId, index) => ({
    institutionId: institutionIds[index] as number,
    orderId,
    orderState: orderStates[index] as string,
    details: details[index] as string,
  }));
  const stored = await store.putOrders(puts, closedAt);
  return stored.map(({ closing }) => closing?.closingId);
});
