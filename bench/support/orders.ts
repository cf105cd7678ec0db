/**
 * Orders of 2 KB, made in no time: a few dozen texts made once, into which only the order id is written. So whoever sends
 * them is never what limits a figure. The same ones every time.
 */
import { SeededRandom } from '../../test/support/crash-random.ts';

/** Of order number 0. All ids have as many digits. */
export const FIRST_ORDER_ID = 1_000_000_000_000;
/** Of one order with its line end. */
export const ORDER_BYTES = 2_048;
const TEXTS = 64;
const OPERATIONS = 3;
const SEED = 20_201_013;

/** Holds for each of the orders, and is answered only by looking into them. */
export const FILTER = 'OrderDetailsData.OrderType=SALE;OrderDetailsData.OperationDatas(*).ProductCode=ASTDN';

/** The same question for senders without filters. */
export type OrderDetails = {
  readonly orderId: number;
  readonly orderType: string;
  readonly operationDatas: readonly { readonly productCode: string }[];
};
export function isWanted(details: OrderDetails): boolean {
  return details.orderType === 'SALE' && details.operationDatas.some((one) => one.productCode === 'ASTDN');
}

const texts = makeTexts();
const idAt = texts[0]?.indexOf(String(FIRST_ORDER_ID)) as number;

/** One OrderDetailsData with a line end: `ORDER_BYTES` bytes. */
export function orderLine(number: number): Buffer {
  const line = Buffer.allocUnsafe(ORDER_BYTES);
  writeOrder(line, 0, number);
  return line;
}

export function orderDetails(number: number): OrderDetails {
  return JSON.parse(orderLine(number).toString('latin1'));
}

/** NDJSON of `count` orders from number `first` on, in portions. */
export function* orderLines(first: number, count: number, perPortion = 128): Generator<Buffer> {
  for (let done = 0; done < count; done += perPortion) {
    const orders = Math.min(perPortion, count - done);
    const portion = Buffer.allocUnsafe(orders * ORDER_BYTES);
    for (let at = 0; at < orders; at++) writeOrder(portion, at * ORDER_BYTES, first + done + at);
    yield portion;
  }
}

function writeOrder(target: Buffer, at: number, number: number): void {
  (texts[number % TEXTS] as Buffer).copy(target, at);
  target.write(String(FIRST_ORDER_ID + number), at + idAt, 'latin1');
}

function makeTexts(): Buffer[] {
  const random = new SeededRandom(SEED);
  return Array.from({ length: TEXTS }, () => makeText(random));
}

function makeText(random: SeededRandom): Buffer {
  const amount = () => random.integer(1, 80) * 500;
  const codes = Array.from({ length: OPERATIONS }, () => `P${random.integer(1000, 9999)}`);
  // As a rule not the first one that is looked at.
  codes[random.integer(0, OPERATIONS - 1)] = 'ASTDN';
  const order = {
    orderId: FIRST_ORDER_ID,
    orderState: 'CLOSED',
    orderType: 'SALE',
    creationDateTime: `2020-10-${random.integer(10, 28)}T10:09:27.503+00:00`,
    saleAmount: amount(),
    catalogCurrency: 'CHF',
    contactNumber: `C${random.integer(100_000, 999_999)}`,
    operationDatas: codes.map((productCode) => ({
      operationId: random.integer(10_228_310_000_000, 10_228_319_999_999),
      kind: 'SINGLE_ENTRY',
      quantity: random.integer(1, 6),
      basePrice: amount(),
      unitPrice: amount(),
      productId: random.integer(10_228_231_000_000, 10_228_231_999_999),
      product: `Arena Suite ${random.integer(1, 99)}`,
      productCode,
      isNominative: random.isTrue(0.5),
      vatRate: 7.7,
    })),
    movementDatas: codes.map(() => ({
      movementId: random.integer(10_228_330_000_000, 10_228_339_999_999),
      type: 'SALE',
      instanceNumber: 1,
      seat: { block: 'A', row: String(random.integer(1, 40)), number: String(random.integer(1, 60)) },
    })),
    ticketDatas: codes.map(() => ({
      ticketId: random.integer(10_228_340_000_000, 10_228_349_999_999),
      barcode: String(random.integer(1_000_000_000, 1_999_999_999)),
      ticketState: 'PRINTED',
    })),
    origin: '',
  };
  const missing = ORDER_BYTES - 1 - JSON.stringify(order).length;
  if (missing < 0) throw new Error(`An order has ${-missing} bytes too many`);
  order.origin = 'x'.repeat(missing);
  return Buffer.from(`${JSON.stringify(order)}\n`);
}
