/** What the crash and fault runs work with: an institution, its interfaces with their schedules, and how they are drained. */
import type { OrderLoad } from './crash-load.ts';
import type { JudgedInterface } from './crash-verdict.ts';
import { api } from './node-process.ts';

export const INSTITUTION = '/institutions/VENUE';
export const ORDERS_PATH = `/api/v1${INSTITUTION}/orders`;
const DRAIN_MS = 120_000;

type CrashInterface = {
  /** The first segment of its path, by which the callee knows it. */
  readonly name: string;
  readonly concurrency: number;
  readonly settings: {
    readonly method: string;
    readonly path: string;
    readonly payload?: string;
    readonly filter?: string;
  };
};

/** By GET, by POST with a payload, by GET with a filter; `copies` of each. */
export function crashInterfaces(copies = 1): CrashInterface[] {
  return Array.from({ length: copies }, (_, copy): CrashInterface[] => {
    const suffix = copy === 0 ? '' : String(copy + 1);
    return [
      {
        name: `get${suffix}`,
        concurrency: 8,
        settings: { method: 'GET', path: `/get${suffix}/\${orderId}` },
      },
      {
        name: `post${suffix}`,
        concurrency: 4,
        settings: { method: 'POST', path: `/post${suffix}`, payload: '{"id": ${orderId}}' },
      },
      {
        name: `sales${suffix}`,
        concurrency: 16,
        settings: {
          method: 'GET',
          path: `/sales${suffix}/\${orderId}`,
          filter: 'OrderDetailsData.OrderType=SALE',
        },
      },
    ];
  }).flat();
}

type Created = { readonly id: string };
export type Manual = { readonly name: string; readonly interfaceId: string; readonly scheduleId: string };

/** The institution, its interfaces each with a continuous schedule, and one to be run by hand at the end. */
export async function setUpVenue(
  address: string,
  host: string,
  interfaces: readonly CrashInterface[],
): Promise<Manual[]> {
  await api(address, 'POST', '/institutions', { code: 'VENUE', name: 'Venue' });
  const opening = await api<Created>(address, 'POST', `${INSTITUTION}/proxy-openings`, { destination: host });
  await api(address, 'POST', `${INSTITUTION}/proxy-openings/${opening.id}/open`, { allowPrivate: true });
  const manual: Manual[] = [];
  for (const { name, concurrency, settings } of interfaces) {
    const { path, ...rest } = settings;
    const { id } = await api<Created>(address, 'POST', `${INSTITUTION}/interfaces`, {
      name,
      type: 'ORDER_WEBHOOK_V1',
      ...rest,
      url: `http://${host}${path}`,
      concurrency,
    });
    const schedules = `${INSTITUTION}/interfaces/${id}/schedules`;
    await api(address, 'POST', schedules, {
      name: 'As they close',
      launch: 'AUTOMATIC',
      frequencyMinutes: 0,
    });
    const byHand = { name: 'By hand', launch: 'MANUAL', batchSize: 10_000 };
    const schedule = await api<Created>(address, 'POST', schedules, byHand);
    manual.push({ name, interfaceId: id, scheduleId: schedule.id });
  }
  return manual;
}

/** Runs by hand until nothing waits and nothing is owed; a run by hand takes what is owed without regard to when it is due. */
export async function drain(address: string, manual: readonly Manual[]): Promise<string[]> {
  const deadline = performance.now() + DRAIN_MS;
  const violations: string[] = [];
  for (const { name, interfaceId, scheduleId } of manual) {
    const path = `${INSTITUTION}/interfaces/${interfaceId}/queue`;
    for (;;) {
      const queue = await api<{ waiting: number; owed: number; abandoned: number }>(address, 'GET', path);
      if (queue.abandoned > 0) violations.push(`${name}: ${queue.abandoned} deliveries were abandoned`);
      if (queue.waiting + queue.owed === 0) break;
      if (performance.now() > deadline) {
        violations.push(`${name}: the queue did not get empty: ${JSON.stringify(queue)}`);
        break;
      }
      await api(address, 'POST', `${INSTITUTION}/schedules/${scheduleId}/run?wait=true`);
    }
  }
  return violations;
}

/** What its callee is to have heard of, of all that was acknowledged. */
export function judged({ name, concurrency, settings }: CrashInterface, load: OrderLoad): JudgedInterface {
  const isWanted = (orderType: string) => settings.filter === undefined || orderType === 'SALE';
  const ids = (wanted: boolean) =>
    new Set(
      load.acknowledged
        .filter(({ orderType }) => isWanted(orderType) === wanted)
        .map(({ orderId }) => orderId),
    );
  return { name, concurrency, wanted: ids(true), unwanted: ids(false) };
}
