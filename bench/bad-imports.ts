/**
 * How long does a closing take while somebody else imports nothing but rubbish?
 *
 *     node bench/bad-imports.ts [--quick] [KIND …]
 *
 * A source closes orders of one institution at a steady rate, sent when they are due whatever became of those before. A
 * thread of its own beside it sends imports of another institution without an end, over one connection and over several: each kind
 * of body is one that costs a reader more than it costs a sender. The target is that of contract section 4.4.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { constants, setPriority } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Pool } from 'undici';
import { quantile, Report } from './support/figures.ts';
import { size } from './support/options.ts';
import { FIRST_ORDER_ID, orderLine } from './support/orders.ts';
import { endAfter } from './support/owned.ts';
import { AUTHORIZATION, INSTITUTION, Service } from './support/service.ts';

const PER_SECOND = 100;
const SECONDS = size(8, 3);
const WARM_UP_SECONDS = 2;
const SEVERAL = 6;
const OTHER = 'RUBBISH';
const P99_TARGET = { max: 100 };
const PORTION_BYTES = 256 * 1024;
/** Just under the limit of one order. */
const LONG_LINE_BYTES = 1024 * 1024 - 64;

/** Each a body, without its framing, that is sent again and again. */
const KINDS: Readonly<Record<string, () => Buffer>> = {
  'no JSON': () => repeated('x\n'),
  'a broken object': () => repeated('{x}\n'),
  'an empty object': () => repeated('{}\n'),
  'an object without a state': () => repeated('{"orderId":1}\n'),
  newlines: () => repeated('\n'),
  'blank lines': () => repeated(' \r\n'),
  'no UTF-8': () => Buffer.from(repeated('{"orderId":1,"a":"\xff"}\n').toString('utf8'), 'latin1'),
  'one endless line': () => repeated('x'),
  'blanks without an end': () => repeated(' '),
  'long lines, wrong at the end': () => longLine('{"orderId":1,"orderState":"X","a":[', '1,', ''),
  'long lines of letters, wrong at the end': () => longLine('{"orderId":1,"orderState":"X","a":"', 'x', ''),
  'long lines of names, wrong at the end': () => longLine('{', '"orderId":1,', ''),
  'long lines of brackets': () => longLine('', '[', ''),
  'long lines of nested objects, wrong at the end': () => longLine('', '{"a":', ''),
  'long lines of empty lists': () => longLine('{"orderId":1,"a":[', '[],', '0]}'),
  'long lines of deep lists': () =>
    longLine('{"orderId":1,"orderState":"X","a":[', `${'['.repeat(99)}${']'.repeat(99)},`, '0]}'),
  'long lines with an id that is too great': () =>
    longLine('{"orderId":99999999999999999999,"orderState":"X","a":[', '1.0,', '0]}'),
  'long good lines': () => longLine('{"orderId":7,"orderState":"X","a":[', '{"b":1.0},', '0]}'),
};

if (isMainThread) await measure();
else await sendRubbish(workerData as Rubbish);

type Rubbish = {
  readonly address: string;
  readonly kind: string;
  readonly connections: number;
  readonly perChunk: number;
  readonly ms: number;
};

async function measure(): Promise<void> {
  endAfter(10);
  const chosen = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
  const kinds = Object.keys(KINDS).filter((kind) => chosen.length === 0 || chosen.includes(kind));
  await using service = await Service.start();
  await service.setUp();
  await service.call('POST', '/api/v1/institutions', { code: OTHER, name: OTHER });
  const report = new Report('bad-imports', {
    closings: `${PER_SECOND} a second for ${SECONDS} s beside each kind`,
    imports: `of another institution, without a pause, on 1 and on ${SEVERAL} connections`,
    store: 'SQLite (synchronous=FULL)',
  });
  const pool = new Pool(service.address, { connections: 16, pipelining: 1 });
  let number = 0;
  const close = (seconds: number) => closeOrders(pool, seconds, () => number++);
  await close(WARM_UP_SECONDS);
  const alone = quantile(await close(SECONDS), 0.99);
  report.add({ name: 'p99 of a closing, nothing beside it', value: alone, unit: 'ms' });
  for (const kind of kinds) {
    for (const connections of [1, SEVERAL]) await beside(kind, connections, 64 * 1024);
  }
  if (chosen.length === 0 || chosen.includes('chunks')) await beside('no JSON', 1, 1);
  if (chosen.length === 0 || chosen.includes('chunks')) await beside('no JSON', SEVERAL, 1);
  await pool.close();
  report.save();

  async function beside(kind: string, connections: number, perChunk: number): Promise<void> {
    const ms = SECONDS * 1_000 + 500;
    const rubbish: Rubbish = { address: service.address, kind, connections, perChunk, ms };
    const sender = new Worker(new URL(import.meta.url), { workerData: rubbish });
    const sent = once(sender, 'message');
    const ended = once(sender, 'exit');
    await wait(400);
    const times = await close(SECONDS);
    const [megabytes] = (await sent) as [number];
    await ended;
    const name = `p99 beside ${kind}${perChunk === 1 ? ' in chunks of one byte' : ''}, ${connections} ×`;
    const value = quantile(times, 0.99);
    report.add({
      name,
      value,
      unit: `ms (median ${quantile(times, 0.5).toFixed(0)}, longest ${quantile(times, 1).toFixed(0)}, ${megabytes.toFixed(1)} MB/s)`,
      target: P99_TARGET,
    });
  }
}

/** Milliseconds that each closing took. */
async function closeOrders(pool: Pool, seconds: number, next: () => number): Promise<number[]> {
  const times: number[] = [];
  const sent: Promise<void>[] = [];
  const startedAt = performance.now();
  while (performance.now() - startedAt < seconds * 1_000) {
    const due = Math.ceil(((performance.now() - startedAt) * PER_SECOND) / 1_000);
    while (sent.length < due)
      sent.push(closeOrder(pool, next(), startedAt + (sent.length * 1_000) / PER_SECOND, times));
    await wait(1);
  }
  await Promise.all(sent);
  return times;
}

async function closeOrder(pool: Pool, number: number, dueAt: number, times: number[]): Promise<void> {
  const { statusCode, body } = await pool.request({
    method: 'PUT',
    path: `${INSTITUTION}/orders/${FIRST_ORDER_ID + number}`,
    headers: { authorization: AUTHORIZATION, 'content-type': 'application/json' },
    body: orderLine(number),
  });
  await body.dump();
  if (statusCode !== 200) throw new Error(`A closing was answered by ${statusCode}`);
  times.push(performance.now() - dueAt);
}

// ------------------------------------------------------------------------------------------------------- the rubbish

async function sendRubbish({ address, kind, connections, perChunk, ms }: Rubbish): Promise<void> {
  // On Linux, of this thread alone: the sender is on another machine as a rule, and takes no processor from the service.
  setPriority(constants.priority.PRIORITY_LOW);
  const portion = framed((KINDS[kind] as () => Buffer)(), perChunk);
  const startedAt = performance.now();
  const bytes = await Promise.all(
    Array.from({ length: connections }, () => sendOn(new URL(address), portion, startedAt + ms)),
  );
  const seconds = (performance.now() - startedAt) / 1_000;
  parentPort?.postMessage(bytes.reduce((sum, one) => sum + one, 0) / seconds / 1e6);
}

/** Bytes that were sent. Who is cut off comes again. */
async function sendOn(address: URL, portion: Buffer, until: number): Promise<number> {
  let bytes = 0;
  while (performance.now() < until) bytes += await sendOnce(address, portion, until);
  return bytes;
}

async function sendOnce({ hostname, port }: URL, portion: Buffer, until: number): Promise<number> {
  const socket: Socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  socket.resume();
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.write(
    `POST /api/v1/institutions/${OTHER}/orders/import HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${AUTHORIZATION}\r\n` +
      'Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n',
  );
  while (performance.now() < until && !socket.destroyed) {
    if (socket.write(portion)) continue;
    const drained = new Promise<void>((resolve) => socket.once('drain', () => resolve()));
    await Promise.race([drained, closed, wait(Math.max(1, until - performance.now()))]);
  }
  const { bytesWritten, writableLength } = socket;
  // What the kernel still holds would be imported during the next measurement.
  socket.resetAndDestroy();
  await closed;
  return bytesWritten - writableLength;
}

function framed(body: Buffer, perChunk: number): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < body.length; at += perChunk) {
    const chunk = body.subarray(at, at + perChunk);
    parts.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'));
  }
  return Buffer.concat(parts);
}

function repeated(text: string): Buffer {
  return Buffer.from(text.repeat(Math.ceil(PORTION_BYTES / text.length)), 'latin1');
}

function longLine(start: string, middle: string, end: string): Buffer {
  const count = Math.floor((LONG_LINE_BYTES - start.length - end.length) / middle.length);
  return Buffer.from(`${start}${middle.repeat(count)}${end}\n`);
}
