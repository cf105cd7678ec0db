/** Filters over many orders, counted against plain loops: real orders where they are at hand, and made ones always. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { compileFilter } from '../src/filter/filter.ts';
import { type JsonObject, type JsonValue, parseLossless } from '../src/model/lossless-json.ts';
import { madeOrder } from './support/filter-orders.ts';

type Order = {
  orderType: string;
  country: string;
  saleAmount: number;
  creationDateTime: string;
  operationDatas: Operation[];
};
type Operation = { productCode: string; quantity: number; basePrice: number; product: string };

const RETAIL_ORDERS = new URL('../../shared/samples/retail-orders.ndjson', import.meta.url);

/** The values come from the orders themselves, so that every filter has something to find. */
function comparisons(orders: readonly Order[]): [filter: string, called: (order: Order) => boolean][] {
  const middle = orders[Math.floor(orders.length / 2)] as Order;
  const { productCode, basePrice } = middle.operationDatas.at(-1) as Operation;
  const start = productCode.slice(0, 2);
  const any = (passes: (operation: Operation) => boolean) => (order: Order) =>
    order.operationDatas.some(passes);
  const operations = 'OrderDetailsData.OperationDatas';
  return [
    [`${operations}(*).ProductCode=${productCode}`, any((one) => one.productCode === productCode)],
    [
      `${operations}.ProductCode!=${productCode}`,
      (order) => !any((one) => one.productCode === productCode)(order),
    ],
    [`${operations}(*).ProductCode=${start}.*`, any((one) => one.productCode.startsWith(start))],
    [
      `${operations}(*).ProductCode=${start}\\w*[05]`,
      any((one) => new RegExp(`^${start}\\w*[05]$`).test(one.productCode)),
    ],
    [
      `${operations}(ProductCode=${productCode}).BasePrice=${basePrice}`,
      any((one) => one.productCode === productCode && one.basePrice === basePrice),
    ],
    [
      `${operations}(ProductCode=${start}.*).Quantity>=3`,
      any((one) => one.productCode.startsWith(start) && one.quantity >= 3),
    ],
    [`${operations}.Quantity=6`, any((one) => one.quantity === 6)],
    [`${operations}(*).Quantity<2`, any((one) => one.quantity < 2)],
    [`${operations}.Product=.*(RED|Suite 1).*`, any((one) => /^.*(RED|Suite 1).*$/.test(one.product))],
    ['OrderDetailsData.OrderType=SALE', (order) => order.orderType === 'SALE'],
    ['OrderDetailsData.OrderType=REFUND_.*', (order) => order.orderType.startsWith('REFUND_')],
    [`OrderDetailsData.Country!=${middle.country}`, (order) => order.country !== middle.country],
    [
      'OrderDetailsData.Country=France|Italy',
      (order) => order.country === 'France' || order.country === 'Italy',
    ],
    [
      `OrderDetailsData.CreationDateTime>=${middle.creationDateTime}`,
      (order) => Date.parse(order.creationDateTime) >= Date.parse(middle.creationDateTime),
    ],
    [
      `OrderDetailsData.SaleAmount>${middle.saleAmount};OrderDetailsData.OrderType=SALE`,
      (order) => order.saleAmount > middle.saleAmount && order.orderType === 'SALE',
    ],
    [`${operations}.Season=2020`, () => false],
  ];
}

function assertSameOrders(texts: readonly string[]): { filter: string; called: number }[] {
  const orders = texts.map((text) => JSON.parse(text) as Order);
  const results: JsonValue[] = texts.map((text) => ({ orderDetailsData: parseLossless(text) }));
  return comparisons(orders).map(([filter, called]) => {
    const { matches, explain } = compileFilter(filter);
    const expected = orders.filter(called).length;
    assert.equal(results.filter(matches).length, expected, filter);
    assert.equal(results.filter((result) => explain(result).matches).length, expected, filter);
    for (const [index, order] of orders.entries()) {
      assert.equal(matches(results[index] as JsonObject), called(order), `${filter} on order ${index}`);
    }
    return { filter, called: expected };
  });
}

test('made orders are called as a plain loop would choose them', () => {
  const texts = Array.from({ length: 300 }, (_, index) => JSON.stringify(madeOrder(index, index % 25)));
  const counts = assertSameOrders(texts.slice(12));
  assert.ok(counts.filter(({ called }) => called > 0).length >= 14, JSON.stringify(counts));
});

test('real orders are called as a plain loop would choose them', (context) => {
  if (!existsSync(RETAIL_ORDERS)) {
    context.diagnostic('the real orders are not here: only made ones were counted');
    return;
  }
  const texts = readFileSync(RETAIL_ORDERS, 'utf8').trimEnd().split('\n');
  const counts = assertSameOrders(texts);
  assert.equal(texts.length, 237);
  assert.ok(counts.filter(({ called }) => called > 0).length >= 14, JSON.stringify(counts));
});
