import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CONNECTION_LIMITS, type ConnectionLimits } from '../src/http/connections.ts';
import { ADMIN_KEY, startServer, type TestServer, VENUE } from './support/http-server.ts';
import { temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

/** So short that a test waits for nothing, and far enough from each other to tell which one it was. */
const LIMITS: ConnectionLimits = {
  headMs: 200,
  bodyMs: 300,
  importProgressMs: 300,
  idleMs: 200,
  answerMs: 400,
  lingerMs: 100,
};
const KEY = `Authorization: Bearer ${ADMIN_KEY}`;
const AUTH =
  'POST /tnai/backend-apis/v1/auth HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n';
const IMPORT = `POST ${VENUE}/orders/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n`;
const ORDER = '{"orderId":1,"orderState":"OPEN"}\n';

describe('a connection', () => {
  let server: TestServer;
  let port: number;
  let scheduleId: string;

  before(async () => {
    server = await startServer({ connectionLimits: LIMITS });
    await server.createVenue();
    scheduleId = await server.createSchedule(await server.createInterface());
    port = Number(new URL(await server.app.listen({ host: '127.0.0.1', port: 0 })).port);
  });
  after(async () => {
    // What a failed test left open would hold the end.
    server.app.server.closeAllConnections();
    await server.close();
  });

  /** A client, and what it was told until its connection ended. */
  function client(text = '', options: { pauseReading?: boolean } = {}) {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    let answer = '';
    socket.setEncoding('utf8').on('error', () => {});
    if (!options.pauseReading) {
      socket.on('data', (told: string) => {
        answer += told;
      });
    }
    if (text !== '') socket.write(text);
    return { socket, answer: () => answer };
  }

  function openConnections(): Promise<number> {
    return new Promise((resolve, reject) =>
      server.app.server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    );
  }

  /** The server's side too: no descriptor is left. */
  async function isGone(socket: Socket): Promise<void> {
    await until('the server has no connection left', async () => (await openConnections()) === 0, 10_000);
    // The client did nothing to end it, and does not need to.
    await until(
      'the client sees the end',
      () => socket.readableEnded || socket.destroyed || socket.isPaused(),
      10_000,
    );
    socket.destroy();
  }

  /** Sends a little, again and again, for as long as the connection lasts. */
  function trickle(socket: Socket, text: string, everyMs = 20): void {
    const sending = setInterval(() => socket.writable && socket.write(text), everyMs);
    socket.once('close', () => clearInterval(sending));
    socket.once('end', () => clearInterval(sending));
  }

  it('that sends nothing is told so, and is gone', async () => {
    const { socket, answer } = client();
    await once(socket, 'connect');
    await isGone(socket);
    assert.match(answer(), /^HTTP\/1\.1 408 Request Timeout\r\nContent-Type: application\/problem\+json/);
  });

  it('that sends its head byte by byte is told so, and is gone', async () => {
    const { socket, answer } = client('GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ');
    trickle(socket, 'x');
    await isGone(socket);
    assert.match(answer(), /^HTTP\/1\.1 408 /);
  });

  it('that sends the body of a call without a key byte by byte is told so, and is gone', async () => {
    const { socket, answer } = client(`${AUTH}Content-Length: 60000\r\n\r\n{`);
    trickle(socket, ' ');
    await isGone(socket);
    assert.match(answer(), /^HTTP\/1\.1 408 Request Timeout\r\n/);
    assert.match(answer(), /connection: close/i);
    assert.match(answer(), /"code":"request_too_slow"/);
  });

  it('that is answered before its body has come, and sends it byte by byte, is gone', async () => {
    for (const head of [
      `${IMPORT}`,
      `PUT ${VENUE}/orders/1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n`,
    ]) {
      const { socket, answer } = client(`${head}Transfer-Encoding: chunked\r\n\r\n`);
      trickle(socket, '1\r\nx\r\n');
      await isGone(socket);
      assert.match(answer(), /^HTTP\/1\.1 401 /);
    }
  });

  it('with a body where none is asked for, sent byte by byte, is answered, and is gone', async () => {
    const { socket, answer } = client(
      `POST ${VENUE}/orders/1/close HTTP/1.1\r\nHost: localhost\r\n${KEY}\r\nContent-Length: 60000\r\nContent-Type: text/plain\r\n\r\n`,
    );
    trickle(socket, 'x');
    await isGone(socket);
    assert.match(answer(), /^HTTP\/1\.1 404 /);
  });

  it('that is kept alive is closed after its idle time', async () => {
    const { socket, answer } = client('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await isGone(socket);
    assert.match(answer(), /^HTTP\/1\.1 200 /);
  });

  it('that is kept alive by line ends is gone all the same', async () => {
    const { socket, answer } = client('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await until('the answer', () => answer() !== '');
    trickle(socket, '\r\n');
    await isGone(socket);
  });

  it('that does not read its answer is gone', async () => {
    const big = `{"orderId":9,"orderState":"OPEN","x":"${'x'.repeat(1_000_000)}"}`;
    await server.put(`${VENUE}/orders/9`, big);
    // Enough answers to fill what the operating system keeps for the connection.
    const request = `GET ${VENUE}/orders/9 HTTP/1.1\r\nHost: localhost\r\n${KEY}\r\n\r\n`;
    const { socket } = client(request.repeat(20), { pauseReading: true });
    socket.pause();
    await once(socket, 'connect');
    await until('it is seen', async () => (await openConnections()) === 1);
    trickle(socket, '\r\n');
    await isGone(socket);
  });

  it('that sends what is no HTTP, and never ends, is gone', async () => {
    const { socket, answer } = client('NONSENSE\r\n\r\n');
    trickle(socket, 'more');
    await isGone(socket);
    assert.match(answer(), /^HTTP\/1\.1 400 /);
  });

  it('may import for longer than any body may take, so long as lines end', async () => {
    const { socket, answer } = client(
      `${IMPORT}${KEY}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    const chunk = `${ORDER.length.toString(16)}\r\n${ORDER}\r\n`;
    const startedAt = Date.now();
    const lines = 10;
    for (let line = 0; line < lines; line += 1) {
      await new Promise((resolve) => setTimeout(resolve, LIMITS.importProgressMs / 4));
      socket.write(chunk);
    }
    assert.ok(Date.now() - startedAt > 2 * LIMITS.bodyMs);
    socket.write('0\r\n\r\n');
    await until('the answer', () => answer() !== '');
    assert.match(answer(), /^HTTP\/1\.1 200 /);
    assert.match(answer(), /"stored":10,/);
    await isGone(socket);
  });

  it('may not import a line that never ends, or blank ones alone', async () => {
    for (const crumb of ['1\r\nx\r\n', '1\r\n\n\r\n', '2\r\n \n\r\n']) {
      const { socket, answer } = client(`${IMPORT}${KEY}\r\nTransfer-Encoding: chunked\r\n\r\n`);
      socket.write(`${ORDER.length.toString(16)}\r\n${ORDER}\r\n`);
      trickle(socket, crumb);
      await isGone(socket);
      assert.match(answer(), /^HTTP\/1\.1 408 /);
      assert.match(answer(), /"code":"request_too_slow"/);
    }
  });

  it('with a body in crumbs is cut off', async () => {
    const crumbs = '1\r\n \r\n'.repeat(5_000);
    for (const head of [`${IMPORT}${KEY}\r\n`, AUTH]) {
      const { socket, answer } = client(`${head}Transfer-Encoding: chunked\r\n\r\n${crumbs}`);
      await isGone(socket);
      assert.equal(answer(), '');
    }
    // A thousand of them are borne.
    const few = client(
      `${IMPORT}${KEY}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\n \r\n'.repeat(1_000)}0\r\n\r\n`,
    );
    await until('the answer', () => few.answer() !== '');
    assert.match(few.answer(), /^HTTP\/1\.1 200 /);
    await isGone(few.socket);
  });

  it('that waits for a run to end waits longer than all limits', async () => {
    const run = `POST ${VENUE}/schedules/${scheduleId}/run?wait=true HTTP/1.1\r\nHost: localhost\r\n${KEY}\r\nConnection: close\r\n\r\n`;
    const { socket, answer } = client(run);
    const sum = Object.values(LIMITS).reduce((one, other) => one + other, 0);
    await new Promise((resolve) => setTimeout(resolve, sum + 500));
    assert.equal(socket.readableEnded, false);
    assert.equal(answer(), '');
    assert.equal(await openConnections(), 1);
    socket.destroy();
    await isGone(socket);
  });

  it('has the limits of the contract unless others are handed in', () => {
    assert.equal(CONNECTION_LIMITS.headMs, 30_000);
    assert.equal(CONNECTION_LIMITS.bodyMs, 60_000);
    assert.equal(CONNECTION_LIMITS.importProgressMs, 60_000);
  });

  it('that cannot be accepted is logged, and ends nothing', async () => {
    assert.ok(server.app.server.listenerCount('error') > 0);
    server.app.server.emit('error', Object.assign(new Error('accept EMFILE'), { code: 'EMFILE' }));
    const { socket, answer } = client(
      'GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    await isGone(socket);
    assert.match(answer(), /^HTTP\/1\.1 200 /);
  });
});

describe('an unreadable request', () => {
  it('is gone soon after it was told so, whatever the other limits are', async () => {
    const server = await startServer({ connectionLimits: { lingerMs: 50 } });
    try {
      const port = Number(new URL(await server.app.listen({ host: '127.0.0.1', port: 0 })).port);
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
      socket.on('error', () => {}).resume();
      const closed = once(server.app.server, 'connection').then(([accepted]) =>
        once(accepted as Socket, 'close'),
      );
      socket.write('NONSENSE\r\n\r\n');
      await closed;
      socket.destroy();
    } finally {
      await server.close();
    }
  });
});

describe('a service without descriptors for more connections', () => {
  it('goes on, and accepts again when there are some', {
    skip: process.platform !== 'linux' && 'needs ulimit',
  }, async () => {
    const folder = temporaryFolder();
    const command = 'ulimit -n 80; exec "$0" src/main.ts serve';
    const child = spawn('sh', ['-c', command, process.execPath], {
      cwd: join(import.meta.dirname, '..'),
      env: { ...process.env, ORDERHOOK_DATA: folder.path, ORDERHOOK_PORT: '0', ORDERHOOK_ADMIN_KEY: 'x' },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const exited = once(child, 'exit');
    try {
      let printed = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
      });
      const address = () => / is ready at (\S+)/.exec(printed)?.[1];
      await until('it is ready', () => address() !== undefined);
      const { port } = new URL(address() as string);
      const sockets = Array.from({ length: 120 }, () =>
        connect(Number(port), '127.0.0.1').on('error', () => {}),
      );
      // Those that found no descriptor are closed at once.
      await until('some are refused', () => sockets.some(({ closed }) => closed));
      for (const socket of sockets) socket.destroy();
      await until('it answers again', async () =>
        fetch(`${address()}/healthz`).then(
          ({ ok }) => ok,
          () => false,
        ),
      );
      assert.equal(child.exitCode, null);
    } finally {
      child.kill('SIGTERM');
      const [code] = await exited;
      folder.remove();
      assert.equal(code, 0);
    }
  });
});

describe('a body', () => {
  it('comes whole, in however many chunks', async () => {
    const server = await startServer();
    try {
      await server.createVenue();
      const port = Number(new URL(await server.app.listen({ host: '127.0.0.1', port: 0 })).port);
      const order = `{"orderId":1,"orderState":"OPEN","x":"${'0123456789'.repeat(5_000)}"}`;
      const chunks = order.match(/.{1,97}/g) ?? [];
      const socket = connect(port, '127.0.0.1');
      let answer = '';
      socket.setEncoding('utf8').on('data', (text: string) => {
        answer += text;
      });
      socket.write(
        `PUT ${VENUE}/orders/1 HTTP/1.1\r\nHost: localhost\r\n${KEY}\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`,
      );
      for (const chunk of chunks) socket.write(`${chunk.length.toString(16)}\r\n${chunk}\r\n`);
      socket.write('0\r\n\r\n');
      await once(socket, 'close');
      assert.match(answer, /^HTTP\/1\.1 200 /);
      assert.equal((await server.store.order(1, '1'))?.details, order);
    } finally {
      await server.close();
    }
  });
});
