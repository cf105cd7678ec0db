import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AppError } from '../src/model/app-error.ts';
import { ORDER_ID_MAX } from '../src/model/limits.ts';
import { jsonSyntaxProblem, parseLossless, scalarText } from '../src/model/lossless-json.ts';
import { parseOrderId, readOrderDetails, withState } from '../src/model/order.ts';

describe('JSON that keeps its numbers', () => {
  test('every number prints as it was written', () => {
    const numbers = [
      '0',
      '-0',
      '1.50',
      '1e3',
      '12E-7',
      '-0.0',
      '9223372036854775807',
      '123456789012345678901234567890',
      '0.1',
      '7',
    ];
    const text = `{"a":[${numbers.join(',')}]}`;
    assert.equal(JSON.stringify(parseLossless(text)), text);
    const { a } = parseLossless(text) as { a: never[] };
    assert.deepEqual(
      a.map((value) => scalarText(value)),
      numbers,
    );
  });

  test('it gives what JSON.parse gives for values that JavaScript holds, with any white space', () => {
    fc.assert(
      fc.property(fc.json(), fc.integer({ min: 0, max: 3 }), (text, indent) => {
        const pretty = JSON.stringify(JSON.parse(text), null, indent);
        assert.equal(JSON.stringify(parseLossless(pretty)), JSON.stringify(JSON.parse(pretty)));
      }),
    );
  });

  test('integers of any size survive in any place', () => {
    fc.assert(
      fc.property(fc.bigInt(), fc.constantFrom('', ' ', '\n\t'), (number, space) => {
        for (const text of [`{"x":${space}${number}${space}}`, `[1,${space}${number}]`, `${number}`]) {
          assert.equal(JSON.stringify(parseLossless(text)), text.replace(/\s/g, ''));
        }
      }),
    );
  });

  test('a text that is not JSON is told of with line and column', () => {
    assert.equal(jsonSyntaxProblem('{"a": 1}'), undefined);
    assert.deepEqual(jsonSyntaxProblem('{\n  "a": x}'), {
      message: "Unexpected character 'x'",
      position: 9,
      line: 2,
      column: 8,
    });
    assert.deepEqual(jsonSyntaxProblem('{"a":1,}')?.position, 7);
    assert.deepEqual(jsonSyntaxProblem('[1')?.position, 2);
  });
});

describe('orders that come in', () => {
  test('an order id is 1 … 2^63-1 in plain digits', () => {
    for (const id of ['1', '10000702652', String(ORDER_ID_MAX)]) assert.equal(parseOrderId(id), id);
    for (const text of [
      '0',
      '01',
      '-1',
      '1.0',
      '1e3',
      ' 1',
      '',
      'x',
      String(ORDER_ID_MAX + 1n),
      '99999999999999999999',
    ]) {
      assert.equal(parseOrderId(text), undefined, text);
    }
  });

  test('only orderId and orderState are asked for, and all else is kept', () => {
    const text = '{"unknown":[1.50],"orderState":"WHATEVER","orderId": 9223372036854775807 }';
    assert.deepEqual(readOrderDetails(text), {
      orderId: '9223372036854775807',
      orderState: 'WHATEVER',
      details: text,
    });
  });

  test('values may be nested 100 levels deep, and as many may stand side by side as there is room for', () => {
    const order = (more: string) => `{"orderId":1,"orderState":"OPEN","more":${more}}`;
    const lists = (levels: number) => order('['.repeat(levels) + ']'.repeat(levels));
    const objects = (levels: number) => order(`${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`);
    for (const text of [lists(99), objects(99), order(JSON.stringify(new Array(1_000).fill({ a: [{}] })))]) {
      assert.equal(readOrderDetails(text).details, text);
    }
    assert.ok(readOrderDetails(order(JSON.stringify('[{'.repeat(1_000)))));
    for (const text of [lists(100), objects(100)]) {
      assert.throws(
        () => readOrderDetails(text),
        (error: AppError) => error.code === 'invalid_value' && error.problems[0]?.code === 'order_too_deep',
      );
    }
  });

  const refused: [text: string, code: string, path: string | undefined][] = [
    ['{"orderId":1', 'invalid_json', ''],
    ['[]', 'invalid_value', ''],
    ['null', 'invalid_value', ''],
    ['{"orderState":"CLOSED"}', 'invalid_value', 'orderId'],
    ['{"orderId":1}', 'invalid_value', 'orderState'],
    ['{"orderId":1,"orderState":7}', 'invalid_value', 'orderState'],
    ['{"orderId":0,"orderState":"A"}', 'invalid_value', 'orderId'],
    ['{"orderId":-1,"orderState":"A"}', 'invalid_value', 'orderId'],
    ['{"orderId":1.5,"orderState":"A"}', 'invalid_value', 'orderId'],
    ['{"orderId":12.0,"orderState":"A"}', 'invalid_value', 'orderId'],
    ['{"orderId":1e3,"orderState":"A"}', 'invalid_value', 'orderId'],
    [`{"orderId":1,"orderState":"A","x":${'['.repeat(20_000)}${']'.repeat(20_000)}}`, 'invalid_value', ''],
    ['{"orderId":"1","orderState":"A"}', 'invalid_value', 'orderId'],
    ['{"orderId":9223372036854775808,"orderState":"A"}', 'invalid_value', 'orderId'],
  ];
  for (const [text, code, path] of refused) {
    test(`${text.slice(0, 60)} is refused`, () => {
      assert.throws(
        () => readOrderDetails(text),
        (error) => error instanceof AppError && error.code === code && error.problems[0]?.path === path,
      );
    });
  }

  test('another state leaves all other values as they were', () => {
    assert.equal(
      withState('{"orderId":9223372036854775807,"orderState":"OPEN","x":1.50}', 'CLOSED'),
      '{"orderId":9223372036854775807,"orderState":"CLOSED","x":1.50}',
    );
  });
});
