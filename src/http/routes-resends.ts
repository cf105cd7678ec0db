/** Resends: orders that are sent again by hand, beside the queue and without moving it. */
import { Type } from 'typebox';
import { AppError } from '../model/app-error.ts';
import { ORDER_ID_MAX, RESEND_ORDERS_MAX } from '../model/limits.ts';
import { parseOrderId } from '../model/order.ts';
import type { Problem } from '../model/problem.ts';
import type { ResendSelection, Store } from '../store/store.ts';
import { found, ID, idFromPath, MOMENT, momentProblems, orderIdsGiven, readMoment } from './pages.ts';
import { type Route, route } from './route.ts';

const TAG = 'Resends';

/** All the order ids that one may name, each with its quotes and some blanks. */
const RESEND_BYTES_MAX = 512 * 1024;
/** Wrong order ids that are told one by one; of the rest, how many they are. */
const WRONG_ORDER_IDS_TOLD_MAX = 20;

const RESEND = Type.Object({
  orderIds: Type.Optional(orderIdsGiven(RESEND_ORDERS_MAX)),
  abandoned: Type.Optional(Type.Literal(true, { description: 'true, or left out' })),
  owed: Type.Optional(Type.Literal(true, { description: 'true, or left out' })),
  closedFrom: Type.Optional(MOMENT),
  closedTo: Type.Optional(MOMENT),
  dryRun: Type.Optional(Type.Boolean({ default: false })),
});

const COUNT = Type.Integer({
  description:
    'Closings that were found, before the filter. An order that was named more than once counts once; one that is unknown, ' +
    'never closed or still waiting in the queue is left out.',
});

/** A resend as it is asked for. */
type Asked = {
  readonly orderIds?: readonly string[];
  readonly abandoned?: true;
  readonly owed?: true;
  readonly closedFrom?: string;
  readonly closedTo?: string;
};

export function resendRoutes(parts: {
  store: Pick<Store, 'countResend' | 'requestResend' | 'cancelResend' | 'executionById'>;
  clock: () => number;
}): Route[] {
  const { store, clock } = parts;
  return [
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId/resend',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Send orders again; the queue does not move',
      description:
        'Which ones, in exactly one of four ways: `orderIds`, the newest closing of each of these orders, where those that ' +
        'are unknown, never closed or still waiting in the queue are left out; `abandoned`, all deliveries that were given up; `owed`, all that failed and would be called again later, now; or `closedFrom` and ' +
        '`closedTo`, the closings from the one moment up to and without the other, of those that the queue has passed, if ' +
        'the filter lets them through. With `dryRun` nothing starts, and the answer is the count alone.',
      body: RESEND,
      keepsNumbers: true,
      bodyBytesMax: RESEND_BYTES_MAX,
      rules: ({ body, given }) => resendProblems(body, given),
      answers: {
        202: Type.Object({ count: COUNT, executionId: ID }),
        200: Type.Object({ count: COUNT }, { description: 'Of a dry run.' }),
      },
      usualStatus: 202,
      async handle({ body, params, institution, reply }) {
        const interfaceId = idFromPath(params.interfaceId, 'interface');
        const selection = selectionOf(body);
        if (body.dryRun) {
          const count = await store.countResend(institution.id, interfaceId, selection);
          reply.code(200);
          return { count: found(count, 'interface', params.interfaceId) };
        }
        const requested = await store.requestResend(institution.id, interfaceId, selection, clock());
        const { count, execution } = found(requested, 'interface', params.interfaceId);
        return { count, executionId: String(execution.id) };
      },
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/executions/:executionId/cancel',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Cancel a resend that has not ended',
      description:
        'Calls that have begun are finished; the execution ends soon after, and says that it was cancelled.',
      answers: { 202: Type.Object({ executionId: ID }) },
      async handle({ params, institution }) {
        const id = idFromPath(params.executionId, 'execution');
        const execution = await store.executionById(institution.id, id);
        const { trigger } = found(execution, 'execution', params.executionId);
        if (trigger !== 'RESEND') {
          throw new AppError('conflict', `Execution ${id} is no resend; only a resend can be cancelled.`);
        }
        if (!(await store.cancelResend(institution.id, id))) {
          throw new AppError('conflict', `Resend ${id} has ended.`);
        }
        return { executionId: String(id) };
      },
    }),
  ];
}

// -------------------------------------------------------------------------------------------------------------- rules

/** The ways to say what is sent again, each with its fields. */
const SELECTIONS: readonly (readonly (keyof Asked)[])[] = [
  ['orderIds'],
  ['abandoned'],
  ['owed'],
  ['closedFrom', 'closedTo'],
];
const SELECTIONS_TOLD = 'orderIds, or abandoned: true, or owed: true, or closedFrom and closedTo';

function resendProblems(body: Asked, given: ReadonlySet<string>): Problem[] {
  return [
    ...selectionProblems(given),
    ...orderIdProblems(body.orderIds ?? []),
    ...spanProblems(body.closedFrom, body.closedTo),
  ];
}

/** By what was given, right or wrong: a field with a wrong value is not missing as well. */
function selectionProblems(given: ReadonlySet<string>): Problem[] {
  const begun = SELECTIONS.filter((fields) => fields.some((field) => given.has(field)));
  if (begun.length === 0) {
    return [
      { path: '', code: 'selection_missing', message: `Say what is to be sent again: ${SELECTIONS_TOLD}.` },
    ];
  }
  if (begun.length > 1) {
    return begun
      .flat()
      .filter((field) => given.has(field))
      .map((path) => ({
        path,
        code: 'selection_ambiguous',
        message: `${path} is one of several ways to say what is to be sent again; give one: ${SELECTIONS_TOLD}.`,
      }));
  }
  return (begun[0] ?? [])
    .filter((field) => !given.has(field))
    .map((path) => ({
      path,
      code: 'missing',
      message: `${path} is missing: a time span has closedFrom and closedTo.`,
    }));
}

function orderIdProblems(orderIds: readonly string[]): Problem[] {
  const wrong = orderIds.flatMap((orderId, index) => (parseOrderId(orderId) === undefined ? [index] : []));
  const problems = wrong.slice(0, WRONG_ORDER_IDS_TOLD_MAX).map((index) => ({
    path: `orderIds.${index}`,
    code: 'order_id_invalid',
    message: `orderIds.${index} must be an order id: digits, from 1 to ${ORDER_ID_MAX}.`,
  }));
  const untold = wrong.length - problems.length;
  if (untold > 0) {
    const message = `${untold} more of the orderIds are no order ids.`;
    problems.push({ path: 'orderIds', code: 'order_id_invalid', message });
  }
  return problems;
}

function spanProblems(closedFrom: string | undefined, closedTo: string | undefined): Problem[] {
  const problems = momentProblems({ closedFrom, closedTo });
  if (problems.length > 0 || closedFrom === undefined || closedTo === undefined) return problems;
  const { from, to } = spanOf(closedFrom, closedTo);
  return from < to
    ? []
    : [
        {
          path: 'closedTo',
          code: 'closed_to_not_after_from',
          message: 'closedTo must be later than closedFrom.',
        },
      ];
}

/** Of what passed the rules. */
function selectionOf({ orderIds, abandoned, owed, closedFrom, closedTo }: Asked): ResendSelection {
  if (orderIds) return { kind: 'orders', orderIds };
  if (abandoned) return { kind: 'abandoned' };
  if (owed) return { kind: 'owed' };
  return { kind: 'closed_between', ...spanOf(closedFrom as string, closedTo as string) };
}

/** Of two texts that are moments. */
function spanOf(closedFrom: string, closedTo: string): { from: number; to: number } {
  return { from: readMoment(closedFrom) as number, to: readMoment(closedTo) as number };
}
