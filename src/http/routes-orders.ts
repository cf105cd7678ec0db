/** Orders: in, one by one or as a stream of lines, and to look at. */
import { Type } from 'typebox';
import { AppError } from '../model/app-error.ts';
import { DELIVERY_STATES } from '../model/delivery.ts';
import { ORDER_BYTES_MAX } from '../model/limits.ts';
import { type OrderId, parseOrderId, readOrderDetails } from '../model/order.ts';
import type { Store } from '../store/store.ts';
import { LARGE_CHARACTERS, readLargeOrder } from './large-text.ts';
import { importOrders, REJECTED_LINES_TOLD_MAX } from './order-import.ts';
import { OrderIntake } from './order-intake.ts';
import {
  found,
  ID,
  MOMENT,
  ORDER_ID,
  orderIdFrom,
  PAGE_FIELDS,
  pageAnswer,
  pageRequest,
  pageSchema,
  writeMoment,
  writeOptionalMoment,
} from './pages.ts';
import { NOTHING, type Route, route } from './route.ts';
import { untilStopping } from './stoppable-chunks.ts';
import type { WorkTurns } from './work-turns.ts';

const TAG = 'Orders';
/** Of one order: more than an order is closed in any practice. */
const CLOSINGS_SHOWN_MAX = 100;

/** For the document only; `readOrderDetails` decides. */
const ORDER_DETAILS = Type.Object(
  { orderId: Type.Integer({ minimum: 1, format: 'int64' }), orderState: Type.String() },
  { additionalProperties: true, description: 'OrderDetailsData' },
);
const CLOSING = Type.Object({ closingId: ID, closedAt: MOMENT });
const ORDER_STORED = Type.Object({
  orderId: ORDER_ID,
  orderState: Type.String(),
  closing: Type.Optional(CLOSING),
});

export function orderRoutes(parts: {
  store: Store;
  importStore: Pick<Store, 'putOrders'>;
  clock: () => number;
  stopping: AbortSignal;
  turns: WorkTurns;
  importProgressMs: number;
}): Route[] {
  const { store, importStore, clock, stopping, turns, importProgressMs } = parts;
  const intake = new OrderIntake(parts);
  return [
    route({
      method: 'PUT',
      path: '/api/v1/institutions/:code/orders/:orderId',
      role: 'SOURCE',
      tag: TAG,
      summary: 'Store an order; closes it when its state is CLOSED and was not before',
      description: 'The body is the OrderDetailsData. It is kept as it is, all fields and all digits.',
      body: 'json_text',
      bodySchema: ORDER_DETAILS,
      bodyBytesMax: ORDER_BYTES_MAX,
      answers: { 200: ORDER_STORED },
      async handle({ body, params, institution }) {
        const order =
          body.length < LARGE_CHARACTERS
            ? readOrderDetails(body)
            : await readLargeOrder(body, { turns, key: institution.id });
        if (order.orderId !== params.orderId) throw orderIdDiffers(order.orderId, params.orderId);
        const { orderId, orderState, closing } = await intake.put({
          ...order,
          institutionId: institution.id,
        });
        return { orderId, orderState, ...(closing && { closing: closingAnswer(closing) }) };
      },
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/orders/:orderId/close',
      role: 'SOURCE',
      tag: TAG,
      summary: 'Close a stored order; closing a closed one changes nothing',
      answers: {
        200: Type.Object({
          orderId: ORDER_ID,
          closingId: ID,
          closedAt: MOMENT,
          alreadyClosed: Type.Boolean(),
        }),
      },
      async handle({ params, institution }) {
        const orderId = orderIdFrom(params.orderId);
        const closed = found(await store.closeOrder(institution.id, orderId, clock()), 'order', orderId);
        return { orderId, ...closingAnswer(closed.closing), alreadyClosed: closed.alreadyClosed };
      },
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/orders/import',
      role: 'SOURCE',
      tag: TAG,
      summary: 'Store many orders, one OrderDetailsData a line (NDJSON)',
      description:
        'Streamed, of any length. A bad line rejects itself only. Blank lines do not count. Of the rejected lines ' +
        `the first ${REJECTED_LINES_TOLD_MAX} are listed.`,
      body: 'ndjson',
      answers: {
        200: Type.Object({
          received: Type.Integer(),
          stored: Type.Integer(),
          closed: Type.Integer(),
          rejected: Type.Array(Type.Object({ line: Type.Integer(), message: Type.String() })),
          rejectedCount: Type.Integer(),
        }),
      },
      async handle({ body, institution, request }) {
        // Without a body there is nothing to parse, hence no stream: an empty import.
        if (body === undefined) return { received: 0, stored: 0, closed: 0, rejected: [], rejectedCount: 0 };
        try {
          // Destroying the request would destroy the connection, and with it the answer about the failure.
          const chunks = untilStopping<Buffer>(body.iterator({ destroyOnReturn: false }), stopping);
          const institutionId = institution.id;
          return await importOrders(chunks, {
            institutionId,
            store: importStore,
            clock,
            turns,
            progressMs: importProgressMs,
            stopping,
          });
        } catch (error) {
          body.resume();
          if (!request.raw.destroyed || error instanceof AppError) throw error;
          throw new AppError('invalid_json', 'The connection was lost before the import had ended.', {
            cause: error,
          });
        }
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/orders',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'List the orders, greatest id first',
      query: Type.Object({
        state: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
        query: Type.Optional(
          Type.String({ maxLength: 64, description: 'an order id, of at most 64 characters' }),
        ),
        ...PAGE_FIELDS,
      }),
      answers: {
        200: pageSchema(
          Type.Object({
            orderId: ORDER_ID,
            orderState: Type.String(),
            updatedAt: MOMENT,
            lastClosedAt: Type.Optional(MOMENT),
            removedAt: Type.Optional(MOMENT),
          }),
        ),
      },
      async handle({ query: { state, query = '', ...page }, institution }) {
        const sought = query.trim();
        const orderId = parseOrderId(sought);
        // No order has such an id.
        if (sought !== '' && orderId === undefined) return { items: [], next: null };
        const orders = await store.orders(institution.id, {
          ...pageRequest(page),
          ...(state !== undefined && { state }),
          ...(orderId !== undefined && { orderId }),
        });
        return pageAnswer(orders, ({ orderId, orderState, updatedAt, lastClosedAt, removedAt }) => ({
          orderId,
          orderState,
          updatedAt: writeMoment(updatedAt),
          ...writeOptionalMoment('lastClosedAt', lastClosedAt),
          ...writeOptionalMoment('removedAt', removedAt),
        }));
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/orders/:orderId',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'One order: its details, its closings, and how far each interface is with them',
      answers: {
        200: Type.Object({
          orderId: ORDER_ID,
          orderState: Type.String(),
          updatedAt: MOMENT,
          removedAt: Type.Optional(MOMENT),
          closings: Type.Array(CLOSING),
          deliveries: Type.Array(
            Type.Object({
              interfaceId: ID,
              closingId: ID,
              state: Type.Enum(DELIVERY_STATES),
              attempts: Type.Integer(),
              nextAttemptAt: Type.Optional(MOMENT),
              because: Type.Optional(Type.String({ description: 'why the last attempt failed' })),
            }),
          ),
          details: Type.Optional(
            Type.Object(
              {},
              {
                additionalProperties: true,
                description: 'OrderDetailsData, as it was given; absent when it was removed',
              },
            ),
          ),
        }),
      },
      async handle({ params, institution, reply }) {
        const orderId = orderIdFrom(params.orderId);
        const order = found(await store.order(institution.id, orderId), 'order', orderId);
        const closings = await store.closingsOf(institution.id, orderId, CLOSINGS_SHOWN_MAX);
        const deliveries = await store.deliveriesOf(institution.id, closings);
        const answer = JSON.stringify({
          orderId,
          orderState: order.orderState,
          updatedAt: writeMoment(order.updatedAt),
          ...writeOptionalMoment('removedAt', order.removedAt),
          closings: closings.map(closingAnswer),
          deliveries: deliveries.map((delivery) => ({
            interfaceId: String(delivery.interfaceId),
            closingId: String(delivery.closingId),
            state: delivery.state,
            attempts: delivery.attempts,
            ...writeOptionalMoment('nextAttemptAt', delivery.nextAttemptAt),
            ...(delivery.because !== undefined && { because: delivery.because }),
          })),
        });
        // The details go out as they came in: parsing them would cost numbers their digits.
        reply.type('application/json; charset=utf-8');
        return order.details === undefined ? answer : `${answer.slice(0, -1)},"details":${order.details}}`;
      },
    }),
    route({
      method: 'DELETE',
      path: '/api/v1/institutions/:code/orders/:orderId',
      role: 'OPERATOR',
      tag: TAG,
      summary: "Remove an order's details, and what callees answered about it",
      description:
        'That there was such an order stays, with its closings and what came of them. Deliveries that wait or are owed are ' +
        'still made. Removing it again does no harm.',
      answers: { 204: NOTHING },
      async handle({ params, institution }) {
        const orderId = orderIdFrom(params.orderId);
        const wasThere = await store.removeOrder(institution.id, orderId, clock());
        found(wasThere || undefined, 'order', orderId);
      },
    }),
  ];
}

function closingAnswer(closing: { closingId: number; closedAt: number }): {
  closingId: string;
  closedAt: string;
} {
  return { closingId: String(closing.closingId), closedAt: writeMoment(closing.closedAt) };
}

function orderIdDiffers(inBody: OrderId, inPath: string): AppError {
  const message = `The order in the body is ${inBody}, the path names ${inPath}.`;
  return new AppError('invalid_value', message, {
    problems: [{ path: 'orderId', code: 'order_id_differs', message }],
  });
}
