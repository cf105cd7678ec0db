/**
 * Reads the log and asks a filter about each order. Reading, parsing and filtering are half of the engine's work for an
 * order; where another processor is free they are done in a thread of their own, and only the answers come to the engine.
 */
import { compileFilter, type Filter } from '../filter/filter.ts';
import type { ClosingId } from '../model/delivery.ts';
import type { InstitutionId, InterfaceId } from '../model/entities.ts';
import type { OrderId } from '../model/order.ts';
import type { Position, QueueStore } from '../store/store.ts';
import { ParsedOrders } from './parsed-orders.ts';

/** For one read of the log: who asks, and what of it. */
export type LogQuestion = {
  readonly institutionId: InstitutionId;
  readonly interfaceId: InterfaceId;
  readonly after: Position;
  readonly limit: number;
  /** The text of the filter; undefined: nobody asks for details. */
  readonly filter: string | undefined;
};

/** Closings, oldest first, by columns of one length: many cross between threads at once, and objects are dear there. */
export type LogPage = {
  readonly closingIds: readonly ClosingId[];
  readonly orderIds: readonly OrderId[];
  readonly positions: readonly Position[];
  /** Whether the filter says yes; without one everything passes. */
  readonly passes: readonly boolean[];
};

export type LogReader = {
  /** What follows in the log; nothing at its end. */
  read(question: LogQuestion): Promise<LogPage>;
};

/** Filters that were asked last: one for each interface that is at work. */
const FILTERS_MAX = 1_000;

export function createLogReader(store: Pick<QueueStore, 'waiting'>): LogReader {
  const orders = new ParsedOrders();
  const filters = new Map<string, Filter>();

  function filterOf(text: string): Filter {
    const known = filters.get(text);
    if (known) return known;
    if (filters.size >= FILTERS_MAX) filters.clear();
    const filter = compileFilter(text);
    filters.set(text, filter);
    return filter;
  }

  return {
    async read({ institutionId, interfaceId, after, limit, filter: text }) {
      const filter = text === undefined ? undefined : filterOf(text);
      const closings = await store.waiting(institutionId, after, {
        limit,
        withDetails: filter !== undefined,
      });
      return {
        closingIds: closings.map(({ closingId }) => closingId),
        orderIds: closings.map(({ orderId }) => orderId),
        positions: closings.map(({ position }) => position),
        passes: closings.map(({ orderId, details }) => !filter || passes(filter, orderId, details)),
      };

      function passes({ matchesDetails }: Filter, orderId: OrderId, details: string | undefined): boolean {
        // They were removed. No filter can decide any more, and what waits of such an order is still called (section 4.5).
        if (details === undefined) return true;
        return matchesDetails(orders.read(institutionId, interfaceId, orderId, details));
      }
    },
  };
}
