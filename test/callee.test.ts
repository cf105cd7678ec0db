/** The partner's side that `listen` and `demo` play. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { OrderReader } from '../src/commands/callee.ts';

type Answer = { readonly status: number; readonly body: object };

/** A service whose two calls answer as the test says, given how often each was asked before and with which token. */
async function startService(
  t: { after(action: () => unknown): void },
  answers: { auth: (asked: number) => Answer; read: (asked: number, token: string) => Answer },
) {
  const asked = { auth: 0, read: 0 };
  const server = createServer((request, response) => {
    request.resume();
    const call = request.url?.endsWith('/auth') ? 'auth' : 'read';
    const token = request.headers.authorization?.replace('Bearer ', '') ?? '';
    const { status, body } = answers[call](asked[call], token);
    asked[call] += 1;
    response.writeHead(status).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => new Promise((resolve) => server.close(resolve).closeAllConnections()));
  const { port } = server.address() as AddressInfo;
  const identity = { partner: 'P', operator: 'O', secret: 'S' };
  return { asked, reader: new OrderReader(`http://127.0.0.1:${port}`, identity) };
}

const token = (asked: number): Answer => ({ status: 200, body: { token: `t${asked}` } });
const refusal: Answer = { status: 401, body: { detail: 'no' } };
const order = (_asked: number, used: string): Answer => ({ status: 200, body: { used } });

describe('the reader of orders', () => {
  test('uses one token for many reads, also for those that begin at once', async (t) => {
    const { reader, asked } = await startService(t, { auth: token, read: order });
    await Promise.all([reader.read('1'), reader.read('2')]);
    assert.equal(await reader.read('3'), '{"used":"t0"}');
    assert.deepEqual(asked, { auth: 1, read: 3 });
  });

  test('asks for another token when one is refused, and tries once more', async (t) => {
    const { reader, asked } = await startService(t, {
      auth: token,
      read: (times, used) => (used === 't0' && times > 0 ? refusal : order(times, used)),
    });
    assert.equal(await reader.read('1'), '{"used":"t0"}');
    assert.equal(await reader.read('1'), '{"used":"t1"}');
    assert.equal(await reader.read('1'), '{"used":"t1"}');
    assert.deepEqual(asked, { auth: 2, read: 4 });
  });

  test('tries no more than once, and says what it was told', async (t) => {
    const { reader, asked } = await startService(t, { auth: token, read: () => refusal });
    await assert.rejects(reader.read('1'), /getOrderDetails answered 401: .*no/);
    assert.deepEqual(asked, { auth: 2, read: 2 });
  });

  test('keeps no refusal of the auth call: the next read asks again', async (t) => {
    const { reader, asked } = await startService(t, {
      auth: (times) => (times === 0 ? refusal : token(times)),
      read: order,
    });
    await assert.rejects(reader.read('1'), /auth answered 401/);
    assert.equal(await reader.read('1'), '{"used":"t1"}');
    assert.deepEqual(asked, { auth: 2, read: 1 });
  });

  test('does not ask twice when something else than the token is refused', async (t) => {
    const { reader, asked } = await startService(t, {
      auth: token,
      read: () => ({ status: 400, body: { detail: 'bad' } }),
    });
    await assert.rejects(reader.read('1'), /answered 400/);
    assert.deepEqual(asked, { auth: 1, read: 1 });
  });
});
