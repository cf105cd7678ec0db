import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type FilterQuestion, isQuick, reportFilter } from '../src/filter/explain-details.ts';
import { createFilterThread } from '../src/filter-thread.ts';
import { startServer } from './support/http-server.ts';

const DETAILS = '{"orderId":9223372036854775807,"orderType":"SALE","saleAmount":1.50}';
const question = (filter: string, details = DETAILS): FilterQuestion => ({
  filter,
  granularity: 'TICKETS',
  details,
});

describe('the thread that looks at filters', () => {
  it('says what the pure function says, and starts again after it was stopped', async () => {
    const thread = createFilterThread();
    try {
      for (const filter of [
        '',
        'OrderDetailsData.OrderType=SALE',
        'OrderDetailsData.SaleAmount=1.50;OrderDetailsData.OrderId=9223372036854775807',
        'OrderDetailsData.OrderTyp=(',
        'no filter',
      ]) {
        assert.deepEqual(await thread.ask(question(filter)), reportFilter(question(filter)), filter);
      }
      await thread.stop();
      const { explanation } = await thread.ask(question('OrderDetailsData.OrderType=SALE'));
      assert.equal(explanation?.matches, true);
    } finally {
      await thread.stop();
    }
  });

  it('takes sixteen questions at once, and more when they are answered', async () => {
    const thread = createFilterThread();
    try {
      const answers = Array.from({ length: 16 }, () => thread.ask(question('')));
      await assert.rejects(thread.ask(question('')), { code: 'too_many_requests', retryAfterSeconds: 2 });
      await Promise.all(answers);
      assert.ok(await thread.ask(question('')));
    } finally {
      await thread.stop();
    }
  });
});

describe('a question about a filter', () => {
  const large = `{"orderId":1,"orderState":"OPEN","x":[${'1.0,'.repeat(50_000)}2]}`;

  it('is quick for a few conditions on an order of usual size, and for no other', () => {
    assert.ok(isQuick(question('OrderDetailsData.OrderType=SALE', 'x'.repeat(2_000))));
    assert.ok(isQuick(question('a=1;b=2;c=3', 'x'.repeat(20_000))));
    assert.equal(isQuick(question('a=1', large)), false);
    assert.equal(isQuick(question(Array(64).fill('a=1').join(';'), 'x'.repeat(2_000))), false);
    assert.equal(isQuick(question('a=.{1000}')), false);
    assert.equal(isQuick(question('a=\\pL')), false);
  });

  it('is asked elsewhere when it is not quick, with the order as it came', async () => {
    const asked: FilterQuestion[] = [];
    const server = await startServer({
      askFilter: async (one) => {
        asked.push(one);
        return reportFilter(one);
      },
    });
    try {
      const check = (order: string) =>
        server.post(
          '/api/v1/filters/check',
          `{"order":{"orderId":1},"filter":"OrderDetailsData.OrderState=OPEN","order" : ${order} }`,
        );
      assert.equal((await check(DETAILS)).status, 200);
      assert.equal(asked.length, 0);
      const { json } = await check(large);
      assert.equal((json as unknown as { matches: boolean }).matches, true);
      assert.equal(asked[0]?.details, large);
      const deep = `{"orderId":1,"a":${'['.repeat(100)}${']'.repeat(100)}}`;
      const refused = await check(deep);
      assert.equal(refused.status, 400);
      assert.equal(refused.json.detail, 'The JSON is nested too deep.');
      for (const wrong of [large.slice(0, -1), DETAILS.slice(0, -1)]) {
        const reply = await check(wrong);
        assert.equal(reply.status, 400);
        assert.equal(reply.json.errors[0]?.code, 'json_syntax');
      }
    } finally {
      await server.close();
    }
  });
});
