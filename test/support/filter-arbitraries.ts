/** Random filters and random orders that are likely to meet: they draw names and texts from the same few. */
import fc from 'fast-check';
import type { Condition, Segment, Selector } from '../../src/filter/parse.ts';
import { OPERATORS } from '../../src/filter/parse.ts';
import { type JsonValue, parseLossless } from '../../src/model/lossless-json.ts';

const NAMES = ['orderDetailsData', 'operationDatas', 'productCode', 'quantity', 'isNominative', 'extra', 'a'];
const SPECIAL_NAMES = ['constructor', 'toString', 'length', 'rawJSON', 'valueOf', 'größe'];
const TEXTS = [
  'SALE',
  'XXXX',
  '13-A',
  '13',
  '1.50',
  '2',
  '-3',
  '10',
  '007',
  'true',
  '',
  'a\nb',
  'ab.c',
  'abxc',
  '9007199254740993',
];
const MOMENTS = [
  '2020-10-13T10:09:27.503+00:00',
  '2020-10-13T12:09:27.503+02:00',
  '2020-10-13T10:09Z',
  '2020-02-30T10:09Z',
  '2020-02-29T00:00:00',
];
const EXPRESSIONS = [
  '13.*',
  '.*A',
  '.*A.*',
  '.*',
  'SALE|XXXX',
  '(SALE|13.*)',
  '|2',
  'S|SA|SALE',
  '[0-9]+',
  '(?i)sale',
  'XX?X*',
  'ab.c',
  '\\d\\d',
  'a.b',
  '.{2,4}',
  'SALE$',
  '[a',
  '(?=x)',
  '*',
  'X{4}',
  '13-?A',
  'a+?',
  '1\\.50',
];
const NUMBERS = [
  '0',
  '2',
  '2.0',
  '-3',
  '-0',
  '10',
  '1e1',
  '1.50',
  '1.5',
  '9007199254740992',
  '9007199254740993',
  '0.1000000000000000000001',
  '1E-7',
  '12345678901234567890.5',
];

function inAnyCase(name: string): fc.Arbitrary<string> {
  return fc.constantFrom(
    name,
    name,
    name.slice(0, 1).toUpperCase() + name.slice(1),
    name.toUpperCase(),
    name.toLowerCase(),
  );
}

const knownName = fc
  .oneof(
    { weight: 6, arbitrary: fc.constantFrom(...NAMES) },
    { weight: 1, arbitrary: fc.constantFrom(...SPECIAL_NAMES) },
  )
  .chain(inAnyCase);
const anyName = fc.stringMatching(/^[A-Za-zäÖπ][A-Za-z0-9_é]{0,6}$/);

const knownValue = fc.constantFrom(...TEXTS, ...MOMENTS, ...EXPRESSIONS, ...NUMBERS).filter(isValue);
/** Anything that can stand as a value outside of parentheses. */
const anyValue = fc
  .oneof(
    fc.string({ minLength: 1, unit: 'grapheme' }),
    fc.string({ minLength: 1, unit: fc.constantFrom(...'()\\=<>!.*|;[]{}ab ') }),
  )
  .filter(isValue);

function isValue(text: string): boolean {
  return text !== '' && text === text.trim() && !text.includes(';');
}

/** Whether a selector's value ends where it should. */
function isBalanced(value: string): boolean {
  let depth = 0;
  for (let at = 0; at < value.length; at++) {
    if (value[at] === '\\') at++;
    else if (value[at] === '(') depth++;
    else if (value[at] === ')' && --depth < 0) return false;
    if (at >= value.length) return false;
  }
  return depth === 0;
}

function conditionsOf(name: fc.Arbitrary<string>, value: fc.Arbitrary<string>): fc.Arbitrary<Condition[]> {
  const selector: fc.Arbitrary<Selector> = fc.oneof(
    fc.constant<Selector>({ kind: 'any' }),
    fc.record({ kind: fc.constant('true' as const), name }, { noNullPrototype: true }),
    fc.record(
      { kind: fc.constant('equal' as const), name, value: value.filter(isBalanced) },
      { noNullPrototype: true },
    ),
  );
  const segment: fc.Arbitrary<Segment> = fc.oneof(
    { weight: 2, arbitrary: fc.record({ name }, { noNullPrototype: true }) },
    { weight: 1, arbitrary: fc.record({ name, selector }, { noNullPrototype: true }) },
  );
  const path = fc.array(segment, { minLength: 1, maxLength: 4 });
  const condition = fc.record(
    { path, operator: fc.constantFrom(...OPERATORS), value },
    { noNullPrototype: true },
  );
  return fc.array(condition, { minLength: 1, maxLength: 3 });
}

/** Every tree that text can have. */
export const anyConditions = conditionsOf(fc.oneof(knownName, anyName), anyValue);
/** Trees that have something to do with `order`. */
export const likelyConditions = conditionsOf(knownName, knownValue);

/** As JSON text, so that numbers have texts of their own. */
const jsonText = fc.letrec<{ value: string; list: string; object: string; scalar: string }>((tie) => ({
  value: fc.oneof({ depthSize: 'small', withCrossShrink: true }, tie('scalar'), tie('list'), tie('object')),
  list: fc.array(tie('value'), { maxLength: 3 }).map((values) => `[${values.join(',')}]`),
  object: fc
    // Which of two spellings in one object is read is told by cases of their own.
    .uniqueArray(fc.tuple(knownName, tie('value')), {
      maxLength: 4,
      selector: ([name]) => name.toLowerCase(),
    })
    .map((fields) => `{${fields.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`),
  scalar: fc.oneof(
    fc.constantFrom(...TEXTS, ...MOMENTS).map((text) => JSON.stringify(text)),
    fc.constantFrom(...NUMBERS),
    fc.constantFrom('true', 'false', 'null'),
  ),
}));

export const order: fc.Arbitrary<JsonValue> = jsonText.object.map(parseLossless);
