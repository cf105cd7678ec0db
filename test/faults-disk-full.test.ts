/**
 * A real `serve` whose disk gets full, on a small file system in memory. Mounting one needs root: without, the test is
 * skipped, and says so.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { CrashCallee } from './support/crash-callee.ts';
import { OrderLoad } from './support/crash-load.ts';
import { SeededRandom } from './support/crash-random.ts';
import { ADMIN_KEY, api, NodeProcess } from './support/node-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

const DISK = '24m';
const INSTITUTION = '/institutions/VENUE';
const DETAILS_CHARACTERS = 20_000;
const WITHIN_MS = 30_000;

type Answer = { readonly status: number; readonly retryAfter: string | null };

/** Undefined when this system does not let us. */
function mountSmallDisk(path: string): { remove(): void } | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined;
  mkdirSync(path);
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK}`, 'tmpfs', path]);
  if (status !== 0) return undefined;
  return { remove: () => void spawnSync('umount', [path]) };
}

/** Takes all the room that is left; `free` gives it back. */
function fill(path: string): { free(): void } {
  const file = join(path, 'ballast');
  const descriptor = openSync(file, 'w');
  let block = Buffer.alloc(64 * 1024);
  for (;;) {
    try {
      writeSync(descriptor, block);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      if (block.length === 1) break;
      block = block.subarray(0, Math.ceil(block.length / 2));
    }
  }
  closeSync(descriptor);
  return { free: () => rmSync(file) };
}

async function putOrder(address: string, orderId: number): Promise<Answer> {
  const response = await fetch(`${address}/api/v1${INSTITUTION}/orders/${orderId}`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ orderId, orderState: 'CLOSED', origin: 'x'.repeat(DETAILS_CHARACTERS) }),
  });
  await response.arrayBuffer();
  return { status: response.status, retryAfter: response.headers.get('retry-after') };
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WITHIN_MS;
  while (!(await condition())) {
    assert.ok(performance.now() < deadline, `it did not come to this: ${what}`);
    await wait(20);
  }
}

test('a full disk: writes answer 503, nothing acknowledged is lost, and all goes on when there is room', async (t) => {
  const folder = temporaryFolder();
  const disk = join(folder.path, 'disk');
  const mounted = mountSmallDisk(disk);
  if (!mounted) {
    folder.remove();
    const because = 'NOT TESTED: a full disk. The test mounts a small tmpfs, which needs root on Linux.';
    t.diagnostic(because);
    t.skip(because);
    return;
  }
  const callee = await CrashCallee.start({ failingShare: 0, delayMsMax: 0, random: new SeededRandom(1) });
  const service = new NodeProcess(join(disk, 'data'));
  let load: OrderLoad | undefined;
  try {
    const address = await service.ready;
    await api(address, 'POST', '/institutions', { code: 'VENUE', name: 'Venue' });
    const openings = `${INSTITUTION}/proxy-openings`;
    const { id } = await api<{ id: string }>(address, 'POST', openings, { destination: callee.host });
    await api(address, 'POST', `${openings}/${id}/open`, { allowPrivate: true });
    const one = await api<{ id: string }>(address, 'POST', `${INSTITUTION}/interfaces`, {
      name: 'CRM',
      type: 'ORDER_WEBHOOK_V1',
      url: `http://${callee.host}/crm/\${orderId}`,
      method: 'GET',
    });
    await api(address, 'POST', `${INSTITUTION}/interfaces/${one.id}/schedules`, {
      name: 'As they close',
      launch: 'AUTOMATIC',
      frequencyMinutes: 0,
    });

    const acknowledged: number[] = [];
    let orderId = 1;
    async function send(): Promise<Answer> {
      const answer = await putOrder(address, orderId);
      if (answer.status === 200) acknowledged.push(orderId);
      orderId += 1;
      return answer;
    }
    const called = () => new Set(callee.calls.map((call) => Number(call.orderId)));
    const areDelivered = () => acknowledged.every((id) => called().has(id));

    for (let count = 0; count < 20; count += 1) assert.equal((await send()).status, 200);
    await until('the first orders are delivered', areDelivered);

    load = new OrderLoad({
      path: `/api/v1${INSTITUTION}/orders`,
      sources: 4,
      pauseMsMax: 20,
      random: new SeededRandom(2),
    });
    load.moveTo(address);
    const accepted = load.acknowledged;
    await until('the load has begun', () => accepted.length > 50);
    const ballast = fill(disk);
    let refused: Answer | undefined;
    // There may be room left inside of SQLite's own files.
    for (let tries = 0; refused === undefined && tries < 1_000; tries += 1) {
      const answer = await send();
      if (answer.status !== 200) refused = answer;
    }
    assert.equal(refused?.status, 503);
    assert.match(refused.retryAfter ?? '', /^[1-9]\d*$/);
    assert.equal((await send()).status, 503, 'it stays so');
    const known = await fetch(`${address}/api/v1${INSTITUTION}/orders/1`, {
      headers: { authorization: `Bearer ${ADMIN_KEY}` },
    });
    assert.equal(known.status, 200, 'what was stored can be read');
    await known.arrayBuffer();
    assert.equal((await fetch(`${address}/healthz`)).status, 200, 'the process lives');

    ballast.free();
    await until('orders are taken again', async () => (await send()).status === 200);
    for (let count = 0; count < 20; count += 1) assert.equal((await send()).status, 200);
    const whenFreed = accepted.length;
    await until('the load goes on', () => accepted.length > whenFreed + 50);
    await load.end();
    for (const refusal of load.refusals.keys()) assert.match(refusal, /^503 .*store_unavailable/);
    acknowledged.push(...accepted.map((order) => Number(order.orderId)));
    await until('all that was acknowledged is delivered', areDelivered);
    await until('the queue is empty', async () => {
      const path = `${INSTITUTION}/interfaces/${one.id}/queue`;
      const queue = await api<{ waiting: number; owed: number }>(address, 'GET', path);
      return queue.waiting === 0 && queue.owed === 0;
    });
    const answered503 = new Set(Array.from({ length: orderId - 1 }, (_, index) => index + 1));
    for (const id of acknowledged) answered503.delete(id);
    const delivered = called();
    assert.deepEqual(
      [...answered503].filter((id) => delivered.has(id)),
      [],
      'what was refused was not stored',
    );
    assert.equal((await service.end('SIGTERM')).exitCode, 0);
  } finally {
    load?.giveUp();
    if (!service.hasEnded) await service.end('SIGKILL');
    await callee.stop();
    mounted.remove();
    folder.remove();
  }
});
