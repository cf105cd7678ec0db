/** Callees that close with their answer or say more than it, a little later or at once: each order is delivered all the same. */
import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { TLSSocket } from 'node:tls';
import { parseEgressProxy } from '../src/caller/egress-proxy.ts';
import type { Outcome } from '../src/model/outcome.ts';
import { assertDelivered, type Calling, withCallee } from './support/callee-calls.ts';
import { startProxy } from './support/callee-proxy.ts';
import type { Script } from './support/scripted-callee.ts';
import { createAuthority } from './support/tls-authority.ts';

/** Whose answer it is: a call that gets another's finds out by this. */
function answerFor(text: string, status = '200 OK', line = 'Content-Length: 0'): string {
  return `HTTP/1.1 ${status}\r\nX-For: ${text.split(' ')[1]?.split('/').at(-1)}\r\n${line}\r\n\r\n`;
}

/** Answers, and does something to the connection a while later. */
function then(afterMs: number, act: (socket: Socket, text: string) => void): Script {
  return (socket, { text }) => {
    socket.write(answerFor(text));
    if (afterMs === 0) act(socket, text);
    else setTimeout(() => act(socket, text), afterMs);
  };
}

const say = (more: (text: string) => string) => (socket: Socket, text: string) => {
  if (socket.writable) socket.write(more(text));
};
const end = (socket: Socket) => socket.end();
/** Node.js resets plain connections only; under TLS this one ends without a farewell. */
const reset = (socket: Socket) => (socket instanceof TLSSocket ? socket.destroy() : socket.resetAndDestroy());

const CALLEES: Record<string, Script> = {
  'closes with its answer': then(0, end),
  'closes 1 ms after its answer': then(1, end),
  'closes 5 ms after its answer': then(5, end),
  'resets 1 ms after its answer': then(1, reset),
  'resets 5 ms after its answer': then(5, reset),
  'closes every third connection with its answer': (socket, request) =>
    then(0, request.connection % 3 === 0 ? end : () => {})(socket, request),
  'closes every connection with its third answer': (socket, request) =>
    then(0, request.onConnection === 2 ? end : () => {})(socket, request),
  'closes every connection instead of its third answer': (socket, { text, onConnection }) => {
    if (onConnection < 2) socket.write(answerFor(text));
    else socket.end();
  },
  'answers 204 with a length, and sends the body 1 ms later': (socket, { text }) => {
    socket.write(answerFor(text, '204 No Content', 'Content-Length: 5'));
    setTimeout(() => say(() => 'hello')(socket, text), 1);
  },
  'answers 204 in chunks, and sends the last one 1 ms later': (socket, { text }) => {
    socket.write(answerFor(text, '204 No Content', 'Transfer-Encoding: chunked'));
    setTimeout(() => say(() => '0\r\n\r\n')(socket, text), 1);
  },
  'sends an empty line with its answer': then(
    0,
    say(() => '\r\n'),
  ),
  'sends an empty line 1 ms after its answer': then(
    1,
    say(() => '\r\n'),
  ),
  'sends an empty line 1 ms after its answer, and closes': then(1, (socket) => socket.end('\r\n')),
  'answers twice at once': then(0, say(answerFor)),
  'answers a second time 1 ms later': then(1, say(answerFor)),
};

/** Where each order costs a handshake, or a detour: fewer of them. */
const fewer = (concurrency: number) => concurrency + 24;
const authority = createAuthority();
const tls = authority.issue(['127.0.0.1']);

/** Makes the calls as the engine does: the next one as an outcome is told. */
function callAll(caller: Calling['caller'], url: (id: number) => string, count: number, concurrency: number) {
  const outcomes: Outcome[] = [];
  return new Promise<Outcome[]>((resolve) => {
    let [started, ended] = [0, 0];
    const next = () => {
      if (started === count) return;
      const id = started++;
      caller.call({ method: 'GET', url: url(id) }, { allowPrivate: true }, (outcome) => {
        outcomes[id] = outcome;
        ended += 1;
        if (ended === count) resolve(outcomes);
        else next();
      });
    };
    for (let line = 0; line < concurrency; line++) next();
  });
}

async function assertAllDelivered(
  { caller, callee }: Pick<Calling, 'caller' | 'callee'>,
  count: number,
  concurrency: number,
): Promise<void> {
  let most = 0;
  const outcomes = await callAll(
    caller,
    (id) => {
      most = Math.max(most, caller.openConnections);
      return `${callee.origin}/orders/${id}`;
    },
    count,
    concurrency,
  );
  for (const [id, outcome] of outcomes.entries()) {
    assertDelivered(outcome);
    assert.equal(outcome.answer?.headers['x-for'], String(id), 'the answer is of this call');
    const sent = callee.requests.filter(({ text }) => text.split(' ')[1]?.endsWith(`/orders/${id}`));
    assert.ok(sent.length === 1 || sent.length === 2, `order ${id} arrived ${sent.length} times`);
  }
  // Those that run, those that rest meanwhile, and some that the system has not closed yet.
  assert.ok(most <= 2 * concurrency + 4, `${most} connections`);
}

/** Passes on bytes as they come: what a proxy that speaks HTTP would put right. */
async function startPipe(to: () => number): Promise<{ url: string; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const onwards = connect(to(), '127.0.0.1');
    for (const [one, other] of [
      [socket, onwards],
      [onwards, socket],
    ] as const) {
      sockets.add(one);
      one
        .on('error', () => {})
        .on('close', () => {
          sockets.delete(one);
          other.destroy();
        });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

for (const concurrency of [1, 8, 64]) {
  for (const [what, script] of Object.entries(CALLEES)) {
    // At once: they mostly wait for timers.
    describe(`a callee that ${what}, called ${concurrency} at once`, { concurrency: true }, () => {
      it('gets 200 orders, none fails, and each answer is its own', () =>
        withCallee(script, (calling) => assertAllDelivered(calling, 200, concurrency)));

      it('the same over TLS', () =>
        withCallee(script, (calling) => assertAllDelivered(calling, fewer(concurrency), concurrency), {
          callee: { tls },
          extraCa: authority.certificate,
        }));

      it('the same through an egress proxy', async () => {
        let port = 0;
        const pipe = await startPipe(() => port);
        try {
          await withCallee(
            script,
            (calling) => {
              port = calling.callee.port;
              return assertAllDelivered(calling, fewer(concurrency), concurrency);
            },
            { egressProxy: parseEgressProxy(pipe.url) },
          );
        } finally {
          await pipe.close();
        }
      });

      it('the same over TLS through an egress proxy', async () => {
        const proxy = await startProxy();
        try {
          await withCallee(
            script,
            (calling) => assertAllDelivered(calling, fewer(concurrency), concurrency),
            {
              egressProxy: parseEgressProxy(proxy.url),
              callee: { tls },
              extraCa: authority.certificate,
            },
          );
        } finally {
          await proxy.close();
        }
      });
    });
  }
}
