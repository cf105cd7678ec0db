import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ParsedOrders } from '../src/engine/parsed-orders.ts';

/** Two interfaces of institution 1 have looked at orders. */
function ordersOfTwo(): ParsedOrders {
  const orders = new ParsedOrders();
  orders.read(1, 10, '1', '{}');
  orders.read(1, 11, '1', '{}');
  return orders;
}

test('the same order is parsed once, however many look at it', () => {
  const orders = ordersOfTwo();
  const first = orders.read(1, 10, '5', '{"a":1}');
  assert.equal(orders.read(1, 11, '5', '{"a":1}'), first);
  assert.equal(orders.read(1, 12, '5', '{"a":1}'), first);
});

test('an order that changed, and one of another institution, is parsed for itself', () => {
  const orders = ordersOfTwo();
  orders.read(1, 10, '5', '{"a":1}');
  assert.deepEqual(orders.read(1, 11, '5', '{"a":2}').exact, { a: 2 });
  assert.deepEqual(orders.read(2, 20, '5', '{"a":3}').exact, { a: 3 });
  assert.deepEqual(orders.read(2, 21, '5', '{"a":3}').exact, { a: 3 });
  assert.deepEqual(orders.read(1, 10, '5', '{"a":2}').exact, { a: 2 });
});

test('orders that nobody looks at any more are let go', () => {
  const orders = ordersOfTwo();
  const text = `{"filler":"${'x'.repeat(400_000)}"}`;
  const first = orders.read(1, 10, '1', text);
  for (let id = 2; id <= 9; id += 1) orders.read(1, 10, String(id), text);
  assert.notEqual(orders.read(1, 11, '1', text), first);
  const last = orders.read(1, 10, '9', text);
  assert.equal(orders.read(1, 11, '9', text), last);
});

test('nothing is kept for an interface that looks alone, from the start or from when the others stopped', () => {
  const alone = new ParsedOrders();
  assert.notEqual(alone.read(1, 10, '5', '{"a":1}'), alone.read(1, 10, '5', '{"a":1}'));

  const orders = ordersOfTwo();
  for (let id = 1; id <= 5_000; id += 1) orders.read(1, 10, String(id), '{}');
  assert.notEqual(orders.read(1, 10, '9', '{"a":1}'), orders.read(1, 10, '9', '{"a":1}'));
});
