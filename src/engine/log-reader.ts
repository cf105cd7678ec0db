/**
 * Reads the log and asks a filter about each order. Reading, parsing and filtering are half of the engine's work for an
 * order; where another processor is free they are done in a thread of their own, and only the answers come to the engine.
 */
import { compileFilter, type Filter } from '../filter/filter.ts';
import type { InstitutionId, InterfaceId } from '../model/entities.ts';
import type { Position, QueueStore, WaitingClosing } from '../store/store.ts';
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

/** A closing, and, where there is a filter, whether it says yes. */
export type FilteredClosing = Pick<WaitingClosing, 'closingId' | 'orderId' | 'position'> & {
  readonly passes: boolean;
};

export type LogReader = {
  /** What follows in the log, oldest first; nothing at its end. */
  read(question: LogQuestion): Promise<readonly FilteredClosing[]>;
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
      return closings.map(({ closingId, orderId, position, details }) => ({
        closingId,
        orderId,
        position,
        passes: !filter || filter.matches({ orderDetailsData: parse(details, orderId) }),
      }));

      function parse(details: string | undefined, orderId: string) {
        return details === undefined ? null : orders.parse(institutionId, interfaceId, orderId, details);
      }
    },
  };
}
