/** The flow against a callee that nobody here wrote: Debian's `webhook`, a small program that runs a command per call. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServiceProcess } from './support/service-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

const isInstalled = spawnSync('webhook', ['-version']).error === undefined;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** Two hooks that append the id they were given to a file each: from the query, and from the JSON payload. */
async function startWebhook(folder: string): Promise<{ address: string; program: ChildProcess }> {
  const script = join(folder, 'append');
  writeFileSync(script, '#!/bin/sh\necho "$1" >> "$2"\n', { mode: 0o755 });
  const hook = (id: string, source: string) => ({
    id,
    'execute-command': script,
    'http-methods': [source === 'url' ? 'GET' : 'POST'],
    'pass-arguments-to-command': [
      { source, name: 'id' },
      { source: 'string', name: join(folder, id) },
    ],
  });
  const hooks = join(folder, 'hooks.json');
  writeFileSync(hooks, JSON.stringify([hook('by-query', 'url'), hook('by-payload', 'payload')]));
  const port = await freePort();
  const program = spawn('webhook', ['-hooks', hooks, '-ip', '127.0.0.1', '-port', String(port)], {
    stdio: 'ignore',
  });
  const address = `http://127.0.0.1:${port}`;
  await until('webhook listens', () =>
    fetch(address).then(
      () => true,
      () => false,
    ),
  );
  return { address, program };
}

test('Debian’s webhook is told of each order, once by a GET query and once by a POST payload', async (t) => {
  if (!isInstalled)
    return t.skip('NOT RUN: the program `webhook` is not installed (apt-get install webhook)');
  const folder = temporaryFolder();
  const { address, program } = await startWebhook(folder.path);
  const service = await ServiceProcess.start(join(folder.path, 'data'));
  try {
    const { code, scheduleId } = await service.setUp(address, {
      interface: { url: `${address}/hooks/by-query?id=\${orderId}`, method: 'GET' },
    });
    const institution = `/institutions/${code}`;
    const posting = await service.call('POST', `${institution}/interfaces`, {
      name: 'By payload',
      type: 'ORDER_WEBHOOK_V1',
      url: `${address}/hooks/by-payload`,
      method: 'POST',
      payload: '{"id": "${orderId}"}',
    });
    const schedule = { name: 'By hand', launch: 'MANUAL' };
    const second = await service.call('POST', `${institution}/interfaces/${posting.id}/schedules`, schedule);
    const ids = ['10000702652', '9223372036854775807', '3'];
    for (const id of ids) {
      await service.call('PUT', `${institution}/orders/${id}`, `{"orderId":${id},"orderState":"CLOSED"}`);
    }
    for (const id of [scheduleId, second.id]) {
      const execution = await service.call('POST', `${institution}/schedules/${id}/run?wait=true`);
      assert.deepEqual([execution.status, execution.delivered], ['OK', 3]);
    }
    for (const name of ['by-query', 'by-payload']) {
      const file = join(folder.path, name);
      const told = () => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []);
      await until(`${name} was run for each order`, () => told().length >= ids.length);
      assert.deepEqual(told().sort(), [...ids].sort());
    }
  } finally {
    await service.stop();
    program.kill();
    await once(program, 'exit');
    folder.remove();
  }
});
