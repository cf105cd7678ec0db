import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { JsonWalk, scanJson, withoutFields } from '../src/model/json-scan.ts';
import { jsonSyntaxProblem } from '../src/model/lossless-json.ts';
import {
  checkOrderDetails,
  checkScannedOrder,
  ORDER_SCAN,
  readOrderDetails,
  withState,
} from '../src/model/order.ts';

/** Characters that JSON is made of, and some that it is not. */
const PIECES = [
  ...'{}[],:"\\/ \n\t\r-+.eE0123456789utfnxé\u0000\u001f\u007f\ufeff',
  'true',
  'false',
  'null',
  '\\u00e9',
  '"a"',
  '"a":',
  '-0',
  '1e5',
  '🎫',
];
const NEARLY_JSON = fc.array(fc.constantFrom(...PIECES), { maxLength: 14 }).map((pieces) => pieces.join(''));
/** JSON with one of its characters taken out, doubled or replaced. */
const SPOILT_JSON = fc.tuple(fc.json(), fc.nat(), fc.constantFrom('', ...PIECES)).map(([text, at, piece]) => {
  const place = at % (text.length + 1);
  return text.slice(0, place) + piece + text.slice(place + 1);
});

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe('a walk over JSON', () => {
  test('takes what JSON.parse takes, and nothing else', () => {
    fc.assert(
      fc.property(fc.oneof(NEARLY_JSON, SPOILT_JSON, fc.json()), (text) => {
        assert.equal(scanJson(text).isJson, isJson(text), JSON.stringify(text));
      }),
      { numRuns: 20_000 },
    );
  });

  test('stops where JSON.parse does, wherever that tells the place', () => {
    let told = 0;
    fc.assert(
      fc.property(fc.oneof(NEARLY_JSON, SPOILT_JSON), (text) => {
        const scan = scanJson(text);
        if (scan.isJson !== false) return;
        try {
          JSON.parse(text);
        } catch (error) {
          const place = / at position (\d+)/.exec((error as Error).message)?.[1];
          // Of a text that ends within a number or an escape, V8 tells where that began, or the end.
          if (place === undefined || scan.position === text.length) return;
          told += 1;
          assert.ok(Math.abs(Number(place) - scan.position) <= 5, `${JSON.stringify(text)} ${place}`);
        }
        // What comes before the place is the beginning of some JSON.
        const before = scanJson(text.slice(0, scan.position));
        assert.ok(before.isJson === true || (before.isJson === false && before.position === scan.position));
      }),
      { numRuns: 5_000 },
    );
    assert.ok(told > 100);
  });

  test('finds the same, however often it stops on its way', () => {
    fc.assert(
      fc.property(fc.oneof(SPOILT_JSON, fc.json()), fc.integer({ min: 1, max: 9 }), (text, stretch) => {
        const names = new Set(['a', 'b', '']);
        const walk = new JsonWalk(text, { names });
        let found = walk.go(stretch);
        while (!found) found = walk.go(stretch);
        assert.deepEqual(found, scanJson(text, { names }));
      }),
    );
  });

  test('tells where the fields of the outermost object are, and of no other', () => {
    const names = fc.constantFrom('a', 'b', '__proto__', 'é', '"', '');
    fc.assert(
      fc.property(
        fc.array(fc.tuple(names, fc.jsonValue()), { maxLength: 6 }),
        fc.constantFrom('', ' ', '\n\t'),
        (fields, blank) => {
          const text = `${blank}{${fields.map(([name, value]) => `${blank}${JSON.stringify(name)}${blank}:${blank}${JSON.stringify(value)}${blank}`).join(',')}}${blank}`;
          const scan = scanJson(text, { names: new Set(['a', '__proto__', '"']) });
          assert.ok(scan.isJson === true && scan.isObject);
          assert.deepEqual(
            scan.fields.map(({ name, start, end }) => [name, text.slice(start, end)]),
            fields
              .filter(([name]) => name === 'a' || name === '__proto__' || name === '"')
              .map(([name, value]) => [name, JSON.stringify(value)]),
          );
          const rest = JSON.parse(withoutFields(text, scan.fields));
          assert.deepEqual(
            Object.keys(rest).sort(),
            [...new Set(fields.map(([name]) => name))].filter((name) => ['b', 'é', ''].includes(name)).sort(),
          );
        },
      ),
    );
  });

  test('reads names that are written with escapes', () => {
    const scan = scanJson('{"\\u0061":1,"x":{"a":2}}', { names: new Set(['a']) });
    assert.deepEqual(scan, {
      isJson: true,
      isObject: true,
      fields: [{ name: 'a', nameStart: 1, start: 10, end: 11 }],
    });
  });

  test('stops at the first level that is too many', () => {
    assert.equal(scanJson('[[]]', { levelsMax: 2 }).isJson, true);
    assert.equal(scanJson('[[[', { levelsMax: 2 }).isJson, 'too_deep');
    assert.equal(scanJson('{"a":['.repeat(100_000)).isJson, false);
  });
});

describe('an order that is walked over', () => {
  test('is what it is when it is parsed', () => {
    const field = fc.oneof(
      fc.constantFrom(
        '"orderId":1',
        '"orderId":12.0',
        '"orderId":1e3',
        '"orderId":"1"',
        '"orderId":null',
        '"orderId":-1',
        '"orderId":9223372036854775807',
        '"orderId":9223372036854775808',
        '"order\\u0049d": 77 ',
        '"x":{"orderId":5,"orderState":"NO"}',
        '"orderState":"OPEN"',
        '"orderState":""',
        '"orderState":null',
        '"orderState":7',
        '"orderState":"\\u0000"',
        '"orderState":"\\ud800"',
        `"orderState":"${'\\u0041'.repeat(64)}"`,
        `"orderState":"${'A'.repeat(65)}"`,
        `"y":${'['.repeat(99)}${']'.repeat(99)}`,
        `"y":${'['.repeat(100)}${']'.repeat(100)}`,
      ),
      fc.json().map((text) => `"z":${text}`),
    );
    fc.assert(
      fc.property(fc.array(field, { maxLength: 5 }), fc.constantFrom('', ' '), (fields, blank) => {
        const text = `${blank}{${blank}${fields.join(`${blank},${blank}`)}}`;
        const parsed = checkOrderDetails(text);
        const walked = checkScannedOrder(scanJson(text, ORDER_SCAN), text);
        // Depth is found first when it is looked for on the way.
        if (walked !== 'order_too_deep') assert.deepEqual(walked, parsed, text);
        else assert.equal(typeof parsed, 'string');
      }),
      { numRuns: 2_000 },
    );
    for (const text of ['', '1', '[]', 'null', '{"orderId":1', '{"orderState":"A"}x']) {
      assert.equal(checkScannedOrder(scanJson(text, ORDER_SCAN), text), checkOrderDetails(text));
    }
  });

  test('changes its state in all places where it is told, and in no other', () => {
    assert.equal(
      withState('{ "orderState" : "A" ,"x":{"orderState":"A"},"orderState":"B","n":1.50}', 'CLOSED'),
      '{ "orderState" : "CLOSED" ,"x":{"orderState":"A"},"orderState":"CLOSED","n":1.50}',
    );
  });

  test('says of a long text too where it stops being JSON', () => {
    const text = `{"a":"${'x\\n'.repeat(20_000)}",\n"b":[1,2,}`;
    assert.deepEqual(jsonSyntaxProblem(text), {
      message: "Unexpected character '}'",
      position: text.length - 1,
      line: 2,
      column: 10,
    });
    assert.throws(() => readOrderDetails(text), { message: /Unexpected character '}' at position/ });
  });
});
