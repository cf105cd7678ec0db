/**
 * What a route is: one row with its method, path, role, schemas and handler. Everything that all routes share happens
 * here, in one order: who is it (401), may they (403), which institution (404), is the body JSON (400) and right (422).
 *
 * A row without a role does not type-check, and the role in the row is the one that is asked: no handler checks
 * authority. No handler sees another institution than the one that the path names and the caller may see.
 */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Static, type TObject, type TSchema, Type } from 'typebox';
import { AppError, type ErrorCode, notFound, throwProblems } from '../model/app-error.ts';
import type { Institution, Role } from '../model/entities.ts';
import { parseLossless } from '../model/lossless-json.ts';
import type { Problem } from '../model/problem.ts';
import { isKeepable } from '../model/text.ts';
import { type BodyLimits, readBody } from './body-reader.ts';
import { type Checked, FieldsCheck } from './fields.ts';
import { isFromThisMachine } from './hosts.ts';
import { notUtf8, parseBody, utf8Text } from './json-text.ts';
import { cutOutField, LARGE_CHARACTERS } from './large-text.ts';
import { hasRole, type Principal } from './principal.ts';
import type { TurnKey, WorkTurns } from './work-turns.ts';

/**
 * Who may call: the least of the roles; `ANYONE` without a key; `KEY_OR_LOOPBACK` with any key, or from this machine;
 * `PARTNER` with a partner's token.
 */
export type Access = Role | 'ANYONE' | 'KEY_OR_LOOPBACK' | 'PARTNER';

/** A body that is not a JSON object of known fields. */
export type OtherBody =
  /** JSON text, handed on as it came. */
  | 'json_text'
  /** NDJSON, handed on as a stream without a limit. */
  | 'ndjson'
  /** A form, as browsers send it, or JSON; handed on as text. */
  | 'form';

export const BODY_TYPES: Readonly<Record<BodyKind, readonly string[]>> = {
  none: [],
  json: ['application/json'],
  json_text: ['application/json'],
  ndjson: ['application/x-ndjson', 'text/plain', 'application/octet-stream'],
  form: ['application/x-www-form-urlencoded', 'application/json'],
};

/** Bytes of a body, where the row does not say otherwise: nothing that takes more has this default. */
export const BODY_BYTES_MAX = 64 * 1024;

type BodyOf<B> = B extends TObject
  ? Static<B>
  : B extends 'ndjson'
    ? Readable
    : B extends OtherBody
      ? string
      : undefined;
type QueryOf<Q> = Q extends TObject ? Static<Q> : Record<string, never>;
type ParamName<P extends string> = P extends `${string}:${infer Name}/${infer Rest}`
  ? Name | ParamName<`/${Rest}`>
  : P extends `${string}:${infer Name}`
    ? Name
    : never;

export const INSTITUTION_PATH = '/api/v1/institutions/:code';

/** One request, as a handler sees it. */
export type Call<P extends string, A extends Access, B, Q> = {
  readonly params: Readonly<Record<ParamName<P>, string>>;
  readonly query: QueryOf<Q>;
  readonly body: BodyOf<B>;
  /** The JSON text of the field that the row names as its `textField`, if that came and is an object. */
  readonly fieldText: string | undefined;
  readonly principal: A extends Role ? Principal : undefined;
  /** That the path names, or that the partner's token is for. */
  readonly institution: A extends 'PARTNER'
    ? Institution
    : P extends `${typeof INSTITUTION_PATH}/${string}`
      ? Institution
      : undefined;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
};

export type RouteRow<P extends string, A extends Access, B, Q> = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: P;
  readonly role: A;
  readonly tag: string;
  /** One line for the list of calls. */
  readonly summary: string;
  readonly description?: string;
  readonly query?: Q;
  readonly body?: B;
  /** For the document of the API, where `body` is no schema. */
  readonly bodySchema?: TSchema;
  readonly bodyBytesMax?: number;
  /** Numbers in the body keep their text: JavaScript's hold no order id above 2^53. */
  readonly keepsNumbers?: boolean;
  /** A field of the body that can be large: an object, which comes as `fieldText`, and as `{}` in the body. */
  readonly textField?: string;
  /** The fields may hold text that no database keeps as it is (`isKeepable`): the handler has its own answer to that. */
  readonly takesAnyText?: boolean;
  /** Only for requests whose Host is ours: what opens without a key would otherwise open to the pages of strangers. */
  readonly refusesOtherHosts?: boolean;
  /**
   * Rules about values that are no matter of schema. They see the fields that are as the schema says, so that what they
   * find is told together with what the schema found. A field that is missing here may just be wrong: `given` names those
   * that the body has, right or wrong.
   */
  readonly rules?: (
    call: Omit<Call<P, A, B, Q>, 'body'> & {
      readonly body: Partial<BodyOf<B>>;
      readonly given: ReadonlySet<string>;
    },
  ) => readonly Problem[] | Promise<readonly Problem[]>;
  /** By status. */
  readonly answers: Readonly<Record<number, TSchema>>;
  /** Of several answers, the one that is sent unless the handler sets another status; the only one otherwise. */
  readonly usualStatus?: number;
  /** The answer tells the `ETag` of what the path names; `matched`: and `If-Match` is honoured. */
  readonly entityTag?: 'told' | 'matched';
  /** Where another media type than JSON is answered. */
  readonly answerType?: string;
  /** Problems that it answers beside those that follow from the rest of the row. */
  readonly problems?: readonly ErrorCode[];
  /** Where errors have another status than everywhere else. */
  readonly statusOf?: Partial<Record<ErrorCode, number>>;
  /** What it resolves to is the body of the usual answer, unless it set another status on the reply. */
  readonly handle: (call: Call<P, A, B, Q>) => unknown;
};

/** A row of the table, whatever its body and query are. */
export type Route = RouteRow<string, Access, TObject | OtherBody | undefined, TObject | undefined>;

/** Lets TypeScript see that body, query and path of a row fit its handler, and forgets them afterwards. */
export function route<
  const P extends string,
  A extends Access,
  B extends TObject | OtherBody | undefined = undefined,
  Q extends TObject | undefined = undefined,
>(row: RouteRow<P, A, B, Q>): Route {
  return row as unknown as Route;
}

/** For the answers of calls that answer nothing. */
export const NOTHING = Type.Null({ description: 'Done; nothing to tell.' });

/** What the shared steps need from the rest of the edge. */
export type Gate = {
  /** @throws AppError `unauthenticated` */
  findPrincipal(request: FastifyRequest): Promise<Principal>;
  /**
   * The institution whose orders the partner may read.
   * @throws AppError `unauthenticated`, `too_many_requests`
   */
  admitPartner(request: FastifyRequest): Promise<Institution>;
  /** Undefined when there is none. */
  findInstitution(code: string): Promise<Institution | undefined>;
  /** @throws AppError `wrong_host` */
  refuseOtherHosts(request: IncomingMessage): void;
  readonly turns: WorkTurns;
};

declare module 'fastify' {
  interface FastifyRequest {
    principal: Principal | undefined;
    institution: Institution | undefined;
  }
  interface FastifyContextConfig {
    row?: Route;
  }
}

export type BodyKind = 'json' | 'none' | OtherBody;

export function bodyKind(row: Route): BodyKind {
  return typeof row.body === 'object' ? 'json' : (row.body ?? 'none');
}

/** Adds one row to a scope whose content type parsers fit its body. */
export function addRoute(app: FastifyInstance, row: Route, gate: Gate, schema: object): void {
  const namesInstitution = row.path.startsWith(`${INSTITUTION_PATH}/`);
  const { takesAnyText = false } = row;
  const fields = typeof row.body === 'object' ? new FieldsCheck(row.body, { takesAnyText }) : undefined;
  const queryFields = new FieldsCheck(row.query ?? Type.Object({}));
  const usualStatus = row.usualStatus ?? Number(Object.keys(row.answers)[0]);

  app.route({
    method: row.method,
    url: row.path,
    config: { row },
    schema,
    bodyLimit: row.body === 'ndjson' ? Number.MAX_SAFE_INTEGER : (row.bodyBytesMax ?? BODY_BYTES_MAX),
    // Before the body is read: a stranger's megabyte is not.
    async onRequest(request) {
      if (row.refusesOtherHosts) gate.refuseOtherHosts(request.raw);
      await admit(request, row.role, gate);
      if (row.body !== undefined) refuseEncoded(request);
      refuseUnkeepable(request.params as Record<string, string>);
      if (namesInstitution) {
        const { code } = request.params as { code: string };
        request.institution = await institutionFor(request.principal, code, gate);
      }
    },
    async handler(request, reply) {
      const given = {
        params: request.params as Record<string, string>,
        principal: request.principal,
        institution: request.institution,
        request,
        reply,
      } as Omit<Call<string, Access, undefined, undefined>, 'query' | 'body' | 'fieldText'>;
      const query = queryFields.checkQuery(request.query as Record<string, unknown>);
      const { object, body, fieldText } = fields ? await readFields(request, row, fields, gate) : NO_FIELDS;
      const problems = [...query.problems, ...(body?.problems ?? [])];
      const call = {
        ...given,
        query: query.sound,
        body: body ? body.sound : plainBody(request.body, row),
        fieldText,
      };
      if (row.rules) {
        const given: ReadonlySet<string> = new Set(Object.keys(object ?? {}));
        problems.push(...(await row.rules({ ...call, given } as Parameters<typeof row.rules>[0])));
      }
      throwProblems(problems);
      // Before the handler, which may choose another one.
      reply.code(usualStatus);
      const answer = await row.handle(call as Parameters<typeof row.handle>[0]);
      return answer === undefined && usualStatus !== 204 ? reply : answer;
    },
  });
}

async function admit(request: FastifyRequest, access: Access, gate: Gate): Promise<void> {
  if (access === 'ANYONE') return;
  if (access === 'PARTNER') {
    request.institution = await gate.admitPartner(request);
    return;
  }
  if (
    access === 'KEY_OR_LOOPBACK' &&
    request.headers.authorization === undefined &&
    isFromThisMachine(request.raw)
  )
    return;
  request.principal = await gate.findPrincipal(request);
  if (access === 'KEY_OR_LOOPBACK') return;
  if (!hasRole(request.principal, access)) {
    throw new AppError(
      'forbidden',
      `This call needs the role ${access}; the key has the role ${request.principal.role}.`,
    );
  }
}

/** Nothing here unpacks: what came packed would be told as broken line by line. */
function refuseEncoded({ headers }: FastifyRequest): void {
  const encoding = headers['content-encoding'];
  if (encoding === undefined || encoding === 'identity') return;
  throw new AppError('unsupported_media_type', 'Send the body as it is, without Content-Encoding.');
}

/** No path with such a text names anything. */
function refuseUnkeepable(params: Readonly<Record<string, string>>): void {
  for (const name in params) {
    if (!isKeepable(params[name] as string)) throw notFound(`such ${name}`);
  }
}

type ReadFields = {
  readonly object: unknown;
  readonly body: Checked<Static<TObject>> | undefined;
  readonly fieldText: string | undefined;
};

const NO_FIELDS: ReadFields = { object: undefined, body: undefined, fieldText: undefined };

/** At once, or, where the body makes it long, when it is its turn. */
async function readFields(
  request: FastifyRequest,
  row: Route,
  fields: FieldsCheck<TObject>,
  { turns }: Gate,
): Promise<ReadFields> {
  const given = typeof request.body === 'string' ? request.body : '';
  const { institution, principal, ip } = request;
  const key: TurnKey = institution?.id ?? principal?.institutionId ?? principal?.name ?? ip;
  const { text, fieldText } =
    row.textField === undefined || given === ''
      ? { text: given, fieldText: undefined }
      : await cutOutField(given, row.textField, { turns, key });
  const read = (): ReadFields => {
    const object = readObject(text, row, fields.isAllOptional);
    return { object, body: fields.check(object), fieldText };
  };
  return text.length < LARGE_CHARACTERS ? read() : turns.run(key, read);
}

/** For an operator or a source, all institutions but one are as unknown as those that do not exist. */
async function institutionFor(
  principal: Principal | undefined,
  code: string,
  gate: Gate,
): Promise<Institution> {
  const institution = await gate.findInstitution(code);
  const isVisible =
    institution !== undefined &&
    principal !== undefined &&
    (principal.role === 'ADMINISTRATOR' || principal.institutionId === institution.id);
  if (!isVisible) throw notFound(`institution ${code}`);
  return institution;
}

function readObject(text: string, { keepsNumbers }: Route, isAllOptional: boolean): unknown {
  if (text === '') {
    if (isAllOptional) return {};
    throw new AppError('invalid_json', 'The body is empty; this call takes a JSON object.');
  }
  return parseBody(text, keepsNumbers ? parseLossless : JSON.parse);
}

function plainBody(body: unknown, row: Route): unknown {
  return bodyKind(row) === 'none' || row.body === 'ndjson' ? body : (body ?? '');
}

/** What a scope does with the bodies of its kind. */
export type BodyReading = {
  /** Sees to it that somebody is told when the time of a body is over. */
  readonly tellLate: (request: IncomingMessage, onLate: (() => void) | undefined) => void;
  /** Called for a body that is handed on as a stream, whose reader looks after its time. */
  readonly onStream: (request: IncomingMessage) => void;
};

/** The types of body that a scope reads, each handed on as text, or as the stream that it is. */
export function addBodyParsers(app: FastifyInstance, kind: BodyKind, reading: BodyReading): void {
  const { tellLate, onStream } = reading;
  app.removeAllContentTypeParsers();
  if (kind === 'none') {
    app.addContentTypeParser('*', (_request, payload, done) => {
      payload.resume();
      done(null);
    });
  }
  for (const type of BODY_TYPES[kind]) {
    if (kind === 'ndjson') {
      app.addContentTypeParser(type, (request, payload, done) => {
        onStream(request.raw);
        done(null, payload);
      });
    } else {
      app.addContentTypeParser(type, (request, payload, done) => {
        const limits: BodyLimits = {
          bytesMax: request.routeOptions.bodyLimit,
          tellLate: (onLate) => tellLate(request.raw, onLate),
        };
        readBody(payload, limits, (error, bytes) => {
          if (bytes === undefined) return done(error);
          const text = utf8Text(bytes);
          if (text === undefined) done(notUtf8());
          else done(null, text);
        });
      });
    }
  }
}
