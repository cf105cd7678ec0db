/** JSON that takes the thread for long: walked in turns. */
import { type JsonScan, JsonWalk, type ScanOptions, scanJson } from '../model/json-scan.ts';
import { ORDER_LEVELS_MAX } from '../model/limits.ts';
import { syntaxProblemAt } from '../model/lossless-json.ts';
import {
  checkScannedOrder,
  ORDER_SCAN,
  type OrderDetails,
  type OrderRefusal,
  refusedOrder,
} from '../model/order.ts';
import { notJson, tooDeep } from './json-text.ts';
import type { TurnKey, WorkTurns } from './work-turns.ts';

/** A text of fewer is parsed at once: in a few milliseconds, whatever is in it. */
export const LARGE_CHARACTERS = 64 * 1024;
/** Walked without a look at the clock: about two milliseconds. */
const STRETCH_CHARACTERS = 32 * 1024;

/** Where a line of work waits for its turn. */
export type Turn = { readonly turns: WorkTurns; readonly key: TurnKey };

/** `position`: where the text stops being JSON, if it does. */
export type RefusedLargeOrder = { readonly refusal: OrderRefusal; readonly position: number | undefined };

/** As `checkOrderDetails`, in turns. */
export async function checkLargeOrder(
  details: string,
  turn: Turn,
): Promise<OrderDetails | RefusedLargeOrder> {
  const scan = await scanLarge(details, ORDER_SCAN, turn);
  const order = checkScannedOrder(scan, details);
  if (typeof order !== 'string') return order;
  return { refusal: order, position: scan.isJson === false ? scan.position : undefined };
}

/** As `readOrderDetails`, in turns. @throws AppError `invalid_json` with the position, or `invalid_value` */
export async function readLargeOrder(details: string, turn: Turn): Promise<OrderDetails> {
  const order = await checkLargeOrder(details, turn);
  if ('refusal' in order) throw refusedOrder(order.refusal, details, order.position);
  return order;
}

/**
 * A JSON text without what is in one field of its outermost object, and the text of that: both can be read on their own.
 * A field that is no object stays where it is.
 * @throws AppError `invalid_json` with the position
 */
export async function cutOutField(
  text: string,
  name: string,
  turn: Turn,
): Promise<{ readonly text: string; readonly fieldText: string | undefined }> {
  // The field is an order, and a level deeper than one that comes alone.
  const options = { levelsMax: ORDER_LEVELS_MAX + 1, names: new Set([name]) };
  const scan = await scanLarge(text, options, turn);
  if (scan.isJson === 'too_deep') throw tooDeep();
  if (!scan.isJson) throw notJson(syntaxProblemAt(text, scan.position));
  const last = scan.fields.at(-1);
  if (last === undefined || text[last.start] !== '{') return { text, fieldText: undefined };
  let rest = '';
  let copiedTo = 0;
  for (const { start, end } of scan.fields) {
    rest += `${text.slice(copiedTo, start)}{}`;
    copiedTo = end;
  }
  return { text: rest + text.slice(copiedTo), fieldText: text.slice(last.start, last.end) };
}

/** As `scanJson`, for a text of any length; a large one waits for its turns. */
export async function scanLarge(text: string, options: ScanOptions, { turns, key }: Turn): Promise<JsonScan> {
  if (text.length < LARGE_CHARACTERS) return scanJson(text, options);
  const walk = new JsonWalk(text, options);
  for (;;) {
    const scan = await turns.run(key, (isOver) => {
      for (;;) {
        const found = walk.go(STRETCH_CHARACTERS);
        if (found || isOver()) return found;
      }
    });
    if (scan) return scan;
  }
}
