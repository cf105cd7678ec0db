import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { headersSent } from '../src/caller/request-text.ts';
import { ANSWER_BYTES_KEPT, ANSWER_BYTES_MAX } from '../src/model/limits.ts';
import type { Answer } from '../src/model/outcome.ts';
import {
  assertDelivered,
  assertFailed,
  SHORT_LIMITS,
  USER_AGENT,
  until,
  withCallee,
} from './support/callee-calls.ts';
import { answer, type Script, startUnacceptingCallee } from './support/scripted-callee.ts';

const OK = answer('200 OK', 'ok');
const ok: Script = (socket) => socket.write(OK);

/** Its headers have no prototype, which `deepEqual` would see. */
const plain = (told: Answer | undefined) => told && { ...told, headers: { ...told.headers } };

describe('what is sent', () => {
  it('a GET has three headers and no more', () =>
    withCallee(ok, async ({ callee, call }) => {
      assertDelivered(await call('/orders/7?a=b'));
      assert.equal(
        callee.requests[0]?.text,
        `GET /orders/7?a=b HTTP/1.1\r\nHost: 127.0.0.1:${callee.port}\r\nUser-Agent: ${USER_AGENT}\r\nAccept: */*\r\n\r\n`,
      );
    }));

  it('a POST with a payload tells its type and its length in bytes', () =>
    withCallee(ok, async ({ callee, call }) => {
      const body = '{"id": 9223372036854775807, "text": "é"}';
      assertDelivered(await call('/', { method: 'POST', body }));
      assert.equal(
        Buffer.from(callee.requests[0]?.text ?? '', 'latin1').toString(),
        `POST / HTTP/1.1\r\nHost: 127.0.0.1:${callee.port}\r\nUser-Agent: ${USER_AGENT}\r\nAccept: */*\r\n` +
          `Content-Type: application/json\r\nContent-Length: 41\r\n\r\n${body}`,
      );
    }));

  it('a POST without a payload is empty, says so, and has no content type', () =>
    withCallee(ok, async ({ callee, call }) => {
      for (const request of [{ method: 'POST' }, { method: 'POST', body: '' }] as const) {
        assertDelivered(await call('/7', request));
      }
      for (const { text } of callee.requests) {
        assert.equal(
          text,
          `POST /7 HTTP/1.1\r\nHost: 127.0.0.1:${callee.port}\r\nUser-Agent: ${USER_AGENT}\r\nAccept: */*\r\nContent-Length: 0\r\n\r\n`,
        );
      }
    }));

  it('a payload of the largest size arrives whole', () =>
    withCallee(ok, async ({ callee, call }) => {
      const body = JSON.stringify('x'.repeat(64 * 1024 - 2));
      assertDelivered(await call('/', { method: 'POST', body }));
      assert.ok(callee.requests[0]?.text.endsWith(`\r\n\r\n${body}`));
    }));

  it('a fragment is not sent', () =>
    withCallee(ok, async ({ callee, call }) => {
      assertDelivered(await call('/7?a=b#top'));
      assert.match(callee.requests[0]?.text ?? '', /^GET \/7\?a=b HTTP/);
    }));

  it('is what headersSent tells', () =>
    withCallee(ok, async ({ callee, call }) => {
      for (const request of [
        { method: 'GET' },
        { method: 'POST' },
        { method: 'POST', body: '{"id": "é"}' },
      ] as const) {
        await call('/7', request);
        const told = headersSent({ url: `${callee.origin}/7`, ...request }, USER_AGENT);
        const sent = (callee.requests.at(-1)?.text ?? '').split('\r\n\r\n')[0]?.split('\r\n').slice(1);
        assert.deepEqual(
          sent,
          Object.entries(told).map(([name, value]) => `${name}: ${value}`),
        );
      }
    }));

  it('one connection serves one call after the other', () =>
    withCallee(ok, async ({ callee, caller, call }) => {
      for (let n = 0; n < 20; n++) assertDelivered(await call(`/${n}`));
      assert.equal(callee.accepted, 1);
      assert.equal(caller.openConnections, 1);
      assert.deepEqual(
        callee.requests.map(({ text }) => text.split(' ')[1]),
        Array.from({ length: 20 }, (_, n) => `/${n}`),
      );
    }));

  it('calls at once get a connection each', () =>
    withCallee(ok, async ({ callee, call }) => {
      for (let round = 0; round < 5; round++) {
        const outcomes = await Promise.all(Array.from({ length: 8 }, (_, n) => call(`/${n}`)));
        for (const outcome of outcomes) assertDelivered(outcome);
      }
      assert.equal(callee.accepted, 8);
      assert.equal(callee.requests.length, 40);
    }));

  it('what is no request has an outcome too', () =>
    withCallee(ok, async ({ callee, call }) => {
      assertFailed(await call('/bad path'), 'protocol', /invalid request path/);
      assert.equal(callee.requests.length, 0);
    }));
});

describe('what an answer means', () => {
  for (const status of ['200 OK', '201 Created', '202 Accepted', '299 Whatever']) {
    it(`${status} is delivered`, () =>
      withCallee(
        (socket) => socket.write(answer(status, 'thanks', 'X-Id: 1', 'X-Id: 2', 'Server: test')),
        async ({ call }) => {
          const outcome = await call();
          assertDelivered(outcome, 'thanks');
          assert.deepEqual(plain(outcome.answer), {
            status: Number(status.slice(0, 3)),
            headers: { 'x-id': '1, 2', server: 'test', 'content-length': '6' },
            bodyStart: 'thanks',
          });
          assert.ok(outcome.durationMs >= 0);
        },
      ));
  }

  it('204 is delivered, and its connection serves the next call', () =>
    withCallee(
      (socket) => socket.write('HTTP/1.1 204 No Content\r\n\r\n'),
      async ({ callee, call }) => {
        for (let n = 0; n < 3; n++) assertDelivered(await call(), '');
        assert.equal(callee.accepted, 1);
      },
    ));

  it('304 is a failed status', () =>
    withCallee(
      (socket) => socket.write('HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'),
      async ({ call }) => {
        const outcome = await call();
        assertFailed(outcome, 'status', /304/);
        assert.deepEqual(plain(outcome.answer), { status: 304, headers: { etag: '"1"' }, bodyStart: '' });
      },
    ));

  for (const status of [
    '301 Moved Permanently',
    '302 Found',
    '303 See Other',
    '307 Temporary Redirect',
    '308 Permanent',
  ]) {
    it(`${status} is not followed`, () =>
      withCallee(
        (socket, { text }) => {
          socket.write(text.includes('/elsewhere') ? OK : answer(status, '', 'Location: /elsewhere'));
        },
        async ({ callee, call }) => {
          const outcome = await call();
          assertFailed(outcome, 'status', new RegExp(status.slice(0, 3)));
          assert.equal(outcome.answer?.headers.location, '/elsewhere');
          assert.equal(callee.requests.length, 1);
        },
      ));
  }

  for (const retryAfter of [[], ['Retry-After: 120'], ['Retry-After: Wed, 21 Oct 2026 07:28:00 GMT']]) {
    it(`429 ${retryAfter[0] ?? 'without Retry-After'} is a failed status and tells its headers`, () =>
      withCallee(
        (socket) => socket.write(answer('429 Too Many Requests', 'slow down', ...retryAfter)),
        async ({ call }) => {
          const outcome = await call();
          assertFailed(outcome, 'status', /429/);
          assert.equal(outcome.answer?.headers['retry-after'], retryAfter[0]?.slice('Retry-After: '.length));
          assert.equal(outcome.answer?.bodyStart, 'slow down');
        },
      ));
  }

  for (const status of ['400 Bad Request', '404 Not Found', '500 Internal Server Error', '503 Unavailable']) {
    it(`${status} is a failed status`, () =>
      withCallee(
        (socket) => socket.write(answer(status, 'no')),
        async ({ callee, call }) => {
          for (let n = 0; n < 2; n++) assertFailed(await call(), 'status', new RegExp(status.slice(0, 3)));
          assert.equal(callee.accepted, 1);
        },
      ));
  }

  it('a status that is not 2xx stays the reason, however its answer ends', () =>
    withCallee(
      (socket, { text }) => {
        socket.write('HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\npart');
        if (text.includes('/reset')) setImmediate(() => socket.resetAndDestroy());
      },
      async ({ call }) => {
        for (const path of ['/reset', '/never-ends']) {
          const outcome = await call(path);
          assertFailed(outcome, 'status', /500/);
          assert.equal(outcome.answer?.bodyStart, 'part');
        }
      },
      { limits: SHORT_LIMITS },
    ));

  it('100 Continue, asked for or not, is not the answer', () =>
    withCallee(
      (socket, { text }) => {
        const continues = 'HTTP/1.1 100 Continue\r\nX-Progress: 1\r\n\r\nHTTP/1.0 100 Go on\r\n\r\n';
        if (text.includes('/bytes')) {
          const bytes = Buffer.concat([Buffer.from(continues), OK]);
          let at = 0;
          const next = () => {
            if (at < bytes.length) socket.write(bytes.subarray(at, ++at), () => setImmediate(next));
          };
          next();
        } else {
          socket.write(continues);
          if (text.includes('/later')) setTimeout(() => socket.write(OK), 20);
          else if (text.includes('/once')) socket.write(OK);
        }
      },
      async ({ callee, call }) => {
        for (const path of ['/once', '/later', '/bytes', '/once']) assertDelivered(await call(path), 'ok');
        // Nobody knows what else comes from a callee that says more than it was asked (contract, section 2.3).
        assert.equal(callee.accepted, 4);
        assertFailed(await call('/nothing-more'), 'timeout_response');
      },
      { limits: SHORT_LIMITS },
    ));

  it('other provisional answers are not the answer either', () =>
    withCallee(
      (socket) => {
        socket.write('HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n');
        socket.write(OK);
      },
      async ({ call }) => assertDelivered(await call(), 'ok'),
    ));

  it('101 is not HTTP that was asked for', () =>
    withCallee(
      (socket) =>
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n'),
      async ({ call }) => assertFailed(await call(), 'protocol'),
    ));
});

describe('a callee that misbehaves', () => {
  it('never accepts: no connection in time', async () => {
    const unaccepting = await startUnacceptingCallee();
    try {
      await withCallee(
        ok,
        async ({ caller, call }) => {
          const outcome = await call(`${unaccepting.origin}/7`);
          assertFailed(outcome, 'timeout_connect', /^No connection to 127\.0\.0\.1:\d+ within 300 ms$/);
          assert.equal(outcome.answer, undefined);
          assert.ok(outcome.durationMs >= 290 && outcome.durationMs < 3_000);
          await until(() => caller.openConnections === 0, 'the connection is given up');
        },
        { limits: SHORT_LIMITS },
      );
    } finally {
      await unaccepting.close();
    }
  });

  it('is not there: refused', () =>
    withCallee(ok, async ({ callee, call }) => {
      await callee.close();
      assertFailed(await call(), 'refused', /ECONNREFUSED/);
    }));

  it('accepts and never answers', () =>
    withCallee(
      () => {},
      async ({ caller, call }) => {
        assertFailed(await call(), 'timeout_response', /^No answer within 300 ms$/);
        await until(() => caller.openConnections === 0, 'the connection is dropped');
      },
      { limits: SHORT_LIMITS },
    ));

  it('answers a byte at a time, for longer than an exchange may last', () =>
    withCallee(
      (socket) => {
        const bytes = 'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n';
        let at = 0;
        const timer = setInterval(() => socket.write(bytes[at++] ?? 'x'), 10);
        socket.on('close', () => clearInterval(timer));
      },
      async ({ caller, call }) => {
        const outcome = await call();
        assertFailed(outcome, 'timeout_response', /^The answer was not whole within 700 ms$/);
        assert.ok(outcome.durationMs >= 700 && outcome.durationMs < 3_000);
        await until(() => caller.openConnections === 0, 'the connection is dropped');
      },
      { limits: SHORT_LIMITS },
    ));

  it('trickles a body: the answer so far is told', () =>
    withCallee(
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n');
        const timer = setInterval(() => socket.write('x'), 30);
        socket.on('close', () => clearInterval(timer));
      },
      async ({ call }) => {
        const outcome = await call();
        assertFailed(outcome, 'timeout_response', /not whole/);
        assert.equal(outcome.answer?.status, 200);
        assert.match(outcome.answer?.bodyStart ?? '', /^x{5,}$/);
      },
      { limits: SHORT_LIMITS },
    ));

  for (const [how, head] of [
    ['with a length', 'Content-Length: 9999999999'],
    ['in chunks', 'Transfer-Encoding: chunked'],
    ['until it closes', 'X: y'],
  ] as const) {
    it(`has an endless body, ${how}: delivered, and the connection is dropped`, () => {
      let written = 0;
      return withCallee(
        (socket) => {
          socket.write(`HTTP/1.1 200 OK\r\n${head}\r\n\r\n`);
          const chunk = 'x'.repeat(8_192);
          const framed = head.includes('chunked') ? `2000\r\n${chunk}\r\n` : chunk;
          const more = () => {
            while (!socket.destroyed && socket.write(framed)) written += chunk.length;
            written += chunk.length;
          };
          socket.on('drain', more);
          more();
        },
        async ({ caller, call }) => {
          const outcome = await call();
          assertDelivered(outcome, 'x'.repeat(ANSWER_BYTES_KEPT));
          await until(() => caller.openConnections === 0, 'the connection is dropped');
          assert.ok(written < 64 * 1024 * 1024, `${written} bytes written`);
        },
      );
    });
  }

  it('sends half a head', () =>
    withCallee(
      (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Le'),
      async ({ call }) => assertFailed(await call(), 'reset', /before its answer was whole/),
    ));

  it('sends half a head and no more', () =>
    withCallee(
      (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Le'),
      async ({ call }) => assertFailed(await call(), 'timeout_response', /not whole within 700 ms/),
      { limits: SHORT_LIMITS },
    ));

  it('sends a head without end', () =>
    withCallee(
      (socket) => socket.write(`HTTP/1.1 200 OK\r\n${'X-Filler: 0123456789\r\n'.repeat(3_000)}`),
      async ({ call }) => assertFailed(await call(), 'protocol', /heads of more than 65536 bytes/),
    ));

  it('speaks another protocol', () =>
    withCallee(
      (socket) => socket.write('SSH-2.0-OpenSSH_9.2p1\r\n'),
      async ({ call }) => assertFailed(await call(), 'protocol', /not HTTP\/1\.1/),
    ));

  it('closes without a word', () =>
    withCallee(
      (socket) => socket.end(),
      async ({ callee, call }) => {
        assertFailed(await call(), 'reset', /^The callee closed the connection without an answer$/);
        assert.equal(callee.requests.length, 1);
      },
    ));

  it('resets without a word: the attempt counts, nothing is sent again', () =>
    withCallee(
      (socket) => socket.resetAndDestroy(),
      async ({ callee, call }) => {
        assertFailed(await call(), 'reset', /without an answer/);
        assert.equal(callee.requests.length, 1);
      },
    ));

  it('tells a greater length than it sends', () =>
    withCallee(
      (socket, { text }) => {
        const close = text.includes('/close') ? 'Connection: close\r\n' : '';
        socket.end(`HTTP/1.1 200 OK\r\n${close}Content-Length: 10\r\n\r\npart`);
      },
      async ({ call }) => {
        for (const path of ['/keep-alive', '/close']) {
          const outcome = await call(path);
          assertFailed(outcome, 'reset', /before its answer was whole/);
          assert.equal(outcome.answer?.bodyStart, 'part');
        }
      },
    ));

  it('sends more than the length it tells: delivered, and no later call reads the rest', () =>
    withCallee(
      (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Smuggled\r\n\r\n'),
      async ({ call }) => {
        for (let n = 0; n < 3; n++) assertDelivered(await call(), 'ok');
      },
    ));

  for (const [how, head] of [
    ['with a length', 'Content-Length: 10'],
    ['in chunks', 'Transfer-Encoding: chunked'],
    ['until it closes', 'Connection: close'],
  ] as const) {
    it(`resets in the middle of a body, ${how}`, () =>
      withCallee(
        (socket) => {
          socket.write(
            `HTTP/1.1 200 OK\r\n${head}\r\n\r\n${head.includes('chunked') ? '4\r\npart\r\n' : 'part'}`,
            () => setTimeout(() => socket.resetAndDestroy(), 20),
          );
        },
        async ({ callee, call }) => {
          const outcome = await call();
          assertFailed(outcome, 'reset', /before its answer was whole/);
          assert.deepEqual([outcome.answer?.status, outcome.answer?.bodyStart], [200, 'part']);
          assert.equal(callee.requests.length, 1);
        },
      ));
  }

  it('ends a body of no told length by closing: delivered', () =>
    withCallee(
      (socket) => socket.end('HTTP/1.1 200 OK\r\n\r\nall of it'),
      async ({ call }) => assertDelivered(await call(), 'all of it'),
    ));

  it('speaks HTTP/1.0', () =>
    withCallee(
      (socket) => socket.end('HTTP/1.0 200 OK\r\n\r\nold'),
      async ({ call }) => assertDelivered(await call(), 'old'),
    ));

  it('answers before it has read the payload', () =>
    withCallee(
      () => {},
      async ({ call }) => {
        const outcome = await call('/', { method: 'POST', body: JSON.stringify('x'.repeat(60_000)) });
        assertFailed(outcome, 'status', /413/);
      },
      { callee: { onAccept: (socket) => socket.write(answer('413 Too Large', '', 'Connection: close')) } },
    ));
});

describe('how much of an answer is read', () => {
  it('64 KiB, and the connection is kept', () =>
    withCallee(
      (socket) => socket.write(answer('200 OK', 'y'.repeat(ANSWER_BYTES_MAX))),
      async ({ callee, call }) => {
        for (let n = 0; n < 3; n++) assertDelivered(await call(), 'y'.repeat(ANSWER_BYTES_KEPT));
        assert.equal(callee.accepted, 1);
      },
    ));

  it('one byte more, and the connection is dropped without failing the call', () =>
    withCallee(
      (socket) => socket.write(answer('200 OK', 'y'.repeat(ANSWER_BYTES_MAX + 1))),
      async ({ callee, call }) => {
        for (let n = 0; n < 3; n++) assertDelivered(await call(), 'y'.repeat(ANSWER_BYTES_KEPT));
        assert.equal(callee.accepted, 3);
      },
    ));

  it('of an answer that is not 2xx no more', () =>
    withCallee(
      (socket) => socket.write(answer('500 Oops', 'y'.repeat(ANSWER_BYTES_MAX * 2))),
      async ({ call }) => assertFailed(await call(), 'status', /500/),
    ));

  it('what is kept does not end in half a character, and what is not UTF-8 is told as well as it can be', () =>
    withCallee(
      (socket, { text }) =>
        socket.write(
          answer('200 OK', text.includes('/cut') ? `x${'é'.repeat(1_000)}` : Buffer.from([0x66, 0xff])),
        ),
      async ({ call }) => {
        assertDelivered(await call('/cut'), `x${'é'.repeat(511)}`);
        assertDelivered(await call('/latin'), 'f\ufffd');
      },
    ));

  it('a body that comes in many pieces is put together', () =>
    withCallee(
      (socket) => {
        socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
        for (let n = 0; n < 300; n++) socket.write('a\r\n0123456789\r\n');
        socket.write('0\r\n\r\n');
      },
      async ({ call }) => assertDelivered(await call(), '0123456789'.repeat(103).slice(0, ANSWER_BYTES_KEPT)),
    ));
});
