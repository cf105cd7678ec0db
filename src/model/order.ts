/** Orders as they come in and are kept: the text that the owner gave, of which we read the id and the state. */
import { AppError } from './app-error.ts';
import { ORDER_ID_MAX, ORDER_LEVELS_MAX } from './limits.ts';
import {
  type JsonObject,
  type JsonValue,
  jsonSyntaxProblem,
  parseLossless,
  scalarText,
} from './lossless-json.ts';

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

/**
 * Reads an OrderDetailsData. Only `orderId` and `orderState` are required; everything else is the owner's and kept.
 * @throws AppError `invalid_json` with the position, or `invalid_value`
 */
export function readOrderDetails(details: string): OrderDetails {
  let value: JsonValue;
  try {
    value = JSON.parse(details);
  } catch {
    const problem = jsonSyntaxProblem(details);
    throw new AppError(
      'invalid_json',
      `The order is not JSON: ${problem?.message} at position ${problem?.position}.`,
      {
        problems: problem
          ? [{ path: '', code: 'json_syntax', message: problem.message, position: problem.position }]
          : [],
      },
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid('', 'order_not_object', 'An order is a JSON object with its details.');
  }
  const { orderId, orderState } = value as JsonObject;
  if (orderState === undefined || orderState === null) {
    throw invalid('orderState', 'order_state_missing', 'The order has no orderState.');
  }
  if (typeof orderState !== 'string' || orderState === '' || orderState.length > 64) {
    throw invalid('orderState', 'order_state_invalid', 'orderState must be a text of 1 to 64 characters.');
  }
  if (mayBeDeeperThan(details, ORDER_LEVELS_MAX) && isDeeperThan(value, ORDER_LEVELS_MAX)) {
    throw invalid(
      '',
      'order_too_deep',
      `Values in an order may be nested ${ORDER_LEVELS_MAX} levels deep at most.`,
    );
  }
  return { orderId: readOrderId(orderId, details), orderState, details };
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

/** The usual spelling, which spares the second, lossless parse: JavaScript holds it, and it is not 1e3 or 12.0. */
const PLAIN_ORDER_ID = /"orderId"\s*:\s*(\d+)\s*[,}]/;

function readOrderId(orderId: JsonValue | undefined, details: string): OrderId {
  if (orderId === undefined || orderId === null) {
    throw invalid('orderId', 'order_id_missing', 'The order has no orderId.');
  }
  if (typeof orderId !== 'number') throw invalidOrderId();
  const plain = PLAIN_ORDER_ID.exec(details)?.[1];
  const isExact = Number.isSafeInteger(orderId) && plain === String(orderId);
  const id = parseOrderId(
    isExact ? plain : (scalarText((parseLossless(details) as JsonObject).orderId) ?? ''),
  );
  if (id === undefined) throw invalidOrderId();
  return id;
}

function invalidOrderId(): AppError {
  return invalid('orderId', 'order_id_invalid', `orderId must be a JSON integer from 1 to ${ORDER_ID_MAX}.`);
}

function invalid(path: string, code: string, message: string): AppError {
  return new AppError('invalid_value', message, { problems: [{ path, code, message }] });
}

/** The same details with another state; all other values keep their text, also numbers that JavaScript cannot hold. */
export function withState(details: string, orderState: string): string {
  return JSON.stringify({ ...(parseLossless(details) as JsonObject), orderState });
}
