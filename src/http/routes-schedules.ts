/** Schedules, and the executions that they made. */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import { throwProblems } from '../model/app-error.ts';
import {
  EXECUTION_STATUSES,
  EXECUTION_TRIGGERS,
  type Execution,
  LAUNCHES,
  type Schedule,
  type ScheduleSettings,
} from '../model/entities.ts';
import {
  BATCH_SIZE_DEFAULT,
  BATCH_SIZE_MAX,
  FREQUENCY_MINUTES_DEFAULT,
  FREQUENCY_MINUTES_MAX,
  PAGE_LIMIT_MAX,
} from '../model/limits.ts';
import type { Problem, Warning } from '../model/problem.ts';
import type { Store } from '../store/store.ts';
import { checkIfMatch, entityTag } from './entity-tag.ts';
import { waitForEnd } from './execution-wait.ts';
import {
  found,
  ID,
  idFromPath,
  MOMENT,
  momentProblems,
  NAME,
  PAGE_FIELDS,
  pageAnswer,
  pageRequest,
  pageSchema,
  readMoment,
  WARNINGS,
  writeMoment,
  writeOptionalMoment,
} from './pages.ts';
import { NOTHING, type Route, route } from './route.ts';

const TAG = 'Schedules';
/** Other schedules that a warning names. */
const NAMES_TOLD_MAX = 5;

const LAUNCH = Type.Enum(LAUNCHES);
const FREQUENCY = Type.Integer({
  minimum: 0,
  maximum: FREQUENCY_MINUTES_MAX,
  default: FREQUENCY_MINUTES_DEFAULT,
});
const BATCH_SIZE = Type.Integer({ minimum: 1, maximum: BATCH_SIZE_MAX, default: BATCH_SIZE_DEFAULT });

const SCHEDULE = Type.Object({
  id: ID,
  interfaceId: ID,
  name: Type.String(),
  launch: LAUNCH,
  frequencyMinutes: Type.Optional(FREQUENCY),
  start: Type.Optional(MOMENT),
  end: Type.Optional(MOMENT),
  batchSize: BATCH_SIZE,
  lastRunAt: Type.Optional(MOMENT),
  lastStatus: Type.Optional(Type.Enum(EXECUTION_STATUSES)),
  createdAt: MOMENT,
  updatedAt: MOMENT,
});

const SAVED_SCHEDULE = Type.Object({ ...SCHEDULE.properties, warnings: WARNINGS });

const NEW_SCHEDULE = Type.Object({
  name: NAME,
  launch: LAUNCH,
  frequencyMinutes: Type.Optional(FREQUENCY),
  start: Type.Optional(MOMENT),
  end: Type.Optional(MOMENT),
  batchSize: Type.Optional(BATCH_SIZE),
});

const removable = <T extends typeof FREQUENCY | typeof MOMENT>(schema: T) =>
  Type.Optional(Type.Union([schema, Type.Null()]));

const SCHEDULE_CHANGES = Type.Object({
  name: Type.Optional(NAME),
  launch: Type.Optional(LAUNCH),
  frequencyMinutes: removable(FREQUENCY),
  start: removable(MOMENT),
  end: removable(MOMENT),
  batchSize: Type.Optional(BATCH_SIZE),
});

const EXECUTION = Type.Object({
  id: ID,
  interfaceId: ID,
  scheduleId: Type.Optional(ID),
  trigger: Type.Enum(EXECUTION_TRIGGERS),
  startedAt: MOMENT,
  endedAt: Type.Optional(MOMENT),
  status: Type.Enum(EXECUTION_STATUSES),
  looked: Type.Integer(),
  filteredOut: Type.Integer(),
  called: Type.Integer(),
  delivered: Type.Integer(),
  failed: Type.Integer(),
  abandoned: Type.Integer(),
  count: Type.Optional(
    Type.Integer({ description: 'Of a resend: how many closings it had before it when it was asked for.' }),
  ),
  message: Type.Optional(Type.String()),
});

/** A schedule as it is asked for: null and absent both mean that there is none. */
type Asked = {
  readonly name?: string;
  readonly launch?: ScheduleSettings['launch'];
  readonly frequencyMinutes?: number | null;
  readonly start?: string | null;
  readonly end?: string | null;
  readonly batchSize?: number;
};

export function scheduleRoutes(parts: { store: Store; clock: () => number; stopping: AbortSignal }): Route[] {
  const { store, clock, stopping } = parts;
  return [
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId/schedules',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Create a schedule of an interface',
      description:
        `Of AUTOMATIC ones, \`frequencyMinutes\` is ${FREQUENCY_MINUTES_DEFAULT} unless given, and 0 means continuous: ` +
        'orders are called as they close.',
      body: NEW_SCHEDULE,
      rules: ({ body }) => scheduleProblems(body),
      answers: { 201: SAVED_SCHEDULE },
      entityTag: 'told',
      async handle({ body, params, institution, reply }) {
        const interfaceId = idFromPath(params.interfaceId, 'interface');
        const schedule = await store.createSchedule(institution.id, interfaceId, settingsOf(body), clock());
        return savedAnswer(found(schedule, 'interface', params.interfaceId), reply);
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/interfaces/:interfaceId/schedules',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'List the schedules of an interface',
      query: Type.Object(PAGE_FIELDS),
      answers: { 200: pageSchema(SCHEDULE) },
      async handle({ query, params, institution }) {
        const interfaceId = idFromPath(params.interfaceId, 'interface');
        found(await store.interfaceById(institution.id, interfaceId), 'interface', params.interfaceId);
        return pageAnswer(
          await store.schedules(institution.id, interfaceId, pageRequest(query)),
          scheduleAnswer,
        );
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/schedules',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'List the schedules of all interfaces',
      query: Type.Object(PAGE_FIELDS),
      answers: { 200: pageSchema(SCHEDULE) },
      async handle({ query, institution }) {
        return pageAnswer(
          await store.schedules(institution.id, undefined, pageRequest(query)),
          scheduleAnswer,
        );
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/schedules/:scheduleId',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'One schedule',
      answers: { 200: SCHEDULE },
      entityTag: 'told',
      async handle({ params, institution, reply }) {
        const schedule = await findSchedule(institution.id, params.scheduleId);
        reply.header('etag', entityTag(schedule));
        return scheduleAnswer(schedule);
      },
    }),
    route({
      method: 'PATCH',
      path: '/api/v1/institutions/:code/schedules/:scheduleId',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Change a schedule; what is not given stays, null removes',
      description:
        'A schedule that becomes MANUAL loses its frequency, start and end. Changes of different fields that are made at ' +
        'once all last. With `If-Match`, nothing is changed that was changed by somebody else since it was read; that it ' +
        'ran is no change.',
      body: SCHEDULE_CHANGES,
      // With what is there now, so that these problems are told together with those of the schema.
      async rules({ body, params, institution, request }) {
        const current = await findSchedule(institution.id, params.scheduleId);
        checkIfMatch(request.headers['if-match'], current, 'schedule');
        return scheduleProblems(merged(current, body));
      },
      answers: { 200: SAVED_SCHEDULE },
      entityTag: 'matched',
      async handle({ body, params, institution, request, reply }) {
        const id = idFromPath(params.scheduleId, 'schedule');
        // Somebody else may have changed it since the rules were asked: here it is held.
        const change = (current: Schedule) => {
          checkIfMatch(request.headers['if-match'], current, 'schedule');
          const asked = merged(current, body);
          throwProblems(scheduleProblems(asked));
          return settingsOf(asked);
        };
        const updated = await store.updateSchedule(institution.id, id, change, clock());
        return savedAnswer(found(updated, 'schedule', params.scheduleId), reply);
      },
    }),
    route({
      method: 'DELETE',
      path: '/api/v1/institutions/:code/schedules/:scheduleId',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Delete a schedule; the queue of its interface stays',
      answers: { 204: NOTHING },
      entityTag: 'matched',
      async handle({ params, institution, request }) {
        const id = idFromPath(params.scheduleId, 'schedule');
        const ifMatch = request.headers['if-match'];
        const check =
          ifMatch === undefined
            ? undefined
            : (current: Schedule) => checkIfMatch(ifMatch, current, 'schedule');
        const wasThere = await store.deleteSchedule(institution.id, id, check);
        found(wasThere || undefined, 'schedule', params.scheduleId);
      },
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/schedules/:scheduleId/run',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Run a schedule now',
      description: 'With `wait=true` the answer comes when the execution has ended, and is the execution.',
      query: Type.Object({ wait: Type.Optional(Type.Boolean()) }),
      answers: { 202: Type.Object({ executionId: ID }), 200: EXECUTION },
      usualStatus: 202,
      async handle({ params, query, institution, request, reply }) {
        const scheduleId = idFromPath(params.scheduleId, 'schedule');
        const requested = await store.requestRun(institution.id, scheduleId, clock());
        const { id } = found(requested, 'schedule', params.scheduleId);
        if (query.wait) {
          // Nothing goes over the connection meanwhile, which is not idleness. The socket of `inject` knows no timeout.
          (request.raw.socket as Partial<Socket>).setTimeout?.(0);
          const ended = await waitForEnd({
            store,
            institutionId: institution.id,
            id,
            until: [stopping, gone(reply.raw)],
          });
          if (ended) {
            reply.code(200);
            return executionAnswer(ended);
          }
        }
        return { executionId: String(id) };
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/schedules/:scheduleId/executions',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'List the executions of a schedule, newest first',
      query: Type.Object(PAGE_FIELDS),
      answers: { 200: pageSchema(EXECUTION) },
      async handle({ params, query, institution }) {
        const { id } = await findSchedule(institution.id, params.scheduleId);
        return pageAnswer(await store.executions(institution.id, id, pageRequest(query)), executionAnswer);
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/executions/:executionId',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'One execution',
      answers: { 200: EXECUTION },
      async handle({ params, institution }) {
        const id = idFromPath(params.executionId, 'execution');
        const execution = found(
          await store.executionById(institution.id, id),
          'execution',
          params.executionId,
        );
        const isResend = execution.trigger === 'RESEND';
        const count = isResend ? await store.resendCount(institution.id, id) : undefined;
        return executionAnswer(execution, count);
      },
    }),
  ];

  async function savedAnswer(saved: Schedule, reply: FastifyReply): Promise<object> {
    reply.header('etag', entityTag(saved));
    return { ...scheduleAnswer(saved), warnings: await warningsOf(saved) };
  }

  /** Several schedules of one interface are allowed and seldom meant: they share its queue. */
  async function warningsOf({ id, institutionId, interfaceId, launch }: Schedule): Promise<Warning[]> {
    if (launch !== 'AUTOMATIC') return [];
    const { items } = await store.schedules(institutionId, interfaceId, { limit: PAGE_LIMIT_MAX });
    const others = items.filter((other) => other.launch === 'AUTOMATIC' && other.id !== id);
    if (others.length === 0) return [];
    const names = others.slice(0, NAMES_TOLD_MAX).map(({ name }) => JSON.stringify(name));
    const told = `${names.join(', ')}${others.length > names.length ? ', …' : ''}`;
    return [
      {
        path: 'launch',
        message:
          `The interface has another AUTOMATIC schedule, ${told}. All of them work the same queue, each at its own times: ` +
          'if one is enough, delete the others or make them MANUAL.',
      },
    ];
  }

  async function findSchedule(institutionId: number, text: string): Promise<Schedule> {
    return found(await store.scheduleById(institutionId, idFromPath(text, 'schedule')), 'schedule', text);
  }
}

/** Aborted when the client has gone away. */
function gone(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  response.once('close', () => controller.abort());
  return controller.signal;
}

/** What a schedule would be after a change. Becoming MANUAL drops what MANUAL cannot have, unless the change asks for it. */
function merged(
  schedule: ScheduleSettings,
  changes: Asked,
): Asked & Pick<ScheduleSettings, 'name' | 'launch'> {
  const isBecomingManual = changes.launch === 'MANUAL' && schedule.launch !== 'MANUAL';
  const { name, launch, batchSize, frequencyMinutes, start, end } = schedule;
  const kept = isBecomingManual
    ? {}
    : {
        frequencyMinutes: frequencyMinutes ?? null,
        start: start === undefined ? null : writeMoment(start),
        end: end === undefined ? null : writeMoment(end),
      };
  return { name, launch, batchSize, ...kept, ...changes };
}

function scheduleProblems(asked: Asked): Problem[] {
  const { launch, frequencyMinutes, start, end } = asked;
  if (launch === 'MANUAL') {
    return Object.entries({ frequencyMinutes, start, end })
      .filter(([, value]) => value !== undefined && value !== null)
      .map(([path]) => ({
        path,
        code: 'automatic_only',
        message: `${path} is for AUTOMATIC schedules: leave it out, or make the launch AUTOMATIC.`,
      }));
  }
  const problems = momentProblems({ start, end });
  if (problems.length === 0 && start && end && (readMoment(end) as number) <= (readMoment(start) as number)) {
    problems.push({ path: 'end', code: 'end_not_after_start', message: 'end must be later than start.' });
  }
  return problems;
}

/** Of what passed the rules. */
function settingsOf(asked: Asked & Pick<ScheduleSettings, 'name' | 'launch'>): ScheduleSettings {
  const { name, launch, batchSize = BATCH_SIZE_DEFAULT } = asked;
  if (launch === 'MANUAL') return { name, launch, batchSize };
  const start = asked.start ? readMoment(asked.start) : undefined;
  const end = asked.end ? readMoment(asked.end) : undefined;
  return {
    name,
    launch,
    batchSize,
    frequencyMinutes: asked.frequencyMinutes ?? FREQUENCY_MINUTES_DEFAULT,
    ...(start !== undefined && { start }),
    ...(end !== undefined && { end }),
  };
}

function scheduleAnswer(schedule: Schedule): object {
  const { id, interfaceId, name, launch, frequencyMinutes, batchSize } = schedule;
  return {
    id: String(id),
    interfaceId: String(interfaceId),
    name,
    launch,
    ...(frequencyMinutes !== undefined && { frequencyMinutes }),
    ...writeOptionalMoment('start', schedule.start),
    ...writeOptionalMoment('end', schedule.end),
    batchSize,
    ...writeOptionalMoment('lastRunAt', schedule.lastRunAt),
    ...(schedule.lastStatus !== undefined && { lastStatus: schedule.lastStatus }),
    createdAt: writeMoment(schedule.createdAt),
    updatedAt: writeMoment(schedule.updatedAt),
  };
}

/** `count` is that of a resend. */
function executionAnswer(execution: Execution, count?: number): object {
  return {
    id: String(execution.id),
    interfaceId: String(execution.interfaceId),
    ...(execution.scheduleId !== undefined && { scheduleId: String(execution.scheduleId) }),
    trigger: execution.trigger,
    startedAt: writeMoment(execution.startedAt),
    ...writeOptionalMoment('endedAt', execution.endedAt),
    status: execution.status,
    looked: execution.looked,
    filteredOut: execution.filteredOut,
    called: execution.called,
    delivered: execution.delivered,
    failed: execution.failed,
    abandoned: execution.abandoned,
    ...(count !== undefined && { count }),
    ...(execution.message !== undefined && { message: execution.message }),
  };
}
