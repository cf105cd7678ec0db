import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RE2JS } from 're2js';
import { checkFilter, compileFilter, type Filter, FilterError } from '../src/filter/filter.ts';
import {
  type Condition,
  type PlacedCondition,
  type PlacedSegment,
  parseFilter,
  printFilter,
  type Segment,
} from '../src/filter/parse.ts';
import { JsonText, type JsonValue } from '../src/model/lossless-json.ts';
import { anyConditions, likelyConditions, order } from './support/filter-arbitraries.ts';
import { matchesNaively } from './support/filter-naive.ts';

function withoutPlaces({ path, operator, value }: PlacedCondition): Condition {
  return { path: path.map(segmentWithoutPlaces), operator, value };
}

function segmentWithoutPlaces({ name, selector }: PlacedSegment): Segment {
  switch (selector?.kind) {
    case undefined:
      return { name };
    case 'any':
      return { name, selector: { kind: 'any' } };
    case 'true':
      return { name, selector: { kind: 'true', name: selector.name } };
    case 'equal':
      return { name, selector: { kind: 'equal', name: selector.name, value: selector.value } };
  }
}

/** Undefined when the text is no filter; anything but a FilterError passes through and fails the test. */
function compiled(text: string): Filter | undefined {
  try {
    return compileFilter(text);
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    assert.ok(error.position >= 0 && error.position <= text.length);
    return undefined;
  }
}

/** Random text that comes close to being a filter. */
const nearlyFilter = fc
  .array(
    fc.constantFrom(
      'a',
      'OrderDetailsData',
      'b1',
      '.',
      '(',
      ')',
      '*',
      '=',
      '!=',
      '<',
      '>=',
      ';',
      ' ',
      '13.*',
      '\\',
      '[',
      'é',
      '\n',
      '|',
      '{2}',
    ),
    { maxLength: 30 },
  )
  .map((parts) => parts.join(''));
const anyText = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), nearlyFilter);

test('parsing the printed tree gives the tree', () => {
  fc.assert(
    fc.property(anyConditions, (conditions) => {
      assert.deepEqual(parseFilter(printFilter(conditions)).map(withoutPlaces), conditions);
    }),
    { numRuns: 2_000 },
  );
});

test('printing what was parsed keeps its meaning, whatever its blanks', () => {
  fc.assert(
    fc.property(nearlyFilter, (text) => {
      if (!compiled(text)) return;
      const conditions = parseFilter(text).map(withoutPlaces);
      assert.deepEqual(parseFilter(printFilter(conditions)).map(withoutPlaces), conditions);
    }),
    { numRuns: 2_000 },
  );
});

test('every condition knows its own place in the text', () => {
  fc.assert(
    fc.property(anyConditions, (conditions) => {
      const text = ` ${printFilter(conditions)} ;`;
      for (const { position, valuePosition, value, path, text: own } of parseFilter(text)) {
        assert.equal(text.slice(position, position + own.length), own);
        assert.equal(text.slice(valuePosition, valuePosition + value.length), value);
        for (const segment of path) assert.ok(text.startsWith(segment.name, segment.position));
        for (const { selector } of path) {
          if (!selector) continue;
          assert.equal(text[selector.position], '(');
          if (selector.kind !== 'any') assert.ok(text.startsWith(selector.name, selector.namePosition));
          if (selector.kind === 'equal') assert.ok(text.startsWith(selector.value, selector.valuePosition));
        }
      }
    }),
  );
});

test('random text is refused with a FilterError or is a filter, and the check agrees without throwing', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const { problems } = checkFilter(text, 'TICKETS');
      assert.equal(problems.length > 0, compiled(text) === undefined);
    }),
    { numRuns: 3_000 },
  );
});

test('no filter throws on any JSON', () => {
  const anyJson = fc.jsonValue({ maxDepth: 4 }).map((value) => value as JsonValue);
  fc.assert(
    fc.property(likelyConditions, fc.oneof(order, anyJson), (conditions, value) => {
      const filter = compileFilter(printFilter(conditions));
      const explained = filter.explain(value);
      assert.equal(explained.matches, filter.matches(value));
      for (const { because } of explained.conditions) assert.notEqual(because, '');
    }),
    { numRuns: 3_000 },
  );
});

test('the evaluator agrees with a naive one, and the explanation with both', () => {
  let matched = 0;
  fc.assert(
    fc.property(likelyConditions, order, (conditions, value) => {
      const filter = compileFilter(printFilter(conditions));
      const expected = matchesNaively(conditions, value);
      assert.equal(filter.matches(value), expected);
      assert.equal(filter.explain(value).matches, expected);
      if (expected) matched++;
    }),
    { numRuns: 10_000 },
  );
  assert.ok(matched > 500, `only ${matched} matched: the orders and filters hardly meet`);
});

test('of the text of an order it says what it says of the order, whatever its numbers look like', () => {
  let matched = 0;
  fc.assert(
    fc.property(likelyConditions, order, (someConditions, value) => {
      const conditions = someConditions.map(({ path, ...others }) => ({
        path: [{ name: 'OrderDetailsData' }, ...path],
        ...others,
      }));
      const filter = compileFilter(printFilter(conditions));
      const expected = matchesNaively(conditions, { orderDetailsData: value });
      assert.equal(filter.matchesDetails(new JsonText(JSON.stringify(value))), expected);
      if (expected) matched++;
    }),
    { numRuns: 5_000 },
  );
  assert.ok(matched > 250, `only ${matched} matched`);
});

test('each single condition on one field agrees with the naive evaluator', () => {
  let matched = 0;
  const field = fc.constantFrom('Extra', 'A');
  const lists = order.map(
    (value) => ({ orderDetailsData: { extra: [value, { a: value }], a: value } }) as JsonValue,
  );
  fc.assert(
    fc.property(likelyConditions, field, lists, ([first], name, value) => {
      assert.ok(first);
      const conditions = [
        { ...first, path: [{ name: 'OrderDetailsData' }, { name }, ...first.path.slice(0, 1)] },
      ];
      const expected = matchesNaively(conditions, value);
      assert.equal(compileFilter(printFilter(conditions)).matches(value), expected);
      if (expected) matched++;
    }),
    { numRuns: 5_000 },
  );
  assert.ok(matched > 500, `only ${matched} matched`);
});

test('expressions that are answered without the automaton are answered as it would', () => {
  const piece = fc.constantFrom(
    'a',
    'b',
    '.*',
    '.*',
    '|',
    '13',
    '(',
    ')',
    '\n',
    '.',
    '?',
    '*',
    'é',
    '😀',
    '\ud83d',
    '\\',
    '[ab]',
    '{2}',
    '(?i)',
    '(?:',
    '\\Q',
    '\\E',
    '+',
    '^',
    '$',
  );
  const value = fc
    .array(piece, { minLength: 1, maxLength: 6 })
    .map((parts) => parts.join(''))
    .filter((text) => text === text.trim());
  const text = fc.string({
    unit: fc.constantFrom('a', 'b', 'A', '1', '3', '\n', 'é', '😀', '.', '*', '|', '(', ')'),
    maxLength: 6,
  });
  fc.assert(
    fc.property(value, text, (expression, found) => {
      let expected = expression === found;
      try {
        expected ||= RE2JS.matches(expression, found);
      } catch {
        // No expression: literal.
      }
      assert.equal(compileFilter(`a=${expression}`).matches({ a: found }), expected);
    }),
    { numRuns: 20_000 },
  );
});
