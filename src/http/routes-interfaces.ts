/** Interfaces: where and how to call; what would be called; and one call by hand. */

import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import type { Caller } from '../caller/caller.ts';
import { destinationOf, type Resolve } from '../caller/destination.ts';
import { headersSent } from '../caller/request-text.ts';
import { isInSeason } from '../engine/schedule-times.ts';
import { checkFilter, type FilterExplanation } from '../filter/filter.ts';
import { throwProblems } from '../model/app-error.ts';
import {
  ATTEMPT_OUTCOMES,
  ATTEMPT_TRIGGERS,
  type Attempt,
  type AttemptOutcome,
  type LoggedAttempt,
  type QueueFigures,
} from '../model/delivery.ts';
import {
  type ExternalInterface,
  INTERFACE_TYPE,
  type InstitutionId,
  type InterfaceSettings,
  METHODS,
  type Schedule,
} from '../model/entities.ts';
import { GRANULARITIES, GRANULARITY_DEFAULT } from '../model/granularity.ts';
import {
  ATTEMPTS_DEFAULT,
  ATTEMPTS_MAX,
  CONCURRENCY_DEFAULT,
  CONCURRENCY_MAX,
  PAGE_LIMIT_MAX,
} from '../model/limits.ts';
import { parseOrderId } from '../model/order.ts';
import { type CallRequest, FAILURE_REASONS, type Outcome } from '../model/outcome.ts';
import type { Problem, Warning } from '../model/problem.ts';
import type { KeptInterfaceSettings, Page, Store } from '../store/store.ts';
import { checkTemplate, compileTemplate, PLACEHOLDER } from '../template/template.ts';
import {
  type CallSlots,
  TEST_CALLS_AT_ONCE_MAX,
  TEST_CALLS_PER_MINUTE_MAX,
  TestCallGate,
} from './call-slots.ts';
import { checkDestination, type DestinationCheck, noOpening } from './destination-check.ts';
import { checkIfMatch, entityTag } from './entity-tag.ts';
import {
  found,
  ID,
  idFromPath,
  MOMENT,
  NAME,
  ORDER_ID,
  ORDER_ID_GIVEN,
  orderIdFrom,
  PAGE_FIELDS,
  pageAnswer,
  pageRequest,
  pageSchema,
  WARNINGS,
  writeMoment,
  writeOptionalMoment,
} from './pages.ts';
import { NOTHING, type Route, route } from './route.ts';
import { type AskFilter, CONDITION } from './routes-filters.ts';

const TAG = 'Interfaces';
/** The payload is most of it, of which each character may be written with an escape. */
const INTERFACE_BYTES_MAX = 512 * 1024;

const TYPE = Type.Enum([INTERFACE_TYPE]);
const METHOD = Type.Enum(METHODS);
const GRANULARITY = Type.Enum(GRANULARITIES, { default: GRANULARITY_DEFAULT });
const CONCURRENCY = Type.Integer({ minimum: 1, maximum: CONCURRENCY_MAX, default: CONCURRENCY_DEFAULT });
const ATTEMPTS = Type.Integer({
  minimum: 1,
  maximum: ATTEMPTS_MAX,
  default: ATTEMPTS_DEFAULT,
  description:
    'attempts of one delivery, after which it is abandoned; 12 take 4.1 hours, each one more an hour',
});
const REMOVABLE_TEXT = Type.Optional(Type.Union([Type.String(), Type.Null()]));

const NEW_INTERFACE = Type.Object({
  name: NAME,
  type: TYPE,
  url: Type.String(),
  method: METHOD,
  payload: REMOVABLE_TEXT,
  filter: REMOVABLE_TEXT,
  granularity: Type.Optional(GRANULARITY),
  concurrency: Type.Optional(CONCURRENCY),
  simulation: Type.Optional(Type.Boolean({ default: false })),
  active: Type.Optional(Type.Boolean({ default: true })),
  attemptsMax: Type.Optional(ATTEMPTS),
});
const INTERFACE_CHANGES = Type.Partial(NEW_INTERFACE);

const INTERFACE_FIELDS = {
  id: ID,
  name: Type.String(),
  type: TYPE,
  url: Type.String(),
  method: METHOD,
  payload: Type.Optional(Type.String()),
  filter: Type.Optional(Type.String()),
  granularity: GRANULARITY,
  concurrency: CONCURRENCY,
  simulation: Type.Boolean(),
  active: Type.Boolean(),
  attemptsMax: ATTEMPTS,
  destination: Type.String({ examples: ['partner.example.com:443'] }),
  createdAt: MOMENT,
  updatedAt: MOMENT,
};
const INTERFACE = Type.Object(INTERFACE_FIELDS);
const SAVED_INTERFACE = Type.Object({
  ...INTERFACE_FIELDS,
  warnings: WARNINGS,
});

const HEADERS = Type.Record(Type.String(), Type.String());
const REQUEST = Type.Object({
  method: METHOD,
  url: Type.String(),
  headers: HEADERS,
  body: Type.Optional(Type.String()),
});
const CALL = Type.Object({
  id: ID,
  orderId: ORDER_ID,
  closingId: Type.Optional(ID),
  attempt: Type.Integer(),
  executionId: Type.Optional(ID),
  trigger: Type.Enum(ATTEMPT_TRIGGERS),
  startedAt: MOMENT,
  durationMs: Type.Number(),
  outcome: Type.Enum(ATTEMPT_OUTCOMES),
  reason: Type.Optional(Type.Enum(FAILURE_REASONS)),
  detail: Type.Optional(Type.String()),
  status: Type.Optional(Type.Integer()),
  request: REQUEST,
  response: Type.Optional(Type.Object({ headers: HEADERS, bodyStart: Type.String() })),
  nextAttemptAt: Type.Optional(MOMENT),
});
const NULLABLE_MOMENT = Type.Union([MOMENT, Type.Null()]);

/** Settings as they are asked for; null and the empty text both mean that there is none. */
type Asked = {
  readonly [K in keyof InterfaceSettings]?: K extends 'payload' | 'filter'
    ? InterfaceSettings[K] | null
    : InterfaceSettings[K];
};

export function interfaceRoutes(parts: {
  store: Store;
  caller: Pick<Caller, 'call'>;
  resolve: Resolve;
  hasEgressProxy: boolean;
  clock: () => number;
  userAgent: string;
  callSlots: CallSlots;
  askFilter: AskFilter;
}): Route[] {
  const { store, caller, resolve, hasEgressProxy, clock, userAgent, callSlots, askFilter } = parts;
  const testCalls = new TestCallGate({ slots: callSlots, clock });

  async function findInterface(institutionId: InstitutionId, text: string): Promise<ExternalInterface> {
    const id = idFromPath(text, 'interface');
    return found(await store.interfaceById(institutionId, id), 'interface', text);
  }

  function destinationOfInterface({
    institutionId,
    destination,
  }: ExternalInterface): Promise<DestinationCheck> {
    return checkDestination({ store, resolve, hasEgressProxy, institutionId, destination });
  }

  async function savedAnswer(saved: ExternalInterface, reply: FastifyReply): Promise<object> {
    reply.header('etag', entityTag(saved));
    const check = await destinationOfInterface(saved);
    const warnings = [...settingsWarnings(saved), ...destinationWarnings(check)];
    return { ...interfaceAnswer(saved), warnings };
  }

  return [
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/interfaces',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Create an interface; its queue begins with the closings from now on',
      description:
        `\`url\`, and \`payload\` with POST, contain the placeholder \`${PLACEHOLDER}\`. What is allowed and probably not ` +
        'meant comes back as `warnings`.',
      body: NEW_INTERFACE,
      bodyBytesMax: INTERFACE_BYTES_MAX,
      rules: ({ body }) => settingsProblems(body),
      answers: { 201: SAVED_INTERFACE },
      entityTag: 'told',
      async handle({ body, institution, reply }) {
        return savedAnswer(await store.createInterface(institution.id, settingsOf(body), clock()), reply);
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/interfaces',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'List the interfaces',
      query: Type.Object(PAGE_FIELDS),
      answers: { 200: pageSchema(INTERFACE) },
      async handle({ query, institution }) {
        return pageAnswer(await store.interfaces(institution.id, pageRequest(query)), interfaceAnswer);
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'One interface',
      answers: { 200: INTERFACE },
      entityTag: 'told',
      async handle({ params, institution, reply }) {
        const subject = await findInterface(institution.id, params.interfaceId);
        reply.header('etag', entityTag(subject));
        return interfaceAnswer(subject);
      },
    }),
    route({
      method: 'PATCH',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Change an interface; what is not given stays, null removes the payload or the filter',
      description:
        'Changes of different fields that are made at once all last. With `If-Match`, nothing is changed that was changed by ' +
        'somebody else since it was read.',
      body: INTERFACE_CHANGES,
      bodyBytesMax: INTERFACE_BYTES_MAX,
      // With what is there now, so that these problems are told together with those of the schema.
      async rules({ body, params, institution, request }) {
        const current = await findInterface(institution.id, params.interfaceId);
        checkIfMatch(request.headers['if-match'], current, 'interface');
        return settingsProblems({ ...current, ...body });
      },
      answers: { 200: SAVED_INTERFACE },
      entityTag: 'matched',
      async handle({ body, params, institution, request, reply }) {
        const id = idFromPath(params.interfaceId, 'interface');
        // Somebody else may have changed it since the rules were asked: here it is held.
        const change = (current: ExternalInterface) => {
          checkIfMatch(request.headers['if-match'], current, 'interface');
          const asked = { ...current, ...body };
          throwProblems(settingsProblems(asked));
          return settingsOf(asked);
        };
        const saved = await store.updateInterface(institution.id, id, change, clock());
        return savedAnswer(found(saved, 'interface', params.interfaceId), reply);
      },
    }),
    route({
      method: 'DELETE',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId',
      role: 'OPERATOR',
      tag: TAG,
      summary:
        'Delete an interface with its schedules and its queue; its call log stays until retention removes it',
      answers: { 204: NOTHING },
      entityTag: 'matched',
      async handle({ params, institution, request }) {
        const id = idFromPath(params.interfaceId, 'interface');
        const ifMatch = request.headers['if-match'];
        const check =
          ifMatch === undefined
            ? undefined
            : (current: ExternalInterface) => checkIfMatch(ifMatch, current, 'interface');
        const wasThere = await store.deleteInterface(institution.id, id, clock(), check);
        found(wasThere || undefined, 'interface', params.interfaceId);
      },
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId/preview',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'What would be sent for an order, and whether it would; sends nothing',
      description:
        '`wouldCall`: the filter matches, the destination is allowed, and the interface neither pauses nor simulates. ' +
        '`because` says why it would not be called now: that, and a hold, or that no schedule would call by itself.',
      body: Type.Object({ orderId: ORDER_ID_GIVEN }),
      keepsNumbers: true,
      answers: {
        200: Type.Object({
          request: REQUEST,
          filter: Type.Optional(Type.Object({ matches: Type.Boolean(), conditions: Type.Array(CONDITION) })),
          destination: Type.Object({
            allowed: Type.Boolean(),
            reason: Type.Optional(Type.Enum(FAILURE_REASONS)),
            detail: Type.Optional(Type.String()),
          }),
          wouldCall: Type.Boolean(),
          because: Type.Array(Type.String()),
          heldUntil: Type.Optional(MOMENT),
        }),
      },
      async handle({ body, params, institution }) {
        const subject = await findInterface(institution.id, params.interfaceId);
        const orderId = orderIdFrom(body.orderId);
        const { details } = found(await store.order(institution.id, orderId), 'order', orderId);
        // No filter can ask an order whose details were removed: it is called.
        const filter = details === undefined ? undefined : await explainFilter(subject, details);
        const destination = await destinationOfInterface(subject);
        const { items: schedules } = await store.schedules(institution.id, subject.id, {
          limit: PAGE_LIMIT_MAX,
        });
        const now = clock();
        const heldUntil = holdAt(await store.queueFigures(institution.id, subject.id), now);
        return {
          request: requestAnswer(compileTemplate(subject).fill(orderId), userAgent),
          ...(filter && { filter }),
          destination,
          wouldCall:
            (filter?.matches ?? true) && destination.allowed && subject.active && !subject.simulation,
          because: obstacles({ subject, filter, destination, schedules, heldUntil, now }),
          ...writeOptionalMoment('heldUntil', heldUntil),
        };
      },
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId/test-call',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Call for an order now, whatever the filter says and outside the queue',
      description:
        'Answers the entry of the call log. An interface that simulates sends nothing here either. It counts into the ' +
        `concurrency of the interface, and an institution may have ${TEST_CALLS_AT_ONCE_MAX} running at once and make ` +
        `${TEST_CALLS_PER_MINUTE_MAX} a minute; otherwise 429.`,
      body: Type.Object({ orderId: ORDER_ID_GIVEN }),
      keepsNumbers: true,
      problems: ['too_many_requests'],
      answers: { 200: CALL },
      async handle({ body, params, institution }) {
        const subject = await findInterface(institution.id, params.interfaceId);
        const orderId = orderIdFrom(body.orderId);
        found(await store.order(institution.id, orderId), 'order', orderId);
        const [closing] = await store.closingsOf(institution.id, orderId, 1);
        const startedAt = clock();
        const made = await testCall(subject, orderId);
        const attempt: Attempt = {
          orderId,
          ...(closing && { closingId: closing.closingId }),
          attempt: 1,
          trigger: 'TEST',
          startedAt,
          ...made,
        };
        const { method, url, payload } = subject;
        const template = { method, url, ...(payload !== undefined && { payload }), userAgent };
        const templateId = await store.callTemplateId(institution.id, subject.id, template);
        const logged = await store.logAttempt(institution.id, subject.id, templateId, attempt);
        // The callee takes calls again.
        if (logged.outcome === 'DELIVERED') await store.liftHold(institution.id, subject.id, clock());
        return callAnswer(logged);
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId/queue',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'How long the queue is, and when the oldest closings that wait or are owed were closed',
      answers: {
        200: Type.Object({
          waiting: Type.Integer(),
          owed: Type.Integer(),
          abandoned: Type.Integer(),
          oldestWaitingAt: NULLABLE_MOMENT,
          oldestOwedAt: NULLABLE_MOMENT,
          heldUntil: NULLABLE_MOMENT,
        }),
      },
      async handle({ params, institution }) {
        const id = idFromPath(params.interfaceId, 'interface');
        const figures = found(await store.queueFigures(institution.id, id), 'interface', params.interfaceId);
        const { waiting, owed, abandoned } = figures;
        return {
          waiting,
          owed,
          abandoned,
          oldestWaitingAt: null,
          ...writeOptionalMoment('oldestWaitingAt', figures.oldestWaitingAt),
          oldestOwedAt: null,
          ...writeOptionalMoment('oldestOwedAt', figures.oldestOwedAt),
          heldUntil: null,
          ...writeOptionalMoment('heldUntil', holdAt(figures, clock())),
        };
      },
    }),
    route({
      method: 'DELETE',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId/hold',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Lift the hold that a callee asked for with Retry-After; there need not be one',
      answers: { 204: NOTHING },
      async handle({ params, institution }) {
        const id = idFromPath(params.interfaceId, 'interface');
        found(
          (await store.liftHold(institution.id, id, clock())) || undefined,
          'interface',
          params.interfaceId,
        );
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId/calls',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'The call log, newest first; of a deleted interface too',
      query: Type.Object({
        outcome: Type.Optional(Type.Enum(ATTEMPT_OUTCOMES)),
        orderId: Type.Optional(Type.String({ maxLength: 64 })),
        ...PAGE_FIELDS,
      }),
      answers: { 200: pageSchema(CALL) },
      async handle({ params, query: { outcome, orderId: text, ...page }, institution }) {
        const id = idFromPath(params.interfaceId, 'interface');
        const orderId = text === undefined ? undefined : parseOrderId(text);
        const calls = await store.calls(institution.id, id, {
          ...pageRequest(page),
          ...(outcome !== undefined && { outcome }),
          ...(orderId !== undefined && { orderId }),
        });
        const ofInterface = found(calls, 'interface', params.interfaceId);
        const isNoOrder = text !== undefined && orderId === undefined;
        const none: Page<LoggedAttempt> = { items: [] };
        return pageAnswer(isNoOrder ? none : ofInterface, callAnswer);
      },
    }),
  ];

  async function explainFilter(
    { filter, granularity }: ExternalInterface,
    details: string,
  ): Promise<FilterExplanation | undefined> {
    return filter === undefined ? undefined : (await askFilter({ filter, granularity, details })).explanation;
  }

  async function testCall(
    subject: ExternalInterface,
    orderId: string,
  ): Promise<Pick<Attempt, 'outcome' | 'durationMs' | 'reason' | 'detail' | 'answer'>> {
    if (subject.simulation) return { outcome: 'SIMULATED', durationMs: 0 };
    const opening = await store.openOpening(subject.institutionId, subject.destination);
    if (!opening) return attemptPart(refused(noOpening(subject.destination)));
    const request = compileTemplate(subject).fill(orderId);
    // Also when the client has gone away: the call runs on, and so it counts until it has ended.
    const outcome = await testCalls.run(
      subject,
      () =>
        new Promise<Outcome>((resolve) => {
          caller.call(request, { allowPrivate: opening.allowPrivate }, resolve);
        }),
    );
    return attemptPart(outcome);
  }
}

// -------------------------------------------------------------------------------------------------------------- rules

/** What is wrong with the settings as a whole. A field that is missing is looked at elsewhere. */
function settingsProblems(asked: Asked): Problem[] {
  const { url, method, payload, filter, granularity = GRANULARITY_DEFAULT } = asked;
  const problems: Problem[] = [];
  if (url !== undefined || payload) {
    // What is missing is replaced by something that is right, so that only what was given is found wrong.
    const stand = url ?? `https://partner.example/${PLACEHOLDER}`;
    const template = { url: stand, method: method ?? 'POST', ...(payload ? { payload } : {}) };
    problems.push(...checkTemplate(template).problems);
  }
  if (filter) {
    problems.push(
      ...checkFilter(filter, granularity).problems.map((problem) => ({ path: 'filter', ...problem })),
    );
  }
  return problems;
}

function settingsWarnings({ url, method, payload, filter, granularity }: InterfaceSettings): Warning[] {
  return [
    ...checkTemplate({ url, method, payload }).warnings,
    ...checkFilter(filter ?? '', granularity).warnings.map((warning) => ({ path: 'filter', ...warning })),
  ];
}

function destinationWarnings({ allowed, detail }: DestinationCheck): Warning[] {
  if (!allowed) return [{ path: 'url', message: `Nothing is called yet: ${detail}.` }];
  return detail === undefined
    ? []
    : [{ path: 'url', message: `The destination is not checked here: ${detail}.` }];
}

/** Of what passed the rules. */
function settingsOf(
  asked: Asked & Pick<InterfaceSettings, 'name' | 'url' | 'method'>,
): KeptInterfaceSettings {
  const { name, url, method, payload, filter } = asked;
  return {
    name,
    url,
    method,
    ...(payload ? { payload } : {}),
    ...(filter?.trim() ? { filter } : {}),
    granularity: asked.granularity ?? GRANULARITY_DEFAULT,
    concurrency: asked.concurrency ?? CONCURRENCY_DEFAULT,
    attemptsMax: asked.attemptsMax ?? ATTEMPTS_DEFAULT,
    simulation: asked.simulation ?? false,
    active: asked.active ?? true,
    destination: destinationOf(url),
  };
}

// -------------------------------------------------------------------------------------------------------------- calls

/** The store keeps the time of a hold after it has passed. */
function holdAt(figures: QueueFigures | undefined, now: number): number | undefined {
  const heldUntil = figures?.heldUntil;
  return heldUntil !== undefined && heldUntil > now ? heldUntil : undefined;
}

/** Why an order would not be called now, each a sentence. */
function obstacles(seen: {
  subject: ExternalInterface;
  filter: FilterExplanation | undefined;
  destination: DestinationCheck;
  schedules: readonly Schedule[];
  heldUntil: number | undefined;
  now: number;
}): string[] {
  const { subject, filter, destination, schedules, heldUntil, now } = seen;
  const failed = filter?.conditions.find(({ matches }) => !matches);
  const idle = whyNoScheduleRuns(schedules, now);
  return [
    ...(failed ? [`The filter says no: ${failed.text}`] : []),
    ...(destination.allowed ? [] : [`The destination may not be called: ${destination.detail}.`]),
    ...(subject.active ? [] : ['The interface is paused: its orders wait until it is active.']),
    ...(subject.simulation ? ['The interface simulates: everything happens but the request.'] : []),
    ...(heldUntil === undefined
      ? []
      : [
          `The callee asked by Retry-After for no call until ${writeMoment(heldUntil)}; to call sooner, delete the hold.`,
        ]),
    ...(idle === undefined ? [] : [idle]),
  ];
}

/** Undefined when one runs by itself. */
function whyNoScheduleRuns(schedules: readonly Schedule[], now: number): string | undefined {
  if (schedules.length === 0) return 'The interface has no schedule.';
  const automatic = schedules.filter(({ launch }) => launch === 'AUTOMATIC');
  if (automatic.length === 0) return 'No schedule runs by itself: those of the interface are MANUAL.';
  if (automatic.some((schedule) => isInSeason(schedule, now))) return undefined;
  const starts = automatic.flatMap(({ start }) => (start !== undefined && start > now ? [start] : []));
  return starts.length === 0
    ? 'No schedule runs by itself any more: those that are AUTOMATIC have ended.'
    : `No schedule runs by itself before ${writeMoment(Math.min(...starts))}, when one starts.`;
}

function refused({ reason, detail }: DestinationCheck & { allowed: false }): Outcome {
  return { delivered: false, reason, detail, durationMs: 0 };
}

function attemptPart(
  outcome: Outcome,
): Pick<Attempt, 'outcome' | 'durationMs' | 'reason' | 'detail' | 'answer'> {
  const { durationMs, answer } = outcome;
  const told: AttemptOutcome = outcome.delivered ? 'DELIVERED' : 'FAILED';
  return {
    outcome: told,
    durationMs,
    ...(answer && { answer }),
    ...(outcome.delivered ? {} : { reason: outcome.reason, detail: outcome.detail }),
  };
}

// ------------------------------------------------------------------------------------------------------------ answers

function interfaceAnswer(subject: ExternalInterface): object {
  return {
    id: String(subject.id),
    name: subject.name,
    type: INTERFACE_TYPE,
    url: subject.url,
    method: subject.method,
    ...(subject.payload !== undefined && { payload: subject.payload }),
    ...(subject.filter !== undefined && { filter: subject.filter }),
    granularity: subject.granularity,
    concurrency: subject.concurrency,
    attemptsMax: subject.attemptsMax,
    simulation: subject.simulation,
    active: subject.active,
    destination: subject.destination,
    createdAt: writeMoment(subject.createdAt),
    updatedAt: writeMoment(subject.updatedAt),
  };
}

function requestAnswer(request: CallRequest, userAgent: string): object {
  const { method, url, body } = request;
  return { method, url, headers: headersSent(request, userAgent), ...(body !== undefined && { body }) };
}

function callAnswer(call: LoggedAttempt): object {
  const { answer } = call;
  return {
    id: String(call.id),
    orderId: call.orderId,
    ...(call.closingId !== undefined && { closingId: String(call.closingId) }),
    attempt: call.attempt,
    ...(call.executionId !== undefined && { executionId: String(call.executionId) }),
    trigger: call.trigger,
    startedAt: writeMoment(call.startedAt),
    durationMs: call.durationMs,
    outcome: call.outcome,
    ...(call.reason !== undefined && { reason: call.reason }),
    ...(call.detail !== undefined && { detail: call.detail }),
    ...(answer && { status: answer.status }),
    request: requestAnswer(call.request, call.userAgent),
    ...(answer && { response: { headers: answer.headers, bodyStart: answer.bodyStart } }),
    ...writeOptionalMoment('nextAttemptAt', call.nextAttemptAt),
  };
}
