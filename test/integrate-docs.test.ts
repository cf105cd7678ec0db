/**
 * docs/integrate.md says what is so: its receivers run and read orders back from a real `serve`, its commands do what the page
 * says of them, and its numbers are those of the code.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { after, before, describe, type TestContext, test } from 'node:test';
import { type JWTPayload, SignJWT } from 'jose';
import { CALL_LIMITS } from '../src/caller/caller.ts';
import { BACK_OFF_MS_MAX, BACK_OFF_MS_MIN } from '../src/engine/reach.ts';
import { retryWaitMs } from '../src/engine/retry.ts';
import { CLOCK_TOLERANCE_SECONDS } from '../src/http/partner-token.ts';
import {
  ANSWER_BYTES_KEPT,
  ATTEMPTS_DEFAULT,
  CONCURRENCY_DEFAULT,
  CONCURRENCY_MAX,
  ORDER_ID_MAX,
  RETRY_AFTER_MS_MAX,
  TOKEN_LIFETIME_SECONDS,
  TOKEN_LIFETIME_SECONDS_MAX,
  UNANSWERED_CALLS_MAX,
} from '../src/model/limits.ts';
import { SETTINGS } from '../src/settings.ts';
import { USER_AGENT } from '../src/version.ts';
import { freePort } from './support/postgres-server.ts';
import { ServiceProcess } from './support/service-process.ts';
import { type TemporaryFolder, temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

const ROOT = join(import.meta.dirname, '..');
const page = readFileSync(join(ROOT, 'docs/integrate.md'), 'utf8');
const sentences = page.replace(/\s+/g, ' ');
const blocks = [...page.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, kind = '', text = '']) => ({
  kind,
  text,
}));
const [HOUR_MS, MINUTE_MS] = [3_600_000, 60_000];
const READ = '/tnseb/backend-apis/externalOrderService/v1_33/getOrderDetails';
const VENUE = '/institutions/MYVENUE';

/** The one block of that kind that has this in it. */
function block(kind: string, part: string): string {
  const [found, other] = blocks.filter((one) => one.kind === kind && one.text.includes(part));
  assert.ok(found && !other, `the page has one block "${kind}" with ${part}`);
  return found.text;
}

/** The rows of the table whose head has this in it, cells trimmed. */
function table(head: string): string[][] {
  const lines = page.split('\n');
  const at = lines.findIndex((line) => line.startsWith('|') && line.includes(head));
  assert.notEqual(at, -1, `the page has no table with ${head}`);
  const rows = lines.slice(at + 2);
  return rows
    .slice(
      0,
      rows.findIndex((line) => !line.startsWith('|')),
    )
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function says(sentence: string): void {
  assert.ok(sentences.includes(sentence), `the page does not say: ${sentence}`);
}

/** Why a test that needs these programs cannot run; undefined: it can. */
function missing(...programs: string[]): string | undefined {
  const absent = programs.filter((program) => spawnSync(program, ['--version']).error !== undefined);
  return absent.length === 0 ? undefined : `not installed, so THE PAGE IS NOT TESTED: ${absent.join(', ')}`;
}

const needs = (...programs: string[]) => {
  const skip = missing(...programs);
  return skip === undefined ? {} : { skip };
};

/** Runs a script to its end, in a folder and environment. */
async function shell(script: string, cwd: string, environment: Record<string, string> = {}) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('ORDERHOOK_'));
  const child = spawn('sh', ['-c', script], {
    cwd,
    env: { ...Object.fromEntries(own), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
}

/** A program that ends with the test, and its lines. */
function startProgram(
  t: TestContext,
  command: string,
  args: readonly string[],
  options: { cwd: string; environment: Record<string, string> },
): string[] {
  const child: ChildProcess = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.environment },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const lines: string[] = [];
  createInterface({ input: child.stdout as Readable }).on('line', (line) => lines.push(line));
  t.after(async () => {
    if (child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  });
  return lines;
}

async function listens(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
  await answer?.arrayBuffer();
  return answer !== undefined;
}

describe('the numbers of docs/integrate.md', () => {
  test('what an answer may take', () => {
    const limits = table('limit').map(([what, limit]) => [what, Number(/\d+/.exec(limit as string)?.[0])]);
    assert.deepEqual(limits, [
      ['accept the connection, TLS included', CALL_LIMITS.connectMs / 1000],
      ['first byte of the answer', CALL_LIMITS.firstByteMs / 1000],
      ['whole answer', CALL_LIMITS.exchangeMs / 1000],
      ['body of the answer', CALL_LIMITS.answerBytesMax / 1024],
    ]);
    says(`the call log keeps the first ${ANSWER_BYTES_KEPT.toLocaleString('en')} bytes`);
    assert.equal(RETRY_AFTER_MS_MAX, HOUR_MS);
    says('at most for an hour');
    says(`(${CONCURRENCY_DEFAULT} unless it says otherwise, ${CONCURRENCY_MAX} at most)`);
  });

  test('every delay between attempts', () => {
    const [row = []] = table('after attempt');
    const told = row
      .slice(1)
      .map((cell) => Number.parseInt(cell, 10) * (cell.endsWith(' min') ? MINUTE_MS : 1_000));
    const inTheMiddle = told.map((_, index) => retryWaitMs(index + 1, () => 0.5));
    assert.deepEqual(told, inTheMiddle);
    assert.equal(told.length, ATTEMPTS_DEFAULT - 1);
    assert.ok(Math.abs(retryWaitMs(11, () => 1) / retryWaitMs(11, () => 0.5) - 1.1) < 1e-9);
    const hoursOf = (attempts: number) => {
      let waitMs = 0;
      for (let attempt = 1; attempt < attempts; attempt++) waitMs += retryWaitMs(attempt, () => 0.5);
      return waitMs / HOUR_MS;
    };
    says(`**${ATTEMPTS_DEFAULT} attempts in all, over about ${hoursOf(ATTEMPTS_DEFAULT).toFixed(1)} hours**`);
    says(
      `so 24 are about ${Math.round(hoursOf(24))} hours, and 200 are about ${Math.round(hoursOf(200) / 24)} days`,
    );
    assert.equal(UNANSWERED_CALLS_MAX, 10);
    says('ten calls in a row without any answer');
    says(
      `waits ${BACK_OFF_MS_MIN / 1000} s, twice as long each time, at most ${BACK_OFF_MS_MAX / MINUTE_MS} minutes`,
    );
  });

  test('tokens, ids and the limit of reads', () => {
    says(`at most ${TOKEN_LIFETIME_SECONDS_MAX} s after \`iat\``);
    says(`The clocks may differ by ${CLOCK_TOLERANCE_SECONDS} s`);
    says(`which is good for ${TOKEN_LIFETIME_SECONDS} s`);
    says(`an integer from 1 to ${ORDER_ID_MAX} (2^63 − 1)`);
    says(`(${SETTINGS.webServiceCallsPerMinute.default.toLocaleString('en')} for each partner`);
  });

  test('the page has no block that no test reads', () => {
    const kinds = Map.groupBy(blocks, ({ kind }) => kind);
    const counts = Object.fromEntries([...kinds].map(([kind, some]) => [kind, some.length]));
    assert.deepEqual(counts, { '': 1, http: 2, js: 1, sh: 8, json: 2, python: 1, php: 1 });
  });
});

test('JSON is parsed in JavaScript without losing a digit', async () => {
  const source = block('js', 'parseOrder').replace('const parseOrder', 'export const parseOrder');
  const { parseOrder } = (await import(`data:text/javascript,${encodeURIComponent(source)}`)) as {
    parseOrder: (text: string) => unknown;
  };
  assert.deepEqual(
    parseOrder('{"id": 9007199254740993, "small": 7, "price": 4.1, "text": "9007199254740993"}'),
    {
      id: 9007199254740993n,
      small: 7,
      price: 4.1,
      text: '9007199254740993',
    },
  );
});

describe('docs/integrate.md beside a running service', () => {
  let folder: TemporaryFolder;
  let service: ServiceProcess;
  let secret: string;

  before(async () => {
    folder = temporaryFolder();
    service = await ServiceProcess.start(join(folder.path, 'data'));
    await service.call('POST', '/institutions', { code: 'MYVENUE', name: 'My venue' });
    ({ secret } = await service.call('POST', `${VENUE}/partners`, { partner: 'ACME', operator: 'OP' }));
  });
  after(async () => {
    await service?.stop();
    folder.remove();
  });

  /** Commands of the page, for the service of this test. */
  const here = (text: string) => text.replaceAll('http://127.0.0.1:8080', service.address);

  async function open(destination: string): Promise<void> {
    const opening = await service.call('POST', `${VENUE}/proxy-openings`, { destination });
    await service.call('POST', `${VENUE}/proxy-openings/${opening.id}/open`, { allowPrivate: true });
  }

  async function addInterface(settings: Record<string, unknown>): Promise<string> {
    const given = { name: 'CRM', type: 'ORDER_WEBHOOK_V1', method: 'GET', ...settings };
    const { id } = await service.call('POST', `${VENUE}/interfaces`, given);
    return id;
  }

  const putOrder = (id: string, orderState: string, orderType = 'SALE') =>
    service.call(
      'PUT',
      `${VENUE}/orders/${id}`,
      `{"orderId": ${id}, "orderState": "${orderState}", "orderType": "${orderType}"}`,
    );

  async function read(token: string | undefined, body: string, type = 'application/json') {
    const response = await fetch(`${service.address}${READ}`, {
      method: 'POST',
      headers: {
        'content-type': type,
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      body,
    });
    return { status: response.status, json: (await response.json()) as Record<string, unknown> };
  }

  const seconds = () => Math.floor(Date.now() / 1000);

  /** Claims that are undefined are left out. */
  function sign(claims: JWTPayload = {}, given: { secret?: string; alg?: string } = {}): Promise<string> {
    const all = { sub: 'MYVENUE', aud: 'OP', iss: 'ACME', iat: seconds(), exp: seconds() + 60, ...claims };
    return new SignJWT(all)
      .setProtectedHeader({ alg: given.alg ?? 'HS256' })
      .sign(Buffer.from(given.secret ?? secret, 'utf8'));
  }

  test('the calls are sent byte for byte as the page shows them', async (t) => {
    const requests: string[] = [];
    const sockets = new Set<Socket>();
    const callee = createServer((socket) => {
      sockets.add(socket);
      let text = '';
      socket.on('data', (bytes) => {
        text += bytes.toString();
        const [, length] = /content-length: (\d+)/i.exec(text) ?? [];
        const end = text.indexOf('\r\n\r\n');
        if (end === -1 || text.length < end + 4 + Number(length ?? 0)) return;
        requests.push(text);
        text = '';
        socket.write('HTTP/1.1 204 No Content\r\n\r\n');
      });
      socket.on('error', () => {});
    }).listen(0, '127.0.0.1');
    await once(callee, 'listening');
    t.after(() => {
      callee.close();
      for (const socket of sockets) socket.destroy();
    });
    const host = `127.0.0.1:${(callee.address() as AddressInfo).port}`;
    await open(host);
    await putOrder('10000702652', 'OPEN');
    const get = { method: 'GET', url: `http://${host}/closed?id=\${orderId}` };
    const post = { method: 'POST', url: `http://${host}/closed`, payload: '{"id": ${orderId}}' };
    for (const settings of [get, post, { method: 'POST', url: `http://${host}/closed/\${orderId}` }]) {
      const id = await addInterface(settings);
      const { outcome } = await service.call('POST', `${VENUE}/interfaces/${id}/test-call`, {
        orderId: '10000702652',
      });
      assert.equal(outcome, 'DELIVERED');
    }
    const shown = ['GET', 'POST'].map((method) => {
      const [head = '', body = ''] = block('http', `${method} `).split('\n\n');
      const text = `${head.split('\n').join('\r\n')}\r\n\r\n${body.trimEnd()}`;
      return text.replace('crm.example', host).replace('Orderhook/0.1.0', USER_AGENT);
    });
    assert.deepEqual(requests.slice(0, 2), shown);
    assert.match(requests[2] as string, /\r\nContent-Length: 0\r\n\r\n$/);
    assert.doesNotMatch(requests[2] as string, /content-type/i);
    says('A POST without payload has `Content-Length: 0` and no content type');
  });

  test('a redirect is not followed', async (t) => {
    const callee = createServer((socket) => {
      socket.on('data', () =>
        socket.end('HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n'),
      );
      socket.on('error', () => {});
    }).listen(0, '127.0.0.1');
    await once(callee, 'listening');
    t.after(() => callee.close());
    const host = `127.0.0.1:${(callee.address() as AddressInfo).port}`;
    await open(host);
    await putOrder('302', 'OPEN');
    const id = await addInterface({ url: `http://${host}/\${orderId}` });
    const call = await service.call('POST', `${VENUE}/interfaces/${id}/test-call`, { orderId: '302' });
    assert.deepEqual([call.outcome, call.reason, call.status], ['FAILED', 'status', 302]);
  });

  test('its commands register a partner, get a token and read an order back', needs('curl'), async () => {
    const answer = JSON.parse(block('json', '"success"'));
    const order = answer.orderDetailsData;
    await service.call('PUT', `${VENUE}/orders/${order.orderId}`, {
      ...order,
      ticketDatas: [{ ticketId: 1 }],
    });
    const run = async (script: string, environment: Record<string, string>) => {
      const { code, stdout, stderr } = await shell(here(script), folder.path, environment);
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout);
    };
    const registering = block('sh', '/partners -H').replace('"ACME"', '"ACME 2"');
    const partner = await run(registering, { ORDERHOOK_ADMIN_KEY: service.key });
    const asking = block('sh', '/v1/auth').replace('"ACME"', '"ACME 2"');
    const { token, ...others } = await run(asking, { SECRET: partner.secret });
    assert.deepEqual(others, {});
    const reading = block('sh', '"requestId": 7');
    assert.deepEqual(await run(reading, { TOKEN: token }), answer);
    const unknown = await run(reading.replace('10000702652', '999'), { TOKEN: token });
    assert.deepEqual(unknown, JSON.parse(block('json', '"notfound"')));
  });

  test('every reason of a 401 is one', async () => {
    const reasons = new Map<string, () => Promise<string | undefined>>([
      ['no token', async () => undefined],
      ['not a JWT', async () => secret],
      ['another algorithm', () => sign({}, { alg: 'HS512' })],
      ['a claim is missing', () => sign({ aud: 7 as never })],
      ['more than 900 s', () => sign({ exp: seconds() + 960 })],
      ['expired', () => sign({ iat: seconds() - 90, exp: seconds() - 30 })],
      ['from the future', () => sign({ iat: seconds() + 60, exp: seconds() + 90 })],
      ['wrong signature', () => sign({}, { secret: 'x'.repeat(64) })],
    ]);
    const details = new Set<unknown>();
    for (const [reason = ''] of table('401 because')) {
      const token = reasons.get(reason);
      assert.ok(token, `no test knows the reason "${reason}"`);
      const { status, json } = await read(await token(), '{"orderId": 1}');
      assert.equal(status, 401, reason);
      details.add(json.detail);
      reasons.delete(reason);
    }
    assert.deepEqual([...reasons.keys()], []);
    assert.equal(details.size, table('401 because').length, 'each reason has words of its own');
    for (const claim of ['sub', 'aud', 'iss', 'iat', 'exp']) {
      assert.equal((await read(await sign({ [claim]: undefined }), '{"orderId": 1}')).status, 401, claim);
    }
    assert.equal((await read(await sign({ nbf: seconds() + 60 }), '{"orderId": 1}')).status, 401);
    assert.equal((await read(await sign(), '{"orderId": 999}')).status, 200);
  });

  test('other errors are those of the table', async () => {
    const token = await sign();
    assert.equal((await read(token, '{')).status, 400);
    const wrong = await read(token, '{"orderId": "1", "requestId": "7", "granularity": "ALL"}');
    assert.equal(wrong.status, 400);
    assert.deepEqual(
      (wrong.json.errors as { path: string }[]).map(({ path }) => path),
      ['orderId', 'requestId', 'granularity'],
    );
    assert.equal((await read(token, `{"orderId": 1${' '.repeat(64 * 1024)}}`)).status, 413);
    assert.equal((await read(token, '{"orderId": 1}', 'application/xml')).status, 415);
    const problem = Object.keys((await read(undefined, '{"orderId": 1}')).json);
    assert.deepEqual(problem, ['type', 'title', 'status', 'code', 'detail', 'requestId']);
  });

  test('iat and exp may be in milliseconds', async () => {
    const token = await sign({ iat: Date.now(), exp: Date.now() + 60_000 });
    assert.equal((await read(token, '{"orderId": 999}')).status, 200);
  });

  test('an interface has attemptsMax', async () => {
    await open('127.0.0.1:9');
    const id = await addInterface({ url: 'http://127.0.0.1:9/${orderId}', active: false, attemptsMax: 24 });
    assert.equal((await service.call('GET', `${VENUE}/interfaces/${id}`)).attemptsMax, 24);
  });

  /** Both ways to be called, with the id as a number and in the URL; continuous. */
  async function addInterfacesFor(port: number): Promise<string[]> {
    await open(`127.0.0.1:${port}`);
    const ids = [
      await addInterface({ url: `http://127.0.0.1:${port}/closed?id=\${orderId}` }),
      await addInterface({
        method: 'POST',
        url: `http://127.0.0.1:${port}/closed`,
        payload: '{"id": ${orderId}}',
      }),
    ];
    for (const id of ids) {
      const schedule = { name: 'At once', launch: 'AUTOMATIC', frequencyMinutes: 0 };
      await service.call('POST', `${VENUE}/interfaces/${id}/schedules`, schedule);
    }
    return ids;
  }

  /** What any receiver must do; `lines` is what it prints. */
  async function checkReceiver(port: number, lines: readonly string[]): Promise<void> {
    const ids = ['10000702653', '9007199254740993', String(ORDER_ID_MAX)];
    const count = (line: string) => lines.filter((one) => one === line).length;
    const untilSaid = (line: string) => until(`it says "${line}"`, () => count(line) > 0);
    const interfaces = await addInterfacesFor(port);
    const settled = () =>
      until('both interfaces delivered all', async () => {
        const queues = await Promise.all(
          interfaces.map((id) => service.call('GET', `${VENUE}/interfaces/${id}/queue`)),
        );
        return queues.every(({ waiting, owed }) => waiting === 0 && owed === 0);
      });

    for (const id of ids) await putOrder(id, 'OPEN');
    for (const id of ids) await putOrder(id, 'CLOSED');
    for (const id of ids) await untilSaid(`order ${id}: CLOSED SALE`);
    await settled();
    for (const id of interfaces) {
      const { items } = await service.call('GET', `${VENUE}/interfaces/${id}/calls?outcome=DELIVERED`);
      assert.deepEqual(items.map((call: { orderId: string }) => call.orderId).sort(), [...ids].sort());
    }

    const again = ids[1] as string;
    await putOrder(again, 'OPEN');
    await putOrder(again, 'CLOSED', 'REFUND_CLIENT');
    await untilSaid(`order ${again}: CLOSED REFUND_CLIENT`);
    await settled();
    await service.call('POST', `${VENUE}/interfaces/${interfaces[0]}/resend`, { orderIds: [again] });
    await untilSaid(`order ${again}: nothing new`);
    for (const id of ids) assert.equal(count(`order ${id}: CLOSED SALE`), 1, 'acted upon once');
    assert.equal(count(`order ${again}: CLOSED REFUND_CLIENT`), 1);

    const forge = async (id: string) =>
      (await fetch(`http://127.0.0.1:${port}/closed?id=${id}`, { signal: AbortSignal.timeout(5_000) }))
        .status;
    assert.equal(await forge('999'), 204);
    await untilSaid('order 999: There is no order 999.');
    for (const wrong of ['', '0', 'x', '-1', '1.5', String(ORDER_ID_MAX + 1n)]) {
      assert.equal(await forge(wrong), 400, wrong);
    }
  }

  test('the receiver in Python is called, reads back, and acts once', needs('python3'), async (t) => {
    const own = temporaryFolder();
    t.after(() => own.remove());
    writeFileSync(join(own.path, 'receiver.py'), block('python', 'Receives the calls'));
    const port = await freePort();
    const environment = { SECRET: secret, SERVICE: service.address, PORT: String(port) };
    const lines = startProgram(t, 'python3', ['receiver.py'], { cwd: own.path, environment });
    await until('the receiver listens', () => listens(port));
    await checkReceiver(port, lines);
  });

  test('the receiver in PHP is called, reads back, and acts once', needs('php'), async (t) => {
    const own = temporaryFolder();
    t.after(() => own.remove());
    writeFileSync(join(own.path, 'receiver.php'), block('php', 'Receives the calls'));
    const port = await freePort();
    const environment = { SECRET: secret, SERVICE: service.address };
    const options = { cwd: own.path, environment };
    const [, serving = ''] = /^php (-S \S+ \S+) &$/m.exec(block('sh', 'php -S')) ?? [];
    startProgram(t, 'php', serving.replace(/:\d+/, `:${port}`).split(' '), options);
    const lines = startProgram(t, 'php', ['receiver.php'], options);
    await until('the receiver listens', () => listens(port));
    await checkReceiver(port, lines);
  });
});

test('a callee with a certificate of its own authority is trusted', needs('openssl'), async (t) => {
  const folder = temporaryFolder();
  t.after(() => folder.remove());
  const { code, stderr } = await shell(block('sh', 'openssl req'), folder.path);
  assert.equal(code, 0, stderr);
  const file = (name: string) => readFileSync(join(folder.path, name));
  let calls = 0;
  const callee = createHttpsServer(
    { key: file('callee.key'), cert: file('callee.pem') },
    (_request, response) => {
      calls += 1;
      response.writeHead(204).end();
    },
  ).listen(0, '127.0.0.1');
  await once(callee, 'listening');
  t.after(() => {
    callee.close();
    callee.closeAllConnections();
  });
  const [, authority = ''] = /ORDERHOOK_EXTRA_CA_FILE=(\S+) npm start/.exec(block('sh', 'EXTRA_CA')) ?? [];
  const settings = { ORDERHOOK_EXTRA_CA_FILE: join(folder.path, authority) };
  const service = await ServiceProcess.start(join(folder.path, 'data'), settings);
  t.after(() => service.stop());
  const { port } = callee.address() as AddressInfo;
  const { interfaceId, scheduleId } = await service.setUp(`https://127.0.0.1:${port}`);
  await service.call('PUT', `${VENUE}/orders/1`, { orderId: 1, orderState: 'CLOSED' });
  const { delivered } = await service.call('POST', `${VENUE}/schedules/${scheduleId}/run?wait=true`);
  assert.deepEqual([delivered, calls, interfaceId], [1, 1, '1']);
});

test(
  'the job for CI ends well, and badly when the receiver cannot read',
  needs('curl', 'python3'),
  async (t) => {
    const folder = temporaryFolder();
    t.after(() => folder.remove());
    const receiver = block('python', 'Receives the calls');
    const receiverFile = join(folder.path, 'receiver.py');
    const run = async () => {
      const [servicePort, calleePort] = [await freePort(), await freePort()];
      const script = block('sh', 'set -eu')
        .replaceAll('8080', String(servicePort))
        .replaceAll('9090', String(calleePort))
        // The page has both in the working directory.
        .replace('node_modules/.bin/node src/main.ts', `${process.execPath} ${join(ROOT, 'src/main.ts')}`)
        .replaceAll('1 2 3 4 5 6 7 8 9 10', '1 2 3');
      return shell(script, folder.path);
    };
    writeFileSync(receiverFile, receiver);
    const good = await run();
    assert.equal(good.code, 0, good.stderr);
    assert.match(good.stdout, /order 10000702652: CLOSED SALE/);
    writeFileSync(receiverFile, receiver.replace('"aud": OPERATOR', '"aud": "NOBODY"'));
    const bad = await run();
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /The order was not read back/);
  },
);
