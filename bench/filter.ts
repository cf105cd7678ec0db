/**
 * How many questions a second does a filter answer on a parsed order of 20 operations, and how many does JSONata, asked
 * the same questions in the same run? A question is one condition. Rounds alternate; figures are medians.
 *
 *     npm ci --prefix bench && node bench/filter.ts [--quick]
 */
import { compileFilter } from '../src/filter/filter.ts';
import { type JsonValue, parseLossless } from '../src/model/lossless-json.ts';
import { madeOrder } from '../test/support/filter-orders.ts';
import { median, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { endAfter } from './support/owned.ts';
import { loadPeer } from './support/peer.ts';

/** What we use of the peer. Not imported by name, so that a type check needs no peers. */
type JsonataExpression = { evaluate(input: unknown): Promise<unknown> };
type Jsonata = (expression: string) => JsonataExpression;

const ROUNDS = 7;
const OPERATIONS = 20;
const ORDERS = 50;
const SECONDS = size(20, 4);
const TARGET = { min: 3_000_000 };
const PEER_TARGET = { min: 10 };

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

endAfter(5);
const report = new Report('filter', {
  orders: `${ORDERS}, parsed, of ${OPERATIONS} operations`,
  rounds: ROUNDS,
});
const jsonata = await loadPeer<{ default: Jsonata }>('jsonata').catch((error: Error) => error);
if (jsonata instanceof Error) report.leaveOut('JSONata', jsonata.message);
const pairs = QUESTIONS.map(([filter, expression]) => ({
  filter,
  ours: compileFilter(filter).matches,
  theirs: jsonata instanceof Error ? undefined : jsonata.default(expression),
}));

for (const { filter, ours, theirs } of pairs) {
  if (theirs === undefined) continue;
  for (const order of orders) {
    if (ours(order) !== ((await theirs.evaluate(order)) === true))
      throw new Error(`not the same question: ${filter}`);
  }
}

const milliseconds = (SECONDS * 1000) / (pairs.length * (ROUNDS + 1) * 2);
const rates = pairs.map(() => ({ ours: [] as number[], theirs: [] as number[] }));
for (let round = 0; round <= ROUNDS; round++) {
  for (const [index, { ours, theirs }] of pairs.entries()) {
    const ourRate = await measure(ours, milliseconds);
    const theirRate = theirs && (await measure((order) => theirs.evaluate(order), milliseconds));
    // The first round warms up.
    if (round === 0) continue;
    rates[index]?.ours.push(ourRate);
    if (theirRate !== undefined) rates[index]?.theirs.push(theirRate);
  }
}

for (const [index, { filter }] of pairs.entries()) {
  const { ours = [], theirs = [] } = rates[index] ?? {};
  report.add({
    name: filter,
    value: median(ours),
    unit: 'conditions/s',
    against: theirs.length === 0 ? [] : [{ name: 'JSONata', value: median(theirs) }],
  });
}
/** Each question asked equally often. */
const together = (medians: readonly number[]) =>
  medians.length / medians.reduce((sum, rate) => sum + 1 / rate, 0);
const theirMedians = rates.filter(({ theirs }) => theirs.length > 0).map(({ theirs }) => median(theirs));
report.add({
  name: 'all of them, equally often',
  value: together(rates.map(({ ours }) => median(ours))),
  unit: 'conditions/s',
  target: TARGET,
  against:
    theirMedians.length === 0
      ? []
      : [{ name: 'JSONata', value: together(theirMedians), target: PEER_TARGET }],
});
report.save();
