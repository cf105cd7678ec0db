/**
 * The database goes away under real nodes that are at work: it is stopped, its connections are cut, it is frozen, it fails
 * over. In each: nothing that was acknowledged is lost, the nodes go on by themselves, and no more calls are made again than
 * after a crash.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import {
  assertKept,
  type NodesOptions,
  NodesUnderLoad,
  type NodesVerdict,
} from './support/nodes-under-load.ts';
import { installedBin, PostgresServer, startStandby } from './support/postgres-server.ts';
import { until } from './support/until.ts';

const COMMANDS = ['serve', 'worker'] as const;
/** Longer than any timeout and any lease. */
const FROZEN_MS = 30_000;
/** A node may wait for a statement that nobody answers (5 s), then tries again, less and less often (5 s). */
const BACK_MS = 20_000;
/** From the last commit to the last start of a call it is 40 ms; the rest is for a busy machine. */
const STANDS_STILL_MS = 400;
const CUTS = 6;

async function startNodes(
  t: TestContext,
  url: string,
  seed: number,
  more: Partial<NodesOptions> = {},
): Promise<NodesUnderLoad> {
  const nodes = await NodesUnderLoad.start({ url, commands: COMMANDS, seed, ...more });
  t.after(() => nodes.remove());
  return nodes;
}

async function startServer(t: TestContext, options?: Parameters<typeof PostgresServer.start>[0]) {
  const server = await PostgresServer.start(options);
  t.after(() => server.remove());
  return server;
}

/** A moment's outage is waited for by the nodes; orders must have been refused only in the way of the contract. */
async function judgeNodes(t: TestContext, nodes: NodesUnderLoad): Promise<NodesVerdict> {
  const verdict = await nodes.finish();
  assertKept(verdict, nodes.told());
  for (const refusal of nodes.load.refusals.keys()) assert.match(refusal, /^503 .*store_unavailable/);
  const repeated = verdict.repeats.reduce(
    (sum, one) => sum + one.repeatedAfterAnswer + one.repeatedWhileRunning,
    0,
  );
  t.diagnostic(`${verdict.delivered} deliveries, ${repeated} calls repeated, ${verdict.lost} lost`);
  return verdict;
}

describe('real nodes under load', { concurrency: true }, () => {
  test('their server frozen for 30 s: they stand still, refuse orders in time, and go on when it thaws', async (t) => {
    const server = await startServer(t);
    // So slow that orders wait: there is always one that could be called.
    const nodes = await startNodes(t, await server.database(), 1, { answerMsMax: 150 });
    await nodes.goOn('before', 400, 200);
    await nodes.incident(async () => {
      server.freeze();
      t.after(() => server.thaw());
      const frozenAt = performance.now();
      await until('orders are refused', () => nodes.load.refusals.size > 0);
      const callsFrom = (from: number) => COMMANDS.map((_, node) => nodes.callsOf(node, from));
      await wait(FROZEN_MS - (performance.now() - frozenAt));
      assert.deepEqual(
        callsFrom(frozenAt + STANDS_STILL_MS),
        [0, 0],
        'no call is made that could not be committed',
      );
      server.thaw();
    });
    await nodes.goOn('after', 200, 50, BACK_MS);
    await judgeNodes(t, nodes);
  });

  describe('one after the other', { concurrency: 1 }, () => {
    for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
      test(`their server stopped with ${signal} and started again`, async (t) => {
        const server = await startServer(t);
        const nodes = await startNodes(t, await server.database(), 2);
        await nodes.goOn('before');
        await nodes.incident(async () => {
          await server.stop(signal);
          await until('orders are refused', () => nodes.load.refusals.size > 0);
          await server.start();
        });
        await nodes.goOn('after', 200, 50, BACK_MS);
        await judgeNodes(t, nodes);
      });
    }

    test('their connections cut, again and again', async (t) => {
      const server = await startServer(t);
      const url = await server.database();
      const nodes = await startNodes(t, url, 3);
      for (let cut = 0; cut < CUTS; cut += 1) {
        await nodes.goOn(`before cut ${cut}`, 100, 20, BACK_MS);
        await nodes.incident(async () => {
          const [row] = await server.query(
            `SELECT count(pg_terminate_backend(pid))::int AS cut FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()`,
            url,
          );
          assert.ok(Number(row?.cut) >= COMMANDS.length, `${row?.cut} connections were cut`);
        });
      }
      await nodes.goOn('after', 200, 50, BACK_MS);
      await judgeNodes(t, nodes);
    });

    test('failover to a synchronous standby: they follow by a URL of two hosts', async (t) => {
      const bin = installedBin();
      if (!bin) {
        const because = 'NOT RUN: no PostgreSQL with pg_basebackup is installed (apt-get install postgresql)';
        t.diagnostic(because);
        return t.skip(because);
      }
      const primary = await startServer(t, {
        bin,
        settings: ['wal_level=replica', 'synchronous_standby_names=*', 'synchronous_commit=local'],
      });
      await primary.query("ALTER ROLE postgres SET synchronous_commit = 'on'");
      const standby = await startStandby(primary);
      t.after(() => standby.remove());
      const database = (await primary.database()).split('/').at(-1);
      const hosts = `127.0.0.1:${standby.port},127.0.0.1:${primary.port}`;
      const nodes = await startNodes(
        t,
        `postgres://postgres@${hosts}/${database}?target_session_attrs=read-write`,
        4,
      );
      await nodes.goOn('before');
      await nodes.incident(async () => {
        await primary.stop('SIGQUIT');
        await until('orders are refused', () => nodes.load.refusals.size > 0);
        await standby.query('SELECT pg_promote()');
      });
      await nodes.goOn('after', 200, 50, BACK_MS);
      await judgeNodes(t, nodes);
    });
  });
});
