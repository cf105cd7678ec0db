/**
 * Two `serve` on one PostgreSQL behind nginx with the configuration of docs/scaling.md, restarted one after the other while a
 * source sends orders: it must not notice. nginx knows of a node only what requests to it came to.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { findNginx, startNginx } from './support/nginx.ts';
import { ADMIN_KEY, api, NodeProcess } from './support/node-process.ts';
import { freePort, PostgresServer } from './support/postgres-server.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

const program = findNginx();
const because = 'NOT TESTED: a rolling restart behind nginx, which is not installed (apt-get install nginx)';
if (program === undefined) console.warn(because);

const SOURCES = 8;
/** Longer than nginx leaves a node alone after a failure, with room: see docs/scaling.md. */
const DRAIN_S = 5;
/** Less than that, as somebody in a hurry does it. */
const BETWEEN_RESTARTS_MS = 1_500;

/** The part of the page that is a configuration, with these ports. */
function documentedSite(port: number, nodes: readonly [number, number]): string {
  const page = readFileSync(join(import.meta.dirname, '../docs/scaling.md'), 'utf8');
  const site = /```nginx\n([\s\S]+?)```/.exec(page)?.[1];
  assert.ok(site, 'docs/scaling.md has a configuration of nginx');
  const withPorts = site
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replace('node-a:8080', `127.0.0.1:${nodes[0]}`)
    .replace('node-b:8080', `127.0.0.1:${nodes[1]}`);
  assert.ok(!/node-|listen 80/.test(withPorts), withPorts);
  return withPorts;
}

let server: PostgresServer;
before(async () => {
  if (program !== undefined) server = await PostgresServer.start();
});
after(() => server?.remove());

test('a rolling restart behind nginx, as docs/scaling.md has it: the source sees no 502', {
  skip: program === undefined && because,
}, async (t) => {
  const folder = temporaryFolder();
  t.after(() => folder.remove());
  const ports = [await freePort(), await freePort()] as const;
  const database = await server.database();
  const begin = async (node: 0 | 1) => {
    const process = new NodeProcess(join(folder.path, String(node)), {
      settings: {
        ORDERHOOK_DATABASE_URL: database,
        ORDERHOOK_ENCRYPTION_KEY: 'ab'.repeat(32),
        ORDERHOOK_PORT: String(ports[node]),
        ORDERHOOK_DRAIN_S: String(DRAIN_S),
      },
    });
    await process.ready;
    return process;
  };
  const nodes = [await begin(0), await begin(1)];
  t.after(async () => {
    for (const node of nodes) if (!node.hasEnded) await node.end('SIGKILL');
  });
  const nginx = await startNginx(program as string, (port) => documentedSite(port, ports));
  t.after(() => nginx.close());
  await api(nginx.address, 'POST', '/institutions', { code: 'VENUE', name: 'Venue' });

  const answers = new Map<string, number>();
  const agent = new Agent({ keepAlive: true, maxSockets: SOURCES });
  t.after(() => agent.destroy());
  let isOver = false;
  let lastOrderId = 0;
  const send = async () => {
    while (!isOver) {
      lastOrderId += 1;
      const answer = await putOrder(agent, nginx.address, lastOrderId);
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
      await wait(5);
    }
  };
  const sources = Array.from({ length: SOURCES }, send);
  try {
    await wait(BETWEEN_RESTARTS_MS);
    for (const node of [0, 1] as const) {
      const { exitCode } = await (nodes[node] as NodeProcess).end('SIGTERM');
      assert.equal(exitCode, 0);
      nodes[node] = await begin(node);
      await wait(BETWEEN_RESTARTS_MS);
    }
  } finally {
    isOver = true;
    await Promise.all(sources);
  }
  t.diagnostic(`answers: ${JSON.stringify([...answers])}`);
  assert.deepEqual([...answers.keys()], ['200'], nginx.errors().split('\n').slice(-20).join('\n'));
  assert.ok((answers.get('200') ?? 0) > 500);
});

/** The status, or what became of it instead. */
function putOrder(agent: Agent, address: string, orderId: number): Promise<string> {
  return new Promise((resolve) => {
    const body = JSON.stringify({ orderId, orderState: 'CLOSED' });
    const headers = {
      authorization: `Bearer ${ADMIN_KEY}`,
      'content-type': 'application/json',
      'content-length': body.length,
    };
    const url = `${address}/api/v1/institutions/VENUE/orders/${orderId}`;
    request(url, { method: 'PUT', headers, agent }, (response) => {
      response.resume();
      response.on('end', () => resolve(String(response.statusCode)));
    })
      .on('error', (error) => resolve(error.message))
      .end(body);
  });
}
