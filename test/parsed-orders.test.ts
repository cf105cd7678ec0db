import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ParsedOrders } from '../src/engine/parsed-orders.ts';

test('the same order is parsed once, however many look at it', () => {
  const orders = new ParsedOrders();
  const first = orders.parse(1, '5', '{"a":1}');
  assert.equal(orders.parse(1, '5', '{"a":1}'), first);
});

test('an order that changed, and one of another institution, is parsed for itself', () => {
  const orders = new ParsedOrders();
  orders.parse(1, '5', '{"a":1}');
  assert.deepEqual(orders.parse(1, '5', '{"a":2}'), { a: 2 });
  assert.deepEqual(orders.parse(2, '5', '{"a":3}'), { a: 3 });
  assert.deepEqual(orders.parse(1, '5', '{"a":2}'), { a: 2 });
});

test('orders that nobody looks at any more are let go', () => {
  const orders = new ParsedOrders();
  const text = `{"filler":"${'x'.repeat(400_000)}"}`;
  const first = orders.parse(1, '1', text);
  for (let id = 2; id <= 9; id += 1) orders.parse(1, String(id), text);
  assert.notEqual(orders.parse(1, '1', text), first);
  const last = orders.parse(1, '9', text);
  assert.equal(orders.parse(1, '9', text), last);
});
