/**
 * The whole product in one command: a service with a sample institution, a partner that is called and reads back, and
 * orders that close. Everything is set up through the public API, as an operator would, and told step by step.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { Command } from 'commander';
import { startService } from '../app.ts';
import { StartError } from '../model/app-error.ts';
import type { JsonObject } from '../model/lossless-json.ts';
import { createLog } from '../observe/log.ts';
import type { Settings } from '../settings.ts';
import { ApiClient } from './api-client.ts';
import { OrderReader, type ReceivedCall, startCallee } from './callee.ts';
import { untilAskedToEnd } from './process-end.ts';
import { sampleOrder } from './sample-orders.ts';
import { addSettingFlags, settingsOf } from './setting-flags.ts';

const INSTITUTION = 'DEMO';
const FIRST_ORDERS = 60;
const ONCE_WITHIN_MS = 60_000;
const PAUSE_BETWEEN_ORDERS_MS = 3_000;

export function addDemo(program: Command): void {
  const command = program
    .command('demo')
    .description('See it work: a sample institution, a partner, and orders that close.')
    .option('--once', `end after the first ${FIRST_ORDERS} orders were delivered and read back`, false);
  addSettingFlags(command, ['host', 'port', 'logLevel']).action(async ({ once }: { once: boolean }) => {
    const given = settingsOf(command);
    const dataFolder = mkdtempSync(join(tmpdir(), 'orderhook-demo-'));
    // Also when whoever reads what it says has gone, which ends it where it is.
    const removeFolder = () => rmSync(dataFolder, { recursive: true, force: true });
    process.once('exit', removeFolder);
    const adminKey = given.adminKey === '' ? `demo-${randomBytes(12).toString('hex')}` : given.adminKey;
    const logLevel = given.logLevel === 'info' ? 'warn' : given.logLevel;
    const own = { dataFolder, adminKey, logLevel, databaseUrl: '', egressProxy: undefined };
    const settings: Settings = { ...given, ...own };
    try {
      await demo(settings, once);
    } finally {
      removeFolder();
    }
  });
}

function say(text = ''): void {
  process.stdout.write(`${text}\n`);
}

async function demo(settings: Settings, once: boolean): Promise<void> {
  say(
    'Orderhook demo. Orders of a made-up venue close; each closing calls a partner, and the partner reads the order back.',
  );
  say();
  const service = await startSomewhere(settings);
  const readBack = new ReadBacks();
  try {
    say(`1. The service runs at ${service.address}, with its data in a temporary folder.`);
    say(`   API key of the administrator: ${settings.adminKey}`);
    const api = new ApiClient(`${service.address}/api/v1`, settings.adminKey);
    await api.call('POST', '/institutions', {
      code: INSTITUTION,
      name: 'Demo venue',
      timeZone: 'Europe/Zurich',
    });
    say(`2. An institution, ${INSTITUTION}: everything below belongs to it, and nobody else sees it.`);
    const identity = { partner: 'ACME-CRM', operator: 'DEMO-OP' };
    const { secret } = await api.call<{ secret: string }>(
      'POST',
      `/institutions/${INSTITUTION}/partners`,
      identity,
    );
    say(`3. A partner, ${identity.partner}, with a secret to read orders back with.`);

    const reader = new OrderReader(service.address, { ...identity, secret });
    const callee = await startCallee({
      host: '127.0.0.1',
      port: 0,
      status: 200,
      delayMs: 0,
      onCall: (call) => void readBack.add(call, reader),
    });
    try {
      await setUp(api, callee.address);
      await play(api, readBack, once, service.address, service.broken);
    } finally {
      await callee.close();
    }
  } finally {
    await service.stop();
  }
}

/** On the port of the settings, or on any free one when that is taken. */
async function startSomewhere(settings: Settings) {
  const log = createLog(settings.logLevel);
  try {
    return await startService(settings, log);
  } catch (error) {
    if (!(error instanceof StartError) || settings.port === 0) throw error;
    return startService({ ...settings, port: 0 }, log);
  }
}

async function setUp(api: ApiClient, callee: string): Promise<void> {
  const institution = `/institutions/${INSTITUTION}`;
  say(`4. The partner's server listens at ${callee}.`);
  const destination = new URL(callee).host;
  const opening = await api.call<{ id: string }>('POST', `${institution}/proxy-openings`, {
    destination,
    reason: 'The demo partner runs on this machine',
  });
  await api.call('POST', `${institution}/proxy-openings/${opening.id}/open`, { allowPrivate: true });
  say(
    `5. A proxy opening for ${destination}: without one, no call leaves. It is a private address, so an administrator allowed it.`,
  );
  const url = `${callee}/order-closed?id=\${orderId}`;
  const created = await api.call<{ id: string }>('POST', `${institution}/interfaces`, {
    name: 'Tell the CRM',
    type: 'ORDER_WEBHOOK_V1',
    url,
    method: 'GET',
  });
  say(`6. An interface: GET ${url}`);
  await api.call('POST', `${institution}/interfaces/${created.id}/schedules`, {
    name: 'As they close',
    launch: 'AUTOMATIC',
    frequencyMinutes: 0,
  });
  say('7. A schedule: continuous, in batches of at most 60.');
}

async function play(
  api: ApiClient,
  readBacks: ReadBacks,
  once: boolean,
  address: string,
  broken: Promise<never>,
): Promise<void> {
  say(`8. ${FIRST_ORDERS} orders close now. Each line below is one call and what the partner read back:`);
  say();
  const deadline = Date.now() + ONCE_WITHIN_MS;
  for (let number = 0; number < FIRST_ORDERS; number += 1) await close(api, sampleOrder(number, new Date()));
  while (readBacks.count < FIRST_ORDERS && Date.now() < deadline && readBacks.failure === undefined)
    await wait(20);
  if (readBacks.failure !== undefined)
    throw new StartError(`The partner could not read back: ${readBacks.failure}`);
  if (readBacks.count < FIRST_ORDERS) {
    throw new StartError(`Only ${readBacks.count} of ${FIRST_ORDERS} orders were read back within 60 s.`);
  }
  say();
  say(`${FIRST_ORDERS} orders closed, ${readBacks.count} delivered and read back.`);
  if (once) return;
  say();
  say(
    `An order closes every ${PAUSE_BETWEEN_ORDERS_MS / 1_000} seconds now. The API is described at ${address}/docs. Ctrl-C ends the demo.`,
  );
  say();
  const ended = untilAskedToEnd().then(() => 'ended' as const);
  for (let number = FIRST_ORDERS; ; number += 1) {
    await close(api, sampleOrder(number, new Date()));
    const pause = wait(PAUSE_BETWEEN_ORDERS_MS, 'on' as const, { ref: false });
    if ((await Promise.race([ended, pause, broken])) === 'ended') return;
  }
}

async function close(api: ApiClient, order: JsonObject): Promise<void> {
  await api.call('PUT', `/institutions/${INSTITUTION}/orders/${order.orderId}`, order);
}

/** The partner's side: reads back each order that it is told of. */
class ReadBacks {
  count = 0;
  failure: string | undefined;

  async add({ method, target, orderId }: ReceivedCall, reader: OrderReader): Promise<void> {
    if (orderId === undefined) return;
    try {
      const { orderDetailsData: order } = JSON.parse(await reader.read(orderId)) as {
        orderDetailsData: {
          orderType: string;
          saleAmount: number;
          catalogCurrency: string;
          operationDatas: { product: string }[];
        };
      };
      const amount = (order.saleAmount / 1_000).toFixed(2);
      const products = order.operationDatas.map(({ product }) => product).join(', ');
      say(
        `   ${method} ${target}  ->  ${order.orderType} of ${amount} ${order.catalogCurrency}: ${products}`,
      );
      this.count += 1;
    } catch (error) {
      this.failure ??= (error as Error).message;
    }
  }
}
