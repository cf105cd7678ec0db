/** Orders as they come in and are kept: the text that the owner gave, of which we read the id and the state. */
import { AppError } from './app-error.ts';
import { type JsonField, type JsonScan, type ScanOptions, scanJson } from './json-scan.ts';
import { ORDER_ID_MAX, ORDER_LEVELS_MAX } from './limits.ts';
import { type JsonObject, type JsonValue, jsonSyntaxProblem, syntaxProblemAt } from './lossless-json.ts';
import { isKeepable } from './text.ts';

/** Decimal digits without leading zeros, 1 … 9223372036854775807: JavaScript numbers cannot hold all of these. */
export type OrderId = string;

/** The state that makes a closing. All other states are the owner's own. */
export const CLOSED = 'CLOSED';

/** One order as it is stored. */
export type OrderDetails = {
  readonly orderId: OrderId;
  readonly orderState: string;
  /** The OrderDetailsData, JSON text as given. */
  readonly details: string;
};

/** The id in canonical form; undefined when the text is no order id. */
export function parseOrderId(text: string): OrderId | undefined {
  return /^[1-9]\d{0,18}$/.test(text) && BigInt(text) <= ORDER_ID_MAX ? text : undefined;
}

/** Why a text is no order. */
export type OrderRefusal =
  | 'json_syntax'
  | 'order_not_object'
  | 'order_state_missing'
  | 'order_state_invalid'
  | 'order_too_deep'
  | 'order_id_missing'
  | 'order_id_invalid';

const REFUSALS: ReadonlyMap<OrderRefusal, { readonly path: string; readonly message: string }> = new Map([
  ['order_not_object', { path: '', message: 'An order is a JSON object with its details.' }],
  ['order_state_missing', { path: 'orderState', message: 'The order has no orderState.' }],
  [
    'order_state_invalid',
    {
      path: 'orderState',
      message: 'orderState must be a text of 1 to 64 characters, without NUL and halves of characters.',
    },
  ],
  [
    'order_too_deep',
    { path: '', message: `Values in an order may be nested ${ORDER_LEVELS_MAX} levels deep at most.` },
  ],
  ['order_id_missing', { path: 'orderId', message: 'The order has no orderId.' }],
  [
    'order_id_invalid',
    { path: 'orderId', message: `orderId must be a JSON integer from 1 to ${ORDER_ID_MAX}.` },
  ],
]);

/**
 * Reads an OrderDetailsData. Only `orderId` and `orderState` are required; everything else is the owner's and kept.
 * @throws AppError `invalid_json` with the position, or `invalid_value`
 */
export function readOrderDetails(details: string): OrderDetails {
  const order = checkOrderDetails(details);
  if (typeof order === 'string') throw refusedOrder(order, details);
  return order;
}

/** What a client is told of a refusal. The `position` where the text stops being JSON is looked for where it is not given. */
export function refusedOrder(refusal: OrderRefusal, details: string, position?: number): AppError {
  const refused = REFUSALS.get(refusal);
  if (refused) {
    const { path, message } = refused;
    return new AppError('invalid_value', message, { problems: [{ path, code: refusal, message }] });
  }
  const problem = position === undefined ? jsonSyntaxProblem(details) : syntaxProblemAt(details, position);
  return new AppError(
    'invalid_json',
    `The order is not JSON: ${problem?.message} at position ${problem?.position}.`,
    {
      problems: problem
        ? [{ path: '', code: 'json_syntax', message: problem.message, position: problem.position }]
        : [],
    },
  );
}

/** As `readOrderDetails`, without a message: for whoever does not tell what is wrong. */
export function checkOrderDetails(details: string): OrderDetails | OrderRefusal {
  let value: JsonValue;
  try {
    value = JSON.parse(details);
  } catch {
    return 'json_syntax';
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return 'order_not_object';
  const { orderId, orderState } = value as JsonObject;
  if (orderState === undefined || orderState === null) return 'order_state_missing';
  if (!isOrderState(orderState)) return 'order_state_invalid';
  if (mayBeDeeperThan(details, ORDER_LEVELS_MAX) && isDeeperThan(value, ORDER_LEVELS_MAX))
    return 'order_too_deep';
  if (orderId === undefined || orderId === null) return 'order_id_missing';
  const id = typeof orderId === 'number' ? readOrderId(orderId, details) : undefined;
  return id === undefined ? 'order_id_invalid' : { orderId: id, orderState, details };
}

/** What a walk over an order has to look for, so that `checkScannedOrder` can decide by it. */
export const ORDER_SCAN: ScanOptions = {
  levelsMax: ORDER_LEVELS_MAX,
  names: new Set(['orderId', 'orderState']),
};

/** As `checkOrderDetails`, by what a walk with `ORDER_SCAN` found: for texts that take long to parse. */
export function checkScannedOrder(scan: JsonScan, details: string): OrderDetails | OrderRefusal {
  if (scan.isJson === 'too_deep') return 'order_too_deep';
  if (!scan.isJson) return 'json_syntax';
  if (!scan.isObject) return 'order_not_object';
  const stateText = lastText(scan.fields, 'orderState', details);
  if (stateText === undefined || stateText === 'null') return 'order_state_missing';
  const orderState = stateText.length <= STATE_TEXT_CHARACTERS_MAX ? JSON.parse(stateText) : undefined;
  if (!isOrderState(orderState)) return 'order_state_invalid';
  const idText = lastText(scan.fields, 'orderId', details);
  if (idText === undefined || idText === 'null') return 'order_id_missing';
  const orderId = parseOrderId(idText);
  return orderId === undefined ? 'order_id_invalid' : { orderId, orderState, details };
}

const STATE_CHARACTERS_MAX = 64;
/** In JSON text, each character may be written with an escape of six. */
const STATE_TEXT_CHARACTERS_MAX = STATE_CHARACTERS_MAX * 6 + 2;

function isOrderState(value: unknown): value is string {
  return (
    typeof value === 'string' && value !== '' && value.length <= STATE_CHARACTERS_MAX && isKeepable(value)
  );
}

/** The text of a field's value; undefined when there is none. */
function lastText(fields: readonly JsonField[], name: string, text: string): string | undefined {
  const field = fields.findLast((one) => one.name === name);
  return field && text.slice(field.start, field.end);
}

/** A text opens at least as many objects and lists as its values are levels deep; most orders open fewer than that. */
function mayBeDeeperThan(text: string, levels: number): boolean {
  let opened = 0;
  for (const bracket of ['{', '[']) {
    for (let at = text.indexOf(bracket); at !== -1; at = text.indexOf(bracket, at + 1)) {
      opened += 1;
      if (opened > levels) return true;
    }
  }
  return false;
}

/** Whoever reads an order walks it by recursion: one that is too deep would break a filter or an answer much later. */
function isDeeperThan(value: JsonValue, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (levels === 0) return true;
  const children = Array.isArray(value) ? value : Object.values(value as JsonObject);
  for (const child of children) if (isDeeperThan(child, levels - 1)) return true;
  return false;
}

/** The usual spelling, which spares the walk over the text: JavaScript holds it, and it is not 1e3 or 12.0. */
const PLAIN_ORDER_ID = /"orderId"\s*:\s*(\d+)\s*[,}]/;

function readOrderId(orderId: number, details: string): OrderId | undefined {
  const plain = PLAIN_ORDER_ID.exec(details)?.[1];
  if (Number.isSafeInteger(orderId) && plain === String(orderId)) return parseOrderId(plain);
  const scan = scanJson(details, ORDER_SCAN);
  return parseOrderId((scan.isJson === true && lastText(scan.fields, 'orderId', details)) || '');
}

/** The same details with another state; all other text stays as it is. */
export function withState(details: string, orderState: string): string {
  const scan = scanJson(details, ORDER_SCAN);
  const fields = scan.isJson === true ? scan.fields.filter(({ name }) => name === 'orderState') : [];
  if (fields.length === 0) throw new Error('A stored order has no state');
  let text = '';
  let copiedTo = 0;
  for (const { start, end } of fields) {
    text += details.slice(copiedTo, start) + JSON.stringify(orderState);
    copiedTo = end;
  }
  return text + details.slice(copiedTo);
}
