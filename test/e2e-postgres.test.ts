/** The same on PostgreSQL, and what only many nodes have: they spread, die, are paused, and begin. */
import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { OrderReader } from '../src/commands/callee.ts';
import { serviceContract } from './service-contract.ts';
import type { CalleeCall } from './support/crash-verdict.ts';
import { NodeProcess } from './support/node-process.ts';
import { assertKept, NodesUnderLoad } from './support/nodes-under-load.ts';
import { PostgresServer } from './support/postgres-server.ts';
import { RecordingCallee } from './support/recording-callee.ts';
import { runCommand, ServiceProcess } from './support/service-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

/** A node that dies is replaced within this. */
const REPLACED_MS = 10_000;

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

serviceContract('PostgreSQL', async () => {
  const folder = temporaryFolder();
  const settings = { ORDERHOOK_DATABASE_URL: await server.database() };
  return { folder: folder.path, settings, remove: folder.remove };
});

describe('beginnings', () => {
  test('migrate makes the schema, and serve begins with it', async () => {
    const folder = temporaryFolder();
    const url = await server.database();
    const migrated = await runCommand(['migrate'], { ORDERHOOK_DATABASE_URL: url });
    assert.equal(migrated.code, 0, migrated.stderr);
    const versions = () => server.query('SELECT * FROM orderhook.migrations', url);
    const before = await versions();
    const service = await ServiceProcess.start(folder.path, { ORDERHOOK_DATABASE_URL: url });
    assert.deepEqual(await versions(), before);
    assert.equal(await service.stop(), 0);
    folder.remove();
  });

  for (const command of ['serve', 'worker'] as const) {
    test(`a ${command} that is asked to end while it starts ends in order, and leaves no lease behind`, async () => {
      const folder = temporaryFolder();
      const url = new URL(await server.database());
      assert.equal((await runCommand(['migrate'], { ORDERHOOK_DATABASE_URL: url.href })).code, 0);
      const gate = await startGate(server.port);
      const through = new URL(url);
      through.port = String(gate.port);
      const node = new NodeProcess(folder.path, {
        command,
        settings: { ORDERHOOK_DATABASE_URL: through.href },
      });
      await until('it connects', () => gate.connections > 0);
      const ended = node.end('SIGTERM');
      gate.open();
      assert.equal((await ended).exitCode, 0, node.errors);
      assert.deepEqual(await server.query('SELECT * FROM orderhook.nodes', url.href), []);
      await gate.close();
      folder.remove();
    });
  }
});

describe('a long transaction elsewhere in the database', () => {
  test('delays calls and no more: the service is ready, and says for how long the log is held back', async (t) => {
    const folder = temporaryFolder();
    t.after(() => folder.remove());
    const url = await server.database();
    const callee = await RecordingCallee.start();
    t.after(() => callee.stop());
    const service = await ServiceProcess.start(folder.path, { ORDERHOOK_DATABASE_URL: url });
    t.after(() => service.stop('SIGKILL'));
    const { code } = await service.setUp(callee.address, {
      schedule: { launch: 'AUTOMATIC', frequencyMinutes: 0 },
    });
    const ready = async () => {
      const response = await fetch(`${service.address}/readyz`);
      const { horizonLagMs } = (await response.json()) as { horizonLagMs: number };
      return { code: response.status, horizonLagMs };
    };
    const lagInMetrics = async () => {
      const text = await (await fetch(`${service.address}/metrics`)).text();
      return Number(/^orderhook_log_horizon_lag_seconds (\S+)$/m.exec(text)?.[1]);
    };
    await until('nothing holds it back', async () => (await ready()).horizonLagMs === 0);
    const elsewhere = await server.client(); // in another database of the server
    t.after(() => elsewhere.end());
    await elsewhere.query('BEGIN');
    await elsewhere.query('SELECT pg_current_xact_id()');
    await service.call('PUT', `/institutions/${code}/orders/1`, { orderId: 1, orderState: 'CLOSED' });
    await until('readyz says so', async () => (await ready()).horizonLagMs >= 1_000);
    assert.equal((await ready()).code, 200);
    assert.ok((await lagInMetrics()) >= 1);
    assert.equal(callee.calls.length, 0);
    await elsewhere.query('COMMIT');
    await until('the order is called', () => callee.calls.length === 1);
    await until('nothing holds it back any more', async () => (await ready()).horizonLagMs === 0);
    assert.equal(await lagInMetrics(), 0);
    assert.equal(await service.stop(), 0);
  });
});

describe('many nodes', () => {
  test('with one encryption key any of them answers a partner, and what one is told the others know', async (t) => {
    const settings = {
      ORDERHOOK_DATABASE_URL: await server.database(),
      ORDERHOOK_ENCRYPTION_KEY: 'ab'.repeat(32),
    };
    const services: ServiceProcess[] = [];
    for (let n = 0; n < 2; n += 1) {
      const folder = temporaryFolder();
      t.after(() => folder.remove());
      const service = await ServiceProcess.start(folder.path, settings);
      t.after(() => service.stop('SIGKILL'));
      services.push(service);
    }
    const [one, other] = services as [ServiceProcess, ServiceProcess];
    await one.call('POST', '/institutions', { code: 'A', name: 'A' });
    const identity = { partner: 'ACME', operator: 'OP' };
    const { secret } = await one.call('POST', '/institutions/A/partners', identity);
    const { key } = await one.call('POST', '/api-keys', { name: 'x', role: 'SOURCE', institution: 'A' });
    const put = await other.request(
      'PUT',
      '/institutions/A/orders/1',
      { orderId: 1, orderState: 'CLOSED' },
      key,
    );
    assert.equal(put.status, 200);
    for (const service of services) {
      const read = await new OrderReader(service.address, { ...identity, secret }).read('1');
      assert.equal(JSON.parse(read).statusCode, 'success');
    }
    for (const service of services) assert.equal(await service.stop(), 0);
  });

  test('share the interfaces; what one that dies held is worked by others within 10 s; a new one gets its share', async (t) => {
    const commands = ['serve', 'serve', 'worker'] as const;
    const url = await server.database();
    const nodes = await NodesUnderLoad.start({ url, commands, seed: 1, copies: 2 });
    t.after(() => nodes.remove());
    const isShared = () => commands.every((_, node) => nodes.heldBy(node).length === 2);
    await until('each of three nodes works two of six interfaces', isShared);

    for (const victim of [0, 2]) {
      const orphans = nodes.heldBy(victim);
      assert.equal(orphans.length, 2);
      const { sentAt } = await nodes.end(victim, 'SIGKILL');
      const isReplaced = (name: string) =>
        nodes.callee.calls.some(
          (call) => call.interfaceName === name && call.node !== victim && call.receivedAt > sentAt,
        );
      await until('others work them', () => orphans.every(isReplaced), REPLACED_MS);
      const tookMs = performance.now() - sentAt;
      t.diagnostic(`replaced after ${Math.round(tookMs)} ms`);
      assert.ok(tookMs < REPLACED_MS);
      await nodes.spawn(victim).ready;
      await until('the new node has its share', isShared);
    }
    assertKept(await nodes.finish(), nodes.told());
  });

  test('one that is paused past its lease and woken commits nothing of before, and goes on with its share', async (t) => {
    const url = await server.database();
    const nodes = await NodesUnderLoad.start({ url, commands: ['serve', 'worker'], seed: 2 });
    t.after(() => nodes.remove());
    await until('both work', () => nodes.heldBy(1).length > 0 && nodes.heldBy(0).length > 0);
    await nodes.goOn('before');
    let frozenAt = 0;
    await nodes.incident(async () => {
      const held = nodes.heldBy(1);
      const isRunning = ({ node, status, answeredAt }: CalleeCall) =>
        node === 1 && status === 200 && answeredAt === undefined;
      await until('one of its calls is running', () => nodes.callee.calls.some(isRunning));
      nodes.process(1).freeze();
      frozenAt = performance.now();
      assert.ok(held.length > 0);
      const isTaken = () => held.every((name) => nodes.heldBy(0).includes(name));
      await until('the other has taken over', isTaken, REPLACED_MS);
      nodes.process(1).thaw();
    }, [1]);
    await until('it works again', () => nodes.heldBy(1).length > 0);
    await nodes.goOn('both');

    // What the paused node had called and not committed was called again by the other. Each delivery is in the log once.
    const repeated = nodes.repeatedOf(1, frozenAt);
    t.diagnostic(`${repeated.length} calls were repeated`);
    assert.ok(repeated.length > 0, 'the call that was running is among them');
    assert.deepEqual(
      await nodes.timesLogged(repeated),
      repeated.map(() => 1),
    );
    assertKept(await nodes.finish(), nodes.told());
  });
});

/** A way to the database that lets nothing through until it is opened. */
async function startGate(toPort: number) {
  const sockets = new Set<Socket>();
  const waiting: (() => void)[] = [];
  let [isOpen, connections] = [false, 0];
  const gate = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    const pass = () => {
      const onwards = connect(toPort, '127.0.0.1');
      sockets.add(onwards);
      for (const one of [socket, onwards]) one.on('error', () => {});
      socket.pipe(onwards).pipe(socket);
    };
    if (isOpen) pass();
    else waiting.push(pass);
  });
  await new Promise<void>((resolve) => gate.listen(0, '127.0.0.1', resolve));
  return {
    port: (gate.address() as { port: number }).port,
    get connections() {
      return connections;
    },
    open() {
      isOpen = true;
      for (const pass of waiting.splice(0)) pass();
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => gate.close(resolve));
    },
  };
}
