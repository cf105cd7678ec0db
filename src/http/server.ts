/**
 * The HTTP edge: the route table, and around it what all requests share: ids, logging, problems, security headers.
 *
 * Nothing happens at import, and nothing listens until the caller says so: tests call `inject`. Times, store, log and
 * secrets are handed in.
 */

import { randomBytes } from 'node:crypto';
import { createServer as createNodeServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { Caller } from '../caller/caller.ts';
import type { Resolve } from '../caller/destination.ts';
import { isQuick, reportFilter } from '../filter/explain-details.ts';
import { AppError, notFound } from '../model/app-error.ts';
import type { Institution } from '../model/entities.ts';
import type { Store } from '../store/store.ts';
import { type CallSlots, OwnCallSlots } from './call-slots.ts';
import { ClosingConnections } from './closing-connections.ts';
import {
  CONNECTION_LIMITS,
  type ConnectionLimits,
  ConnectionWatch,
  endSocket,
  lookEveryMs,
  WAITING_BYTES_MAX,
} from './connections.ts';
import { ExpiringCache } from './expiring-cache.ts';
import { OwnHosts, refuseSeveralHosts } from './hosts.ts';
import { OPENAPI_VERSION, openApiSchema, PROBLEM_SCHEMA, SECURITY_SCHEMES } from './openapi.ts';
import { PartnerTokens } from './partner-token.ts';
import { bearer, Principals } from './principal.ts';
import { PROBLEM_TYPE, problemAnswer, unreadableRequestAnswer } from './problem.ts';
import { RateLimit } from './rate-limit.ts';
import { countedAddress, RefusedAttempts } from './refused-attempts.ts';
import {
  addBodyParsers,
  addRoute,
  BODY_BYTES_MAX,
  BODY_TYPES,
  type BodyKind,
  bodyKind,
  type Gate,
  type Route,
} from './route.ts';
import { apiKeyRoutes } from './routes-api-keys.ts';
import { type AskFilter, filterRoutes } from './routes-filters.ts';
import { institutionRoutes } from './routes-institutions.ts';
import { interfaceRoutes } from './routes-interfaces.ts';
import { openingRoutes } from './routes-openings.ts';
import { orderRoutes } from './routes-orders.ts';
import { partnerRoutes } from './routes-partners.ts';
import { resendRoutes } from './routes-resends.ts';
import { rootRoutes } from './routes-root.ts';
import { scheduleRoutes } from './routes-schedules.ts';
import { type Readiness, systemRoutes } from './routes-system.ts';
import { type SetupLink, setupRoutes } from './setup.ts';
import type { Vault } from './vault.ts';
import { webServiceRoutes } from './web-service.ts';
import { WorkTurns } from './work-turns.ts';

export type ServerParts = {
  readonly store: Store;
  /** Where imports store their orders; by default `store`. */
  readonly importStore?: Pick<Store, 'putOrders'> | undefined;
  readonly caller: Pick<Caller, 'call'>;
  /** Milliseconds since 1970. */
  readonly clock: () => number;
  readonly log: Logger | false;
  readonly version: string;
  readonly vault: Vault;
  /** While there is no administrator. */
  readonly setup?: SetupLink | undefined;
  readonly limits: {
    readonly webServiceCallsPerMinute: number;
    /** Of the answer to more than that. */
    readonly webServiceLimitStatus?: number | undefined;
  };
  /** In the text format of Prometheus. */
  readonly metrics: () => Promise<string>;
  readonly engineReadiness?: (() => Readiness | Promise<Readiness>) | undefined;
  /** Aborted when the process is asked to end: from then on `/readyz` answers 503, and each answer closes its connection. */
  readonly ending?: AbortSignal | undefined;
  /** An administrator's API key that is in no database. */
  readonly adminKey?: string | undefined;
  /** The same that `caller` has. */
  readonly resolve: Resolve;
  /** Whether calls go through an egress proxy, which then resolves names. */
  readonly hasEgressProxy: boolean;
  /** Filter questions that take long; by default they are answered here, and everything else waits. */
  readonly askFilter?: AskFilter | undefined;
  /** Room for test calls; by default counted here alone, without the calls of the engine. */
  readonly callSlots?: CallSlots | undefined;
  /** Hosts that requests may name beside `localhost` and the address that they come in on. */
  readonly hosts?: readonly string[] | undefined;
  readonly connectionLimits?: Partial<ConnectionLimits> | undefined;
};

/** What a process needs that serves health, readiness and metrics only. */
export type SystemServerParts = Pick<
  ServerParts,
  | 'clock'
  | 'log'
  | 'version'
  | 'metrics'
  | 'engineReadiness'
  | 'ending'
  | 'adminKey'
  | 'hosts'
  | 'connectionLimits'
> & { readonly store: SystemStore };
type SystemStore = Pick<Store, 'check' | 'horizonLagMs'> &
  ConstructorParameters<typeof Principals>[0]['store'];

/** Of an id in a path: longer ones name nothing. */
const PARAMETER_CHARACTERS_MAX = 256;
/** Institutions do not change, but may come to be. */
const INSTITUTION_LIFETIME_MS = 60_000;
const INSTITUTIONS_CACHED_MAX = 10_000;

export async function createServer(parts: ServerParts): Promise<FastifyInstance> {
  return createEdge(parts, (stopping) => routeTable(parts, stopping), addDocument);
}

/** For a process without an API: the same edge around the few routes that machines ask. */
export async function createSystemServer(parts: SystemServerParts): Promise<FastifyInstance> {
  return createEdge(
    parts,
    () => systemTable(parts),
    async () => {},
  );
}

async function createEdge(
  parts: Pick<ServerParts, 'log' | 'version' | 'ending' | 'connectionLimits'>,
  table: (stopping: AbortSignal) => RouteTable,
  addMore: (app: FastifyInstance, version: string) => Promise<void>,
): Promise<FastifyInstance> {
  const { log, ending } = parts;
  const nextRequestId = requestIds();
  const limits = { ...CONNECTION_LIMITS, ...parts.connectionLimits };
  let watch: ConnectionWatch | undefined;
  const logTrouble = (err: Error) => {
    if (log) log.error({ err }, 'server');
  };
  const app = Fastify({
    // One line per request, written below. Fastify's own would cost a child logger for each.
    logger: false,
    exposeHeadRoutes: true,
    genReqId: (request) => {
      const given = request.headers['x-request-id'];
      return typeof given === 'string' && REQUEST_ID.test(given) ? given : nextRequestId();
    },
    bodyLimit: BODY_BYTES_MAX,
    serverFactory(handler) {
      const server = createHttpServer(limits, handler);
      watch = new ConnectionWatch(server, limits);
      // No descriptor for another connection, for example: the connections that there are go on.
      server.once('listening', () => server.on('error', logTrouble));
      return server;
    },
    routerOptions: { maxParamLength: PARAMETER_CHARACTERS_MAX },
    // Requests that come while the server closes are served as long as the connection lives.
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    frameworkErrors: (error, request, reply) => sendProblem(error, request, reply),
    clientErrorHandler(error, socket) {
      const { lingerMs } = limits;
      answerUnreadable(error as Error & { code?: string }, socket as Socket, nextRequestId(), lingerMs);
    },
  });
  const stopping = new AbortController();
  app.addHook('preClose', async () => stopping.abort());

  // The schemas are for the document; the rows check what comes in, and what goes out is written as it is.
  app.setValidatorCompiler(() => () => true);
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  app.decorateRequest('principal', undefined);
  app.decorateRequest('institution', undefined);
  app.decorateRequest('failure', undefined);

  app.setErrorHandler(sendProblem);
  app.setNotFoundHandler((request, reply) =>
    sendProblem(notFound(`${request.method} ${pathOf(request)}`), request, reply),
  );
  app.addHook('onRequest', (request, reply, done) => {
    refuseSeveralHosts(request.raw);
    reply.header('x-request-id', request.id);
    reply.header('x-content-type-options', 'nosniff');
    done();
  });
  app.addHook('onSend', (_request, reply, payload, done) => {
    if (ending?.aborted || stopping.signal.aborted) reply.header('connection', 'close');
    done(null, payload);
  });
  if (log) app.addHook('onResponse', (request, reply, done) => logRequest(log, request, reply, done));

  await addMore(app, parts.version);
  const { routes, gate } = table(stopping.signal);
  for (const kind of Object.keys(BODY_TYPES) as BodyKind[]) {
    await app.register(async (scope) => {
      addBodyParsers(scope, kind, {
        tellLate: (request, onLate) => watch?.tellLate(request, onLate),
        onStream: (request) => watch?.letBodyTake(request),
      });
      for (const row of routes) if (bodyKind(row) === kind) addRoute(scope, row, gate, openApiSchema(row));
    });
  }
  const connections = new ClosingConnections(app.server);
  app.decorate('closeWithin', async (withinMs: number) => {
    const done = connections.closing(withinMs);
    try {
      await app.close();
    } finally {
      done();
    }
  });
  return app;
}

/** Describes the API to people and programs. */
async function addDocument(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: OPENAPI_VERSION,
      info: {
        title: 'Orderhook',
        version: version,
        description:
          'Calls a URL of a partner each time an order is closed. Order ids are strings of digits here, and JSON integers in the ' +
          'web service. Times are ISO 8601 in UTC. Errors are RFC 9457 problems.',
      },
      components: { securitySchemes: SECURITY_SCHEMES },
    },
    // Under their own names rather than numbers.
    refResolver: { buildLocalReference: (json) => String(json.$id) },
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP:
      "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
  });
  app.addSchema(PROBLEM_SCHEMA);
  let document: string | undefined;
  app.get('/openapi.json', { schema: { hide: true } as object }, async (_request, reply) => {
    document ??= JSON.stringify(app.swagger());
    return reply.type('application/json; charset=utf-8').send(document);
  });
}

type RouteTable = { readonly routes: readonly Route[]; readonly gate: Gate };

/** Nothing but heads and idle connections has a limit of Node.js's own: the rest depends on what a request is for. */
function createHttpServer(limits: ConnectionLimits, handler: RequestListener): Server {
  return createNodeServer(
    {
      headersTimeout: limits.headMs,
      requestTimeout: 0,
      keepAliveTimeout: limits.idleMs,
      connectionsCheckingInterval: lookEveryMs(limits),
      highWaterMark: WAITING_BYTES_MAX,
    },
    handler,
  );
}

/** All routes there are, and who is let through to them. */
export function routeTable(parts: Omit<ServerParts, 'log'>, stopping: AbortSignal): RouteTable {
  const { store, importStore = store, clock, vault, setup, limits } = parts;
  const findInstitution = institutionFinder(store, clock);
  const attempts = new RefusedAttempts({ clock, seed: randomBytes(16).toString('base64url') });
  const principals = new Principals({ ...parts, attempts });
  const tokens = new PartnerTokens({ store, findInstitution, vault, clock });
  const webServiceLimit = new RateLimit({ callsPerMinute: limits.webServiceCallsPerMinute, clock });
  const userAgent = `Orderhook/${parts.version}`;
  const turns = new WorkTurns();
  const hosts = new OwnHosts(parts.hosts ?? []);
  const callSlots = parts.callSlots ?? new OwnCallSlots();
  const askFilter: AskFilter = async (question) =>
    isQuick(question) || !parts.askFilter ? reportFilter(question) : parts.askFilter(question);
  const { importProgressMs } = { ...CONNECTION_LIMITS, ...parts.connectionLimits };
  const routes = [
    ...institutionRoutes(parts),
    ...orderRoutes({ store, importStore, clock, stopping, turns, importProgressMs }),
    ...interfaceRoutes({ ...parts, userAgent, callSlots, askFilter }),
    ...scheduleRoutes({ store, clock, stopping }),
    ...resendRoutes({ store, clock }),
    ...openingRoutes(parts),
    ...partnerRoutes(parts),
    ...apiKeyRoutes({ store, clock, principals, findInstitution }),
    ...filterRoutes({ askFilter }),
    ...rootRoutes(parts),
    ...webServiceRoutes({ store, tokens, attempts, turns, limitStatus: limits.webServiceLimitStatus }),
    ...systemRoutes({ ...parts, engineReadiness: parts.engineReadiness ?? (() => ({ ready: true })) }),
    ...(setup ? setupRoutes({ store, clock, setup, attempts }) : []),
  ];
  const gate: Gate = {
    findPrincipal: ({ headers, ip }) => principals.find(headers.authorization, ip),
    findInstitution,
    refuseOtherHosts: (request) => hosts.refuseOthers(request),
    turns,
    async admitPartner({ headers: { authorization }, ip }) {
      const token = authorization === undefined ? undefined : bearer(authorization);
      if (token === undefined)
        throw new AppError('unauthenticated', 'Send a token: `Authorization: Bearer <JWT>`.');
      const { partner, institution } = await attempts.watch([countedAddress(ip)], () => tokens.verify(token));
      const retryAfterSeconds = webServiceLimit.take(partner.id);
      if (retryAfterSeconds !== undefined) {
        const message = `A partner may call ${limits.webServiceCallsPerMinute} times a minute.`;
        throw new AppError('too_many_requests', message, { retryAfterSeconds });
      }
      return institution;
    },
  };
  return { routes, gate };
}

function systemTable(parts: SystemServerParts): RouteTable {
  const attempts = new RefusedAttempts({ clock: parts.clock, seed: randomBytes(16).toString('base64url') });
  const principals = new Principals({ ...parts, attempts });
  const hosts = new OwnHosts(parts.hosts ?? []);
  const nobody = async () => {
    throw new Error('No route here is for partners or of an institution');
  };
  return {
    routes: systemRoutes({ ...parts, engineReadiness: parts.engineReadiness ?? (() => ({ ready: true })) }),
    gate: {
      findPrincipal: ({ headers, ip }) => principals.find(headers.authorization, ip),
      findInstitution: nobody,
      refuseOtherHosts: (request) => hosts.refuseOthers(request),
      turns: new WorkTurns(),
      admitPartner: nobody,
    },
  };
}

function institutionFinder(
  store: Pick<Store, 'institutionByCode'>,
  clock: () => number,
): (code: string) => Promise<Institution | undefined> {
  const known = new ExpiringCache<string, Institution>({
    lifetimeMs: INSTITUTION_LIFETIME_MS,
    entriesMax: INSTITUTIONS_CACHED_MAX,
    clock,
  });
  return async (code) => {
    const cached = known.get(code);
    if (cached) return cached;
    const institution = await store.institutionByCode(code);
    if (institution) known.set(code, institution);
    return institution;
  };
}

// ----------------------------------------------------------------------------------------------------------- requests

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * Takes no connection any more and answers what is under way; what that has not come to after `withinMs` is cut. Imports
     * and other long requests are told to end.
     */
    closeWithin(withinMs: number): Promise<void>;
  }
  interface FastifyRequest {
    /** What the handling threw, for the log. */
    failure: unknown;
  }
}

/** What a client may choose as the id of its request: it goes into the log and back. */
const REQUEST_ID = /^[\w.:@/+=-]{1,64}$/;

/** Unique without a draw of randomness for each. */
function requestIds(): () => string {
  const prefix = randomBytes(6).toString('base64url');
  let count = 0;
  return () => `${prefix}-${(++count).toString(36)}`;
}

/** Without the query, which may hold a token. */
function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] as string;
}

function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  request.failure = error;
  const { row } = request.routeOptions.config;
  const { status, headers, body } = problemAnswer(error, {
    requestId: request.id,
    bodyTypes: row ? BODY_TYPES[bodyKind(row)] : [],
    statusOf: row?.statusOf,
    hasToken: bearer(request.headers.authorization ?? '') !== undefined,
  });
  // As bytes: to a text of this type Fastify would add a charset, which JSON does not have.
  reply
    .code(status)
    .headers(headers)
    .type(PROBLEM_TYPE)
    .send(Buffer.from(JSON.stringify(body)));
}

function answerUnreadable(
  error: Error & { code?: string },
  socket: Socket,
  requestId: string,
  lingerMs: number,
): void {
  // Nobody is there to read an answer.
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const status =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
  endSocket(socket, unreadableRequestAnswer(status, requestId), lingerMs);
}

/** One line per request: our faults as errors with their causes, the client's at info, all others only when asked for. */
function logRequest(log: Logger, request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  const level = reply.statusCode >= 500 ? 'error' : reply.statusCode >= 400 ? 'info' : 'debug';
  if (log.isLevelEnabled(level)) {
    const { failure } = request;
    log[level](
      {
        requestId: request.id,
        method: request.method,
        route: request.routeOptions.url,
        path: pathOf(request),
        status: reply.statusCode,
        durationMs: Math.round(reply.elapsedTime * 1000) / 1000,
        ...(request.principal && { principal: request.principal.name }),
        ...(request.institution && { institution: request.institution.code }),
        ...(failure !== undefined &&
          (level === 'error' ? { err: failure } : { because: messageOf(failure) })),
      },
      'request',
    );
  }
  done();
}

function messageOf(failure: unknown): string {
  return failure instanceof Error ? failure.message : String(failure);
}
