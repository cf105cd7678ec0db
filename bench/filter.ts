/**
 * How many conditions a second does a filter answer on a parsed order of 20 operations, and how many does JSONata, asked
 * the same questions in the same run? Rounds alternate, figures are medians.
 *
 *     npm ci --prefix bench && npx node bench/filter.ts [seconds]
 */
import { compileFilter } from '../src/filter/filter.ts';
import { type JsonValue, parseLossless } from '../src/model/lossless-json.ts';
import { madeOrder } from '../test/support/filter-orders.ts';

/** What we use of the peer. Not imported by name, so that a type check needs no peers. */
type JsonataExpression = { evaluate(input: unknown): Promise<unknown> };
type Jsonata = (expression: string) => JsonataExpression;

const ROUNDS = 7;
const OPERATIONS = 20;
const ORDERS = 50;
const seconds = Number(process.argv[2] ?? 8);

const operations = 'orderDetailsData.operationDatas';
/** The same question in both languages; of usual kinds, and as dear as they come: some are answered by the last operation or by none. */
const QUESTIONS = [
  ['OrderDetailsData.OrderType=SALE', 'orderDetailsData.orderType = "SALE"'],
  ['OrderDetailsData.OperationDatas(*).ProductCode=P0017', `"P0017" in ${operations}.productCode`],
  ['OrderDetailsData.OperationDatas(*).ProductCode=XXXX', `"XXXX" in ${operations}.productCode`],
  [
    'OrderDetailsData.OperationDatas(ProductCode=P0021).BasePrice=20500',
    `20500 in ${operations}[productCode="P0021"].basePrice`,
  ],
  [
    'OrderDetailsData.OperationDatas(*).ProductCode=13.*',
    `$exists(${operations}[$substring(productCode, 0, 2) = "13"])`,
  ],
  ['OrderDetailsData.OperationDatas(IsNominative).Quantity=2', `2 in ${operations}[isNominative].quantity`],
  ['OrderDetailsData.OperationDatas(*).Quantity>=7', `$exists(${operations}[quantity >= 7])`],
  [
    'OrderDetailsData.OperationDatas(*).ProductCode=[A-Z]\\d{3}7',
    `$exists(${operations}[$contains(productCode, /^[A-Z]\\d{3}7$/)])`,
  ],
  ['OrderDetailsData.OperationDatas(*).FileId=5', `5 in ${operations}.fileId`],
] as const;

const orders: JsonValue[] = Array.from({ length: ORDERS }, (_, index) =>
  parseLossless(JSON.stringify({ orderDetailsData: madeOrder(index, OPERATIONS) })),
);

async function loadJsonata(): Promise<Jsonata> {
  const name: string = 'jsonata';
  try {
    return ((await import(name)) as { default: Jsonata }).default;
  } catch (cause) {
    throw new Error('JSONata is not installed: run `npm ci` in bench/', { cause });
  }
}

/** Answers a second. */
async function measure(answer: (order: JsonValue) => unknown, milliseconds: number): Promise<number> {
  const start = performance.now();
  let answers = 0;
  let end = start;
  do {
    for (const order of orders) {
      const given = answer(order);
      if (given instanceof Promise) await given;
    }
    answers += ORDERS;
    end = performance.now();
  } while (end - start < milliseconds);
  return (answers * 1000) / (end - start);
}

function median(figures: readonly number[]): number {
  return figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)] as number;
}

const jsonata = await loadJsonata();
const pairs = QUESTIONS.map(([filter, expression]) => ({
  filter,
  ours: compileFilter(filter).matches,
  theirs: jsonata(expression),
}));

for (const { filter, ours, theirs } of pairs) {
  for (const order of orders) {
    if (ours(order) !== ((await theirs.evaluate(order)) === true))
      throw new Error(`not the same question: ${filter}`);
  }
}

const milliseconds = (seconds * 1000) / (pairs.length * (ROUNDS + 1) * 2);
const figures = pairs.map(() => ({ ours: [] as number[], theirs: [] as number[] }));
for (let round = 0; round <= ROUNDS; round++) {
  for (const [index, { ours, theirs }] of pairs.entries()) {
    const ourFigure = await measure(ours, milliseconds);
    const theirFigure = await measure((order) => theirs.evaluate(order), milliseconds);
    // The first round warms up.
    if (round === 0) continue;
    figures[index]?.ours.push(ourFigure);
    figures[index]?.theirs.push(theirFigure);
  }
}

function print(name: string, ours: number, theirs: number): void {
  const rate = (perSecond: number) => `${(perSecond / 1e6).toFixed(3).padStart(7)} M/s`;
  console.log(
    `${rate(ours)}  JSONata ${rate(theirs)}  ratio ${(ours / theirs).toFixed(1).padStart(6)}  ${name}`,
  );
}

const medians = figures.map(({ ours, theirs }) => ({ ours: median(ours), theirs: median(theirs) }));
for (const [index, { ours, theirs }] of medians.entries()) print(pairs[index]?.filter ?? '', ours, theirs);
/** Each question asked equally often. */
const together = (rates: readonly number[]) => rates.length / rates.reduce((sum, rate) => sum + 1 / rate, 0);
print(
  'all of them',
  together(medians.map(({ ours }) => ours)),
  together(medians.map(({ theirs }) => theirs)),
);
