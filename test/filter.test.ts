import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, it, test } from 'node:test';
import { checkFilter, compileFilter, FilterError } from '../src/filter/filter.ts';
import { cutToGranularity, type Granularity } from '../src/model/granularity.ts';
import { type JsonObject, JsonText, type JsonValue, parseLossless } from '../src/model/lossless-json.ts';

type Cases = {
  groups: {
    title: string;
    cases: { order: string; filter: string; granularity: Granularity; result: boolean }[];
  }[];
  errors: { filter: string; granularity: Granularity; position: number; code: string }[];
  allowed: { filter: string; granularity: Granularity }[];
};
const readData = (name: string) => readFileSync(new URL(`data/${name}`, import.meta.url), 'utf8');
const cases: Cases = JSON.parse(readData('filter-cases.json'));
/** In a file that no formatter touches: the text of their numbers is what some cases are about. */
const orders = new Map(
  readData('filter-orders.ndjson')
    .trimEnd()
    .split('\n')
    .map((line) => parseLossless(line) as { name: string; order: JsonObject })
    .map(({ name, order }) => [name, order]),
);

function detail(name: string, granularity: Granularity = 'TICKETS'): JsonValue {
  const order = orders.get(name);
  assert.ok(order, `there is no order ${name}`);
  return { orderDetailsData: cutToGranularity(order, granularity) as JsonObject };
}

function thrownBy(action: () => unknown): FilterError {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof FilterError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: 'nothing was thrown' });
}

const warningsOf = (filter: string) =>
  checkFilter(filter, 'TICKETS').warnings.map(({ position, message }) => `${position}: ${message}`);
const explain = (filter: string, order: JsonValue) => {
  const [condition, ...others] = compileFilter(filter).explain(order).conditions;
  assert.ok(condition && others.length === 0);
  return condition;
};

for (const { title, cases: rows } of cases.groups) {
  test(`cases: ${title}`, () => {
    for (const { order, filter, granularity, result } of rows) {
      const value = detail(order, granularity);
      const compiled = compileFilter(filter);
      assert.equal(compiled.matches(value), result, `${filter} on ${order}`);
      assert.equal(compiled.explain(value).matches, result, `explained: ${filter} on ${order}`);
      assert.deepEqual(checkFilter(filter, granularity).problems, [], filter);
    }
  });
}

test('cases: a wrong filter is refused with its position, by the check and by the compiler', () => {
  for (const { filter, granularity, position, code } of cases.errors) {
    const { problems } = checkFilter(filter, granularity);
    assert.deepEqual(
      problems.map((problem) => [problem.code, problem.position]),
      [[code, position]],
      filter,
    );
    if (code === 'filter_below_granularity') continue;
    const error = thrownBy(() => compileFilter(filter));
    assert.deepEqual([error.code, error.position, error.message], [code, position, problems[0]?.message]);
  }
});

test('cases: a filter that reads no more than the granularity gives is accepted', () => {
  for (const { filter, granularity } of cases.allowed) {
    assert.deepEqual(checkFilter(filter, granularity), { problems: [], warnings: [] }, filter);
  }
});

test('the table has at least 120 cases', () => {
  const count = cases.groups.flatMap((group) => group.cases).length + cases.errors.length;
  assert.ok(count >= 120, String(count));
});

test('an error tells the place, what was found there and what was expected', () => {
  const messages = [
    [
      'OrderDetailsData.OperationDatas(ProductCode=XXXX.BasePrice=1',
      'The parenthesis opened at 31 is not closed: expected ")" after "(ProductCode=XXXX.BasePrice=1", found the end.',
    ],
    [
      'a.b(c=(x).d=1',
      'The parenthesis opened at 3 is not closed: expected ")" after "(c=(x).d=1", found the end. A parenthesis that belongs to a value is written \\( or \\).',
    ],
    ['a=1;;b=2', 'Expected a condition before the semicolon at 4, found ";".'],
    ['a', 'Expected ".", "(" or an operator (= != < <= > >=) at 1, found the end.'],
    ['a b=1', 'Expected an operator (= != < <= > >=) at 2, found "b=1".'],
    ['a(b)[0]=1', 'Expected "." or an operator (= != < <= > >=) at 4, found "[0]=1".'],
    ['a.1=2', 'Expected a field name (a letter, then letters, digits and "_") at 2, found "1=2".'],
    ['a().b=1', 'Expected "*" or a field name (a letter, then letters, digits and "_") at 2, found ").b=1".'],
    ['a(b>1).c=1', 'Expected "=" or ")" at 3, found ">1).c=1".'],
    ['a=', 'Expected a value after "=" at 2, found the end. An empty text is written ^$.'],
    ['a[', 'Expected ".", "(" or an operator (= != < <= > >=) at 1, found "[".'],
  ] as const;
  for (const [filter, message] of messages) {
    assert.equal(thrownBy(() => compileFilter(filter)).message, message);
  }
});

test('what an error quotes of a long text is short', () => {
  for (const filter of [`a(${'b'.repeat(4_000)}`, `a~${'b'.repeat(4_000)}`, `a(b=${'c'.repeat(4_000)}`]) {
    assert.ok(thrownBy(() => compileFilter(filter)).message.length < 200);
  }
});

test('a filter of 4,096 characters is accepted and one more is refused', () => {
  const longest = `a=${'x'.repeat(4_094)}`;
  assert.equal(compileFilter(longest).matches({ a: 'x'.repeat(4_094) }), true);
  const error = thrownBy(() => compileFilter(`${longest}x`));
  assert.deepEqual([error.code, error.position], ['filter_too_long', 4_096]);
  assert.equal(checkFilter(' '.repeat(4_097), 'TICKETS').problems.length, 1);
});

test('64 conditions are accepted and one more is refused where it begins', () => {
  const most = Array(64).fill('a=1').join(';');
  assert.equal(compileFilter(`${most};`).matches({ a: 1 }), true);
  const error = thrownBy(() => compileFilter(`${most}; a=1`));
  assert.deepEqual([error.code, error.position], ['filter_too_many_conditions', 64 * 4 + 1]);
});

test('16 names in a path are accepted and one more is refused where it begins', () => {
  const deepest = Array(16).fill('a').join('.');
  let order: JsonValue = 'end';
  for (let depth = 0; depth < 16; depth++) order = { a: order };
  assert.equal(compileFilter(`${deepest}=end`).matches(order), true);
  const error = thrownBy(() => compileFilter(`${deepest}.a=end`));
  assert.deepEqual([error.code, error.position], ['filter_too_many_segments', 32]);
});

test('expressions that repeat too much are refused where the limit is passed', () => {
  assert.equal(compileFilter('a=x{1000}').matches({ a: 'x'.repeat(1_000) }), true);
  const error = thrownBy(() => compileFilter('a=.{1000};a(b=x{999}y{9}z).c=1'));
  assert.deepEqual([error.code, error.position], ['filter_too_complex', 14]);
  assert.match(error.message, /need \d+ instructions; at most 2000 are allowed/);
});

test('blank text is no filter: it has no problems and matches every order', () => {
  for (const filter of ['', '  ', '\n\t']) {
    assert.deepEqual(checkFilter(filter, 'OPERATIONS'), { problems: [], warnings: [] });
    assert.deepEqual(compileFilter(filter).explain({}), { matches: true, conditions: [] });
  }
});

test('a filter below its granularity is refused once per condition, naming the granularity needed', () => {
  const filter =
    'OrderDetailsData.MovementDatas(*).Resumed=true; OrderDetailsData.TicketDatas.Barcode=1.*;OrderDetailsData.OrderType=SALE';
  assert.deepEqual(checkFilter(filter, 'OPERATIONS').problems, [
    {
      code: 'filter_below_granularity',
      message:
        'MovementDatas is not given with granularity OPERATIONS, so the condition could never match: choose granularity MOVEMENTS.',
      position: 17,
    },
    {
      code: 'filter_below_granularity',
      message:
        'TicketDatas is not given with granularity OPERATIONS, so the condition could never match: choose granularity TICKETS.',
      position: 65,
    },
  ]);
  assert.equal(checkFilter(filter, 'MOVEMENTS').problems.length, 1);
  assert.equal(checkFilter(filter, 'TICKETS').problems.length, 0);
});

test('an unknown field is warned of with the nearest known name', () => {
  const operation = 'OrderDetailsData.OperationDatas';
  assert.deepEqual(warningsOf('OrderDetailsData.OrderTyp=SALE'), [
    '17: No known field of an order is called OrderTyp: did you mean OrderType?',
  ]);
  assert.deepEqual(warningsOf(`${operation}.PRODUCTCOD=1`), [
    '32: No known field of an operation is called PRODUCTCOD: did you mean ProductCode?',
  ]);
  assert.deepEqual(warningsOf(`${operation}(ProdctCode=1).Qantity=1`), [
    '32: No known field of an operation is called ProdctCode: did you mean ProductCode?',
    '46: No known field of an operation is called Qantity: did you mean Quantity?',
  ]);
  assert.deepEqual(warningsOf(`${operation}.Contingnt=1`), [
    '32: No known field of an operation is called Contingnt: did you mean Contingent?',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.Country=France'), [
    '17: No known field of an order is called Country.',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.ProductCode=1'), [
    '17: No known field of an order is called ProductCode: did you mean OrderDetailsData.OperationDatas(*).ProductCode?',
  ]);
  assert.deepEqual(warningsOf(`${operation}.OrderType=SALE`), [
    '32: No known field of an operation is called OrderType: did you mean OrderDetailsData.OrderType?',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.Barcod=1'), [
    '17: No known field of an order is called Barcod: did you mean OrderDetailsData.TicketDatas(*).Barcode?',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.Operations(*).Kind=PASS'), [
    '17: No known field of an order is called Operations: did you mean OperationDatas?',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.constructor=1'), [
    '17: No known field of an order is called constructor.',
  ]);
  assert.deepEqual(warningsOf(`OrderDetailsData.${'x'.repeat(4_000)}=1`).length, 1);
});

test('a path that does not start with OrderDetailsData is warned of', () => {
  assert.deepEqual(warningsOf('OrderType=SALE'), [
    '0: A path starts with OrderDetailsData: did you mean OrderDetailsData.OrderType?',
  ]);
  assert.deepEqual(warningsOf('OrderDetailData.OrderType=SALE'), [
    '0: A path starts with OrderDetailsData: did you mean OrderDetailsData?',
  ]);
});

test('a selector on something known not to be a list is warned of', () => {
  assert.deepEqual(warningsOf('OrderDetailsData(*).OrderType(SALE)=SALE'), [
    '16: OrderDetailsData is not a list: the parentheses have nothing to choose from.',
    '29: OrderType is not a list: the parentheses have nothing to choose from.',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.MovementDatas.Seat(Row=A).Number=1'), []);
});

test('a path that ends too early or goes on too far is warned of', () => {
  assert.deepEqual(warningsOf('OrderDetailsData.OrderType.Name=SALE'), [
    '27: OrderType holds a single value, which has no fields.',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.OperationDatas(*)=XXXX'), [
    '17: OperationDatas has fields and never matches a value: name the field to compare, as in OperationDatas.OperationId.',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.OperationDatas(ProductCode).Quantity=1'), [
    '32: ProductCode is not a field that is true or false: did you mean (ProductCode=…)?',
  ]);
});

test('a value that is no valid regular expression is warned of, wherever it stands', () => {
  assert.deepEqual(warningsOf('OrderDetailsData.OperationDatas(Product=[a).Season=(?=x)'), [
    '40: The value is no valid regular expression (missing closing ]: `[a`) and is compared as plain text.',
    '51: The value is no valid regular expression (invalid or unsupported Perl syntax: `(?=`) and is compared as plain text.',
  ]);
});

test('values that look like a slip are warned of', () => {
  assert.deepEqual(warningsOf('OrderDetailsData.OrderType=="SALE"'), [
    '27: "=" is read as the beginning of the value.',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.OrderType="SALE"'), [
    '27: The quotes are read as part of the value: write it without them.',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.OrderType=SALE and OrderDetailsData.SaleAmount=1'), [
    '27: The value holds another path: conditions are separated by ";".',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.SaleAmount>much'), [
    '28: > compares numbers and date-times, and much is neither: the condition never matches.',
  ]);
  assert.deepEqual(warningsOf('OrderDetailsData.CreationDateTime>=2020-10-13'), [
    '35: >= compares numbers and date-times, and 2020-10-13 is neither: write 2020-10-13T00:00:00+00:00.',
  ]);
});

test('usual filters have no warnings', () => {
  for (const filter of [
    'OrderDetailsData.OperationDatas(*).ProductCode=XXXX',
    'OrderDetailsData.OperationDatas(ProductCode=XXXX).BasePrice=10000;OrderDetailsData.OrderType=SALE',
    'OrderDetailsData.OperationDatas(*).ProductCode=13.*',
    'OrderDetailsData.OperationDatas(IsNominative).Quantity=2',
    'orderDetailsData.ticketDatas(ticketState=VALID).barcode!=.*9;',
  ]) {
    assert.deepEqual(checkFilter(filter, 'TICKETS'), { problems: [], warnings: [] });
  }
});

test('a hit is explained by the element and the text that decided it', () => {
  const sale = detail('sale');
  assert.deepEqual(explain('OrderDetailsData.OperationDatas(*).ProductCode=13.*', sale), {
    text: 'OrderDetailsData.OperationDatas(*).ProductCode=13.*',
    matches: true,
    path: 'operationDatas[2].productCode',
    found: '13-A',
    because: 'operationDatas[2].productCode is 13-A, which 13.* matches',
  });
  assert.deepEqual(explain(' OrderDetailsData.OrderType != SALE ', sale), {
    text: 'OrderDetailsData.OrderType != SALE',
    matches: false,
    path: 'orderType',
    found: 'SALE',
    because: 'orderType is SALE',
  });
  assert.deepEqual(explain('OrderDetailsData.OperationDatas(IsNominative).Quantity>1', sale), {
    text: 'OrderDetailsData.OperationDatas(IsNominative).Quantity>1',
    matches: true,
    path: 'operationDatas[0].quantity',
    found: '2',
    because: 'operationDatas[0].quantity is 2, which is > 1',
  });
  assert.equal(explain('OrderDetailsData.Tags=deep', detail('odd')).path, 'tags[2][1][0]');
  assert.equal(explain('OrderDetailsData.OrderId=1', detail('odd')).path, 'ORDERID');
  assert.equal(explain('OrderDetailsData.OrderId=9.*', detail('big')).found, '9223372036854775807');
});

test('a miss is explained by the nearest miss', () => {
  const rows = [
    ['OperationDatas.ProductCode=YYYY', '3 operations, product codes ASTDN, XXXX, 13-A; none is YYYY'],
    ['OperationDatas.ProductCode=Y+', '3 operations, product codes ASTDN, XXXX, 13-A; none matches Y+'],
    ['OperationDatas.Quantity>5', '3 operations, quantities 2, 1, 5; none is > 5'],
    ['OperationDatas.IsNominative=yes', '3 operations, isNominative true, false; none is yes'],
    [
      'OperationDatas(ProductCode=Y.*).Quantity=1',
      '3 operations, product codes ASTDN, XXXX, 13-A; none matches Y.*',
    ],
    ['OperationDatas(Numbered).Quantity=1', '3 operations; numbered is true in none'],
    ['OperationDatas(FileId=1).Quantity=1', '3 operations; none has the field fileId'],
    ['OperationDatas(Kind=S.*).Quantity=5', '2 of 3 operations with Kind=S.*, quantities 2, 1; none is 5'],
    ['OperationDatas(ProductCode=XXXX).BasePrice=1', 'operationDatas[1].basePrice is 10000, not 1'],
    ['OperationDatas.FileId=1', '3 operations; none has the field fileId'],
    ['OperationDatas.Season=2020', 'operationDatas[2].season is null'],
    ['OperationDatas=2020', '3 operations: an object; none is 2020'],
    ['MovementDatas(Resumed=true).MovementId=5', '1 movement, resumed false; none is true'],
    ['MovementDatas.Seat=A', 'movementDatas[0].seat is an object'],
    ['OrderType=RENEWAL', 'orderType is SALE, not RENEWAL'],
    ['OrderType=REN.*', 'orderType is SALE, which REN.* does not match'],
    ['OrderType=[a', 'orderType is SALE, not [a'],
    ['OrderType>5', 'orderType is SALE, which is no number'],
    ['OrderType>2020-01-01T00:00Z', 'orderType is SALE, which is no date-time'],
    ['SaleAmount>50000', 'saleAmount is 40000, which is not > 50000'],
    ['SaleAmount>much', 'saleAmount is 40000, and much is neither a number nor a date-time'],
    ['Country=France', 'the order has no field country'],
    ['OrderType.Name=x', 'orderType has no field name'],
  ] as const;
  for (const [filter, because] of rows) {
    const condition = explain(`OrderDetailsData.${filter}`, detail('sale'));
    assert.deepEqual([condition.matches, condition.because], [false, because]);
  }
  assert.equal(explain('OrderDetailsData.OperationDatas.Kind=PASS', detail('big')).because, 'no operations');
  assert.equal(
    explain('OrderType=SALE', detail('sale')).because,
    'there is no orderType: a path starts with OrderDetailsData',
  );
  assert.equal(explain('OrderDetailsData=SALE', detail('sale')).path, 'orderDetailsData');
});

test('a miss with one candidate names it, one with several does not', () => {
  const { path, found } = explain('OrderDetailsData.OrderType=RENEWAL', detail('sale'));
  assert.deepEqual({ path, found }, { path: 'orderType', found: 'SALE' });
  assert.equal('path' in explain('OrderDetailsData.OperationDatas.Kind=PASS', detail('sale')), false);
});

test('an explanation stays short whatever the order holds', () => {
  const long = 'x'.repeat(100_000);
  const operationDatas = Array.from({ length: 5_000 }, (_, index) => ({
    productCode: `${index}${long.slice(0, 100)}`,
  }));
  const many = explain('OrderDetailsData.OperationDatas.ProductCode=y', {
    orderDetailsData: { operationDatas },
  });
  assert.match(many.because, /^5000 operations, product codes 0xxx.* and 4995 more; none is y$/);
  assert.ok(many.because.length < 500);
  const one = explain('OrderDetailsData.Product=y', { orderDetailsData: { product: long } });
  assert.ok(one.because.length < 200 && (one.found?.length ?? 0) <= 1_001);
  let deep: JsonValue = 'x';
  for (let depth = 0; depth < 100_000; depth++) deep = [deep];
  assert.ok((explain('OrderDetailsData.A=x', { orderDetailsData: { a: deep } }).path?.length ?? 0) < 300);
});

test('every condition is explained, also after one that does not hold', () => {
  const filter = compileFilter('OrderDetailsData.OrderType=RENEWAL;OrderDetailsData.SaleAmount=40000');
  const { matches, conditions } = filter.explain(detail('sale'));
  assert.deepEqual([matches, conditions.map((condition) => condition.matches)], [false, [false, true]]);
});

test('an expression made to blow up a backtracking engine is answered on 1 MiB of text', () => {
  const megabyte = 'a'.repeat(1024 * 1024);
  for (const [value, text, result] of [
    ['(a+)+$', megabyte, true],
    ['(a+)+$', `${megabyte}b`, false],
    ['(a|a)*b', megabyte, false],
    ['(a|aa)+', megabyte, true],
    ['(.*)(.*)(.*)(.*)x', megabyte, false],
    ['.*a.{12}', `${'ab'.repeat(1024)}${'b'.repeat(12)}`, false],
  ] as const) {
    const order = { orderDetailsData: { product: text } };
    assert.equal(compileFilter(`OrderDetailsData.Product=${value}`).matches(order), result, value);
  }
});

test('a quantifier speaks of the character before it, also across what stands for nothing', () => {
  for (const [value, text] of [
    ['13A(?)*', '13'],
    ['13A(?i)?', '13'],
    ['13A\\Q\\E*', '13'],
    ['13😀?[x]', '13x'],
    ['13A{0,2}B', '13B'],
  ] as const) {
    assert.equal(compileFilter(`a=${value}`).matches({ a: text }), true, value);
  }
});

test('a number that JavaScript could not hold and that was read without care compares with nothing', () => {
  const order = JSON.parse('{"a":1e999}');
  assert.equal(compileFilter('a>1').matches(order), false);
});

test('a long row of zeros in the order is compared as quickly as any number', () => {
  const order = parseLossless(
    `{"orderDetailsData":{"a":${'1'.padEnd(1_000_000, '0')}1,"b":"${'0'.repeat(1_000_000)}7"}}`,
  );
  assert.equal(compileFilter('OrderDetailsData.A>1;OrderDetailsData.B<=7').matches(order), true);
});

test('lists nested deeper than the stack are read to their ground', () => {
  const depth = 200_000;
  const order = { orderDetailsData: JSON.parse(`{"a":${'['.repeat(depth)}{"b":1}${']'.repeat(depth)}}`) };
  assert.equal(compileFilter('OrderDetailsData.A.B=1').matches(order), true);
  assert.equal(compileFilter('OrderDetailsData.A(B=1).B=2').matches(order), false);
  assert.equal(compileFilter('OrderDetailsData.A(B=1).B=2').explain(order).matches, false);
});

test('a filter keeps nothing of the orders it has seen', () => {
  const filter = compileFilter('OrderDetailsData.OperationDatas(ProductCode=[X]+).Quantity>=1');
  const results = ['sale', 'plain', 'sale', 'big', 'sale'].map((name) => filter.matches(detail(name)));
  assert.deepEqual(results, [true, false, true, false, true]);
});

test('filters work where the engine may not make code from text', () => {
  const face = new URL('../src/filter/filter.ts', import.meta.url).href;
  const script = `
    import { compileFilter } from ${JSON.stringify(face)};
    const order = { orderDetailsData: { operationDatas: [{ quantity: 1 }, { quantity: 2 }] } };
    const answers = ['2', '3'].map((value) => compileFilter('OrderDetailsData.OperationDatas.Quantity=' + value).matches(order));
    console.log(JSON.stringify(answers));
  `;
  const flags = ['--disallow-code-generation-from-strings', '--input-type=module', '--eval', script];
  const { stdout, stderr } = spawnSync(process.execPath, flags, { encoding: 'utf8' });
  assert.deepEqual([stdout, stderr], ['[true,false]\n', '']);
});

describe('a number in the text of an order counts as it is written', () => {
  const DETAILS = new JsonText(
    '{"a": 1.50, "b": [9007199254740993, 3], "c": [{"n": 1e3, "m": "x"}], "d": -0, "e": 9007199254740993}',
  );
  for (const [filter, expected] of [
    ['OrderDetailsData.A=1.50', true],
    ['OrderDetailsData.A=1.5', false],
    ['OrderDetailsData.A!=1.5', true],
    ['OrderDetailsData.A=1[.]50', true],
    ['OrderDetailsData.B=9007199254740993', true],
    ['OrderDetailsData.B=9007199254740992', false],
    ['OrderDetailsData.C(n=1e3).m=x', true],
    ['OrderDetailsData.C(n=1000).m=x', false],
    ['OrderDetailsData.C(*).n=1e3', true],
    ['OrderDetailsData.D=-0', true],
    ['OrderDetailsData.D=0', false],
    ['OrderDetailsData.E>9007199254740992', true],
    ['OrderDetailsData.C(m=x).n=1e3', true],
  ] as const) {
    it(`${filter}: ${expected}`, () => {
      assert.equal(compileFilter(filter).matchesDetails(DETAILS), expected);
    });
  }

  it('and details that are gone are null', () => {
    assert.equal(compileFilter('OrderDetailsData.A=1').matchesDetails(undefined), false);
    assert.equal(compileFilter('OrderDetailsData.A!=1').matchesDetails(undefined), true);
  });
});
