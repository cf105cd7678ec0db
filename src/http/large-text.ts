/** JSON that takes the thread for long: walked in turns. */
import { JsonWalk } from '../model/json-scan.ts';
import {
  checkOrderDetails,
  checkScannedOrder,
  ORDER_SCAN,
  type OrderDetails,
  type OrderRefusal,
} from '../model/order.ts';
import type { TurnKey, WorkTurns } from './work-turns.ts';

/** A text of fewer is parsed at once: in a few milliseconds, whatever is in it. */
export const LARGE_CHARACTERS = 64 * 1024;
/** Walked without a look at the clock: about two milliseconds. */
const STRETCH_CHARACTERS = 32 * 1024;

/** Where a line of work waits for its turn. */
export type Turn = { readonly turns: WorkTurns; readonly key: TurnKey };

/** `position`: where the text stops being JSON, if it does. */
export type RefusedLargeOrder = { readonly refusal: OrderRefusal; readonly position: number | undefined };

/** As `checkOrderDetails`, for a text of any length; a large one waits for its turns. */
export async function checkLargeOrder(
  details: string,
  { turns, key }: Turn,
): Promise<OrderDetails | RefusedLargeOrder> {
  if (details.length < LARGE_CHARACTERS) {
    // A request like any other: it waits for no turn.
    const order = checkOrderDetails(details);
    return typeof order === 'string' ? { refusal: order, position: undefined } : order;
  }
  const walk = new JsonWalk(details, ORDER_SCAN);
  for (;;) {
    const scan = await turns.run(key, (isOver) => {
      for (;;) {
        const found = walk.go(STRETCH_CHARACTERS);
        if (found || isOver()) return found;
      }
    });
    if (scan === undefined) continue;
    const order = checkScannedOrder(scan, details);
    if (typeof order !== 'string') return order;
    return { refusal: order, position: scan.isJson === false ? scan.position : undefined };
  }
}
