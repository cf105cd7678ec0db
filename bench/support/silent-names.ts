/**
 * The row of names that never resolve: runs by itself where the names are its own (`own-names.ts`), and sends what it
 * measured.
 *
 * Everybody else is known by names too, one an interface, which resolve. Each round has a fresh process of the service, so
 * that every name is new to it and no look-up of the round before is still under way.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { freePort } from '../../test/support/postgres-server.ts';
import { Callee } from './callee.ts';
import { DnsServer } from './dns-server.ts';
import { size } from './options.ts';
import { Others, type RatesBeside, ratesBeside } from './others.ts';
import { endAfter, Folder } from './owned.ts';
import { InstitutionClient, type InterfaceId, Service } from './service.ts';

export type SilentNames = RatesBeside & {
  /** Different names that never resolve, of which the DNS server was asked. */
  readonly namesAsked: number;
};

export const [OTHERS, DEAD_NAMES] = [49, 50];
const [LIVE, DEAD] = ['live.test', 'dead.test'];
const ORDERS = size(1_000, 300);
const DEAD_ORDERS = 200;
const WARM_UP_ORDERS = size(10_000, 3_000);
const ROUNDS = size(4, 2);
const ROUND_MS = size(30_000, 15_000);
/** Look-ups of dead names under way before a round begins: `getaddrinfo` does two at a time. */
const NAMES_ASKED_MIN = 2;
const STEP_MS = 60_000;

async function measure(): Promise<SilentNames> {
  await using resources = new AsyncDisposableStack();
  const dns = resources.use(await DnsServer.start({ live: LIVE, dead: DEAD }));
  const callee = resources.use(await Callee.start());
  const folder = resources.use(new Folder());
  const port = await freePort();
  const start = () => Service.start({ folder: folder.path, settings: { ORDERHOOK_PORT: String(port) } });

  let service = await start();
  resources.defer(() => service.stop());
  const calleePort = new URL(callee.url).port;
  const liveHost = (number: number) => `other-${number}.${LIVE}:${calleePort}`;
  const numbers = Array.from({ length: OTHERS }, (_, index) => index + 1);
  await service.setUp(...numbers.map(liveHost));
  const urlOf = (number: number) => `http://${liveHost(number)}`;
  const others = await Others.add({ callee, client: service, count: OTHERS, ordersPerRound: ORDERS, urlOf });

  // While they are saved, the dead names do not exist, which is found out at once.
  dns.isSilent = false;
  const neighbour = new InstitutionClient(service.address, 'NEIGHBOUR');
  const deadHosts = Array.from({ length: DEAD_NAMES }, (_, index) => `name-${index + 1}.${DEAD}:80`);
  await neighbour.setUp(...deadHosts);
  const deadIds: InterfaceId[] = [];
  for (const host of deadHosts) {
    deadIds.push(
      await neighbour.addInterface({ calleeUrl: `http://${host}`, batchSize: 60, concurrency: 8 }),
    );
  }
  await neighbour.import(0, DEAD_ORDERS);
  const setDeadActive = (active: boolean) =>
    Promise.all(deadIds.map((id) => neighbour.setActive(id, active)));

  const warmUp = new InstitutionClient(service.address, 'WARM-UP');
  await warmUp.setUp(callee.host);
  const warmUpId = await warmUp.addInterface({ calleeUrl: callee.url, batchSize: 500, active: true });
  let warmUpOrders = 0;

  let namesAsked = 0;
  const rates = await ratesBeside(
    others,
    {
      async begin() {
        dns.forget();
        dns.isSilent = true;
        await setDeadActive(true);
        const deadline = performance.now() + STEP_MS;
        while (dns.namesAsked(DEAD) < NAMES_ASKED_MIN) {
          if (performance.now() > deadline) throw new Error('Nobody asks for the names that never resolve');
          await wait(10);
        }
      },
      async end() {
        namesAsked = Math.max(namesAsked, dns.namesAsked(DEAD));
        dns.isSilent = false;
        await setDeadActive(false);
      },
    },
    {
      rounds: ROUNDS,
      withinMs: ROUND_MS,
      timed: 'from the start',
      async beforeRound() {
        await service.stop();
        service = await start();
        await warmUp.import(warmUpOrders, WARM_UP_ORDERS);
        warmUpOrders += WARM_UP_ORDERS;
        await warmUp.untilDrained(warmUpId, STEP_MS);
      },
    },
  );
  return { ...rates, namesAsked };
}

if (import.meta.main) {
  endAfter(8);
  process.send?.(await measure());
  process.disconnect?.();
}
