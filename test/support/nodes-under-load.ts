/**
 * Several nodes on one PostgreSQL database, sources that send orders all the time, and a callee that knows which node
 * called it: for faults of every kind, and the verdict on them.
 *
 *     sources ──> serve, serve, worker ──> database
 *                        └──────────────> callee, on a port for each node
 */
import assert from 'node:assert/strict';
import { setTimeout as wait } from 'node:timers/promises';
import { CrashCallee } from './crash-callee.ts';
import { OrderLoad } from './crash-load.ts';
import { SeededRandom } from './crash-random.ts';
import {
  crashInterfaces,
  drain,
  INSTITUTION,
  judged,
  type Manual,
  ORDERS_PATH,
  setUpVenue,
} from './crash-venue.ts';
import { type CalleeCall, type JudgedInterface, judge, type Life, type Verdict } from './crash-verdict.ts';
import { api, type Death, NodeProcess } from './node-process.ts';
import { type TemporaryFolder, temporaryFolder } from './temporary-folder.ts';
import { until } from './until.ts';

const ANSWER_MS_MAX = 25;
const FAILING_SHARE = 0.1;
/** What a dead or paused process had sent reaches the callee in this time, long before another calls anybody. */
export const SETTLE_MS = 100;
/** One key for all nodes: each must read what another has sealed. */
const ENCRYPTION_KEY = '7'.repeat(64);

export type NodesOptions = {
  /** `ORDERHOOK_DATABASE_URL`; a function where nodes have different ones. */
  readonly url: string | ((node: number) => string);
  readonly commands: readonly ('serve' | 'worker')[];
  readonly seed: number;
  /** Of the three kinds of interfaces, this many each. */
  readonly copies?: number;
  readonly sources?: number;
  readonly sourcePauseMsMax?: number;
  /** The callee answers after so long at most. */
  readonly answerMsMax?: number;
  /** Where the callee listens. */
  readonly calleeHost?: string;
  /** What runs a node, `ip netns exec NAME` for example. */
  readonly through?: (node: number) => readonly string[];
};

export type NodesVerdict = Verdict & { readonly interfaces: readonly JudgedInterface[] };

export class NodesUnderLoad {
  readonly callee: CrashCallee;
  readonly load: OrderLoad;
  readonly lives: Life[] = [];
  /** Of each start that came to it: how long it took. */
  readonly readyMs: number[] = [];
  /** What ended nodes wrote to standard error. */
  errors = '';
  readonly #options: NodesOptions;
  readonly #folder: TemporaryFolder;
  readonly #interfaces;
  readonly #nodes: { process: NodeProcess; bornAt: number; address: string }[] = [];
  #manual: readonly Manual[] = [];

  private constructor(options: NodesOptions, random: SeededRandom, callee: CrashCallee) {
    this.#options = options;
    this.#folder = temporaryFolder();
    this.#interfaces = crashInterfaces(options.copies);
    this.callee = callee;
    this.load = new OrderLoad({
      path: ORDERS_PATH,
      sources: options.sources ?? 6,
      pauseMsMax: options.sourcePauseMsMax ?? 60,
      random,
    });
  }

  /** Resolves when all nodes are up, orders come in, and every node calls. */
  static async start(options: NodesOptions): Promise<NodesUnderLoad> {
    const random = new SeededRandom(options.seed);
    const callee = await CrashCallee.start({
      failingShare: FAILING_SHARE,
      delayMsMax: options.answerMsMax ?? ANSWER_MS_MAX,
      random: random.fork(),
      nodes: options.commands.length,
      ...(options.calleeHost === undefined ? {} : { host: options.calleeHost }),
    });
    const nodes = new NodesUnderLoad(options, random.fork(), callee);
    try {
      await nodes.#begin();
      return nodes;
    } catch (error) {
      await nodes.remove();
      throw error;
    }
  }

  get count(): number {
    return this.#nodes.length;
  }

  /** Of a `serve` that is up. */
  get address(): string {
    const { address } = this.#nodes.find((one) => one.address !== '') ?? {};
    assert.ok(address, 'some serve is up');
    return address;
  }

  process(node: number): NodeProcess {
    return this.#at(node).process;
  }

  async end(node: number, signal: Death['signal']): Promise<Death> {
    const one = this.#at(node);
    const death = await one.process.end(signal);
    one.address = '';
    this.#moveLoad();
    this.lives.push({ node, spawnedAt: one.bornAt, death });
    this.errors += one.process.errors;
    return death;
  }

  /** Begins a start; the node is ready when its process says so. */
  spawn(node: number): NodeProcess {
    const { url, commands, through } = this.#options;
    const process = new NodeProcess(this.#folder.path, {
      command: commands[node] as 'serve' | 'worker',
      settings: {
        ORDERHOOK_DATABASE_URL: typeof url === 'string' ? url : url(node),
        ORDERHOOK_ENCRYPTION_KEY: ENCRYPTION_KEY,
        ORDERHOOK_EGRESS_PROXY: this.callee.proxyOf(node),
      },
      ...(through ? { through: through(node) } : {}),
    });
    const one = { process, bornAt: process.spawnedAt, address: '' };
    this.#nodes[node] = one;
    process.ready.then(
      (address) => {
        this.readyMs.push(performance.now() - process.spawnedAt);
        if (process.hasEnded) return;
        // A worker has an address, and no API behind it.
        if (process.command === 'serve') one.address = address;
        this.#moveLoad();
      },
      () => {}, // whoever waits for it hears of it
    );
    return process;
  }

  /**
   * A fault that the nodes live through. It is over when `fault` resolves, and what had been on its way has arrived; what is
   * repeated later is charged to it.
   * @param nodes whom it concerns; undefined: all
   */
  async incident(fault: () => Promise<void>, nodes = [...this.#nodes.keys()]): Promise<void> {
    const faultyFrom = performance.now();
    await fault();
    await wait(SETTLE_MS);
    const over = performance.now();
    const death = { signal: 'SIGKILL', sentAt: over, endedAt: over, exitCode: null } as const;
    for (const node of nodes) {
      this.lives.push({ node, spawnedAt: this.#at(node).bornAt, faultyFrom, death });
      this.#at(node).bornAt = over;
    }
  }

  /** Orders are acknowledged and calls are made, from now on, in these numbers. */
  async goOn(what: string, calls = 200, orders = 50, withinMs = 40_000): Promise<void> {
    const [called, acknowledged] = [this.callee.calls.length, this.load.acknowledged.length];
    const goesOn = () =>
      this.callee.calls.length >= called + calls && this.load.acknowledged.length >= acknowledged + orders;
    await until(`${what}: orders are taken and called`, goesOn, withinMs).catch((error: Error) => {
      const came = [this.load.acknowledged.length - acknowledged, this.callee.calls.length - called];
      throw new Error(`${error.message}; ${came[0]} orders and ${came[1]} calls came. ${this.told()}`);
    });
  }

  /** Calls of one node that began at `from` or later. */
  callsOf(node: number, from = 0): number {
    return this.callee.calls.filter((call) => call.node === node && call.receivedAt >= from).length;
  }

  /** The interfaces that this node called for in the last half second. */
  heldBy(node: number): string[] {
    const from = performance.now() - 500;
    const last = new Map<string, number | undefined>();
    for (const call of this.callee.calls) {
      if (call.receivedAt >= from) last.set(call.interfaceName, call.node);
    }
    return [...last].filter(([, worker]) => worker === node).map(([name]) => name);
  }

  /** Deliveries that this node made before a moment and another made again: what came of them was not committed. */
  repeatedOf(node: number, before: number): CalleeCall[] {
    const { calls } = this.callee;
    return calls.filter(
      (call) =>
        call.node === node &&
        call.receivedAt < before &&
        call.status === 200 &&
        calls.some(
          (other) =>
            other !== call &&
            other.status === 200 &&
            other.interfaceName === call.interfaceName &&
            other.orderId === call.orderId,
        ),
    );
  }

  /** What the call log says of these orders: how often each was delivered. */
  async timesLogged(calls: readonly CalleeCall[]): Promise<number[]> {
    const times: number[] = [];
    for (const { interfaceName, orderId } of calls) {
      const { interfaceId } = this.#manual.find(({ name }) => name === interfaceName) as Manual;
      const path = `${INSTITUTION}/interfaces/${interfaceId}/calls?orderId=${orderId}&outcome=DELIVERED`;
      times.push((await api<{ items: unknown[] }>(this.address, 'GET', path)).items.length);
    }
    return times;
  }

  told(): string {
    return (this.errors + this.#nodes.map(({ process }) => process.errors).join('')).slice(-4_000);
  }

  /** No more orders; all queues are emptied, all nodes end, and the callee's log is judged. */
  async finish(): Promise<NodesVerdict> {
    await this.load.end();
    this.callee.failingShare = 0;
    const drainedFrom = performance.now();
    const violations = await drain(this.address, this.#manual);
    for (const node of this.#nodes.keys()) {
      const { exitCode } = await this.end(node, 'SIGTERM');
      if (exitCode !== 0) violations.push(`node ${node} ended with code ${exitCode} at the end`);
    }
    const interfaces = this.#interfaces.map((one) => judged(one, this.load));
    const verdict = judge({ calls: this.callee.calls, lives: this.lives, interfaces, drainedFrom });
    return { ...verdict, violations: [...violations, ...verdict.violations], interfaces };
  }

  /** Whatever state it is in. */
  async remove(): Promise<void> {
    this.load.giveUp();
    for (const { process } of this.#nodes) {
      if (process.hasEnded) continue;
      process.thaw();
      await process.end('SIGKILL');
    }
    await this.callee.stop();
    this.#folder.remove();
  }

  async #begin(): Promise<void> {
    for (const node of this.#options.commands.keys()) this.spawn(node);
    for (const node of this.#options.commands.keys()) await this.process(node).ready;
    this.#manual = await setUpVenue(this.address, this.callee.host, this.#interfaces);
    this.#moveLoad();
    await until('every node calls', () => this.#options.commands.every((_, node) => this.callsOf(node) > 0));
  }

  /** Sources talk to every `serve` that is up. */
  #moveLoad(): void {
    if (this.#manual.length === 0) return;
    this.load.moveTo(...this.#nodes.map(({ address }) => address).filter((address) => address !== ''));
  }

  #at(node: number) {
    const one = this.#nodes[node];
    assert.ok(one, `there is a node ${node}`);
    return one;
  }
}

/** The promises of the contract, after what was done to the nodes. */
export function assertKept(verdict: NodesVerdict, told = ''): void {
  assert.deepEqual(verdict.violations.slice(0, 10), [], told);
  assert.equal(verdict.lost, 0);
  assert.ok(verdict.delivered > 0);
}
