/** The network between one node and the database is cut, while both still reach the callee. */
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { test } from 'node:test';
import { MANY_NODES } from '../src/engine/engine.ts';
import { NetworkNamespace } from './support/network-namespace.ts';
import { assertKept, NodesUnderLoad } from './support/nodes-under-load.ts';
import { PostgresServer } from './support/postgres-server.ts';
import { until } from './support/until.ts';

const [HERE, CUT_OFF] = [0, 1];
const REPLACED_MS = 10_000;

test('a node that is cut off stops calling within its lease, another takes over, and later it commits nothing of before', async (t) => {
  const missing = NetworkNamespace.missing();
  if (missing) {
    const because = `NOT RUN: a network cut. ${missing}.`;
    t.diagnostic(because);
    return t.skip(because);
  }
  const network = new NetworkNamespace();
  t.after(network.remove);
  network.create();
  const server = await PostgresServer.start({
    settings: [`listen_addresses=127.0.0.1,${network.databaseHost}`],
  });
  t.after(() => server.remove());
  appendFileSync(`${server.folder}/data/pg_hba.conf`, 'host all all 10.203.7.0/30 trust\n');
  await server.query('SELECT pg_reload_conf()');
  const url = new URL(await server.database());
  const byCable = new URL(url);
  byCable.hostname = network.databaseHost;
  const nodes = await NodesUnderLoad.start({
    url: (node) => (node === CUT_OFF ? byCable : url).href,
    commands: ['serve', 'worker'],
    seed: 5,
    calleeHost: network.calleeHost,
    through: (node) => (node === CUT_OFF ? network.through : []),
  });
  t.after(() => nodes.remove());
  await until('both work', () => nodes.heldBy(HERE).length > 0 && nodes.heldBy(CUT_OFF).length > 0);

  let cutAt = 0;
  await nodes.incident(async () => {
    const held = nodes.heldBy(CUT_OFF);
    assert.ok(held.length > 0);
    network.cut();
    cutAt = performance.now();
    const isTaken = () => held.every((name) => nodes.heldBy(HERE).includes(name));
    await until('another node has taken over', isTaken, REPLACED_MS);
    const calls = nodes.callee.calls.filter(
      ({ interfaceName, receivedAt }) => held.includes(interfaceName) && receivedAt > cutAt,
    );
    const last = calls.findLast(({ node }) => node === CUT_OFF)?.receivedAt ?? cutAt;
    const taken = calls.find(({ node }) => node === HERE)?.receivedAt ?? 0;
    t.diagnostic(
      `last call ${Math.round(last - cutAt)} ms after the cut, taken over after ${Math.round(taken - cutAt)} ms`,
    );
    assert.ok(last - cutAt < MANY_NODES.ttlMs, 'it stops within its lease');
    assert.ok(last < taken, 'and before another begins');
    network.heal();
  }, [CUT_OFF]);
  await until('it works again', () => nodes.heldBy(CUT_OFF).length > 0, 60_000);
  await nodes.goOn('both');

  const repeated = nodes.repeatedOf(CUT_OFF, cutAt + MANY_NODES.ttlMs);
  t.diagnostic(`${repeated.length} calls were repeated`);
  assert.deepEqual(
    await nodes.timesLogged(repeated),
    repeated.map(() => 1),
  );
  assertKept(await nodes.finish(), nodes.told());
});
