/** The OpenAPI document, made from the route table: what a route takes and answers is told once, in its row. */
import { type TObject, type TSchema, Type } from 'typebox';
import { ERROR_CODES, type ErrorCode } from '../model/app-error.ts';
import { PROBLEM_TYPE, STATUS_OF } from './problem.ts';
import { type Access, BODY_TYPES, bodyKind, INSTITUTION_PATH, type Route } from './route.ts';

export const OPENAPI_VERSION = '3.1.0';

export const SECURITY_SCHEMES = {
  apiKey: {
    type: 'http',
    scheme: 'bearer',
    description:
      'An API key of Orderhook: `ohk_…`. The role that a call needs, or a greater one, is told with the call.',
  },
  partnerToken: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: "A JWT, HS256, signed with the partner's secret.",
  },
} as const;

const IF_MATCH = Type.Object({
  'if-match': Type.Optional(
    Type.String({
      description: 'The `ETag` of what is to be changed; another state of it is answered with 412.',
    }),
  ),
});
const ENTITY_TAG = {
  etag: { schema: { type: 'string' }, description: 'Another one after each change; for `If-Match`.' },
};

const PROBLEM_ID = 'Problem';

export const PROBLEM_SCHEMA = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    code: Type.Enum(Object.keys(ERROR_CODES) as ErrorCode[]),
    detail: Type.String(),
    errors: Type.Optional(
      Type.Array(
        Type.Object({
          path: Type.String({ description: 'Which field; empty for the whole.' }),
          code: Type.String(),
          message: Type.String(),
          position: Type.Optional(
            Type.Integer({ description: 'Offset into the text of the field, from 0.' }),
          ),
        }),
      ),
    ),
    requestId: Type.String(),
  },
  { $id: PROBLEM_ID },
);

/** What `@fastify/swagger` reads of a route. */
export function openApiSchema(row: Route): object {
  const parameters = [...row.path.matchAll(/:(\w+)/g)].map(([, name]) => [name, Type.String()]);
  return {
    tags: [row.tag],
    summary: row.summary,
    description: [row.description, accessText(row.role)].filter(Boolean).join('\n\n'),
    operationId: operationId(row),
    security: security(row.role),
    ...(parameters.length > 0 && { params: Type.Object(Object.fromEntries(parameters)) }),
    ...(row.query && { querystring: row.query }),
    ...(row.entityTag === 'matched' && { headers: IF_MATCH }),
    ...(row.body && { body: requestBody(row) }),
    response: { ...answers(row), ...problems(row) },
  };
}

function requestBody(row: Route): object {
  const schema = typeof row.body === 'object' ? closed(row.body) : (row.bodySchema ?? Type.String());
  return { content: Object.fromEntries(BODY_TYPES[bodyKind(row)].map((type) => [type, { schema }])) };
}

/** Unknown fields are refused, so the document says so. */
function closed(schema: TObject): TSchema {
  return { additionalProperties: false, ...schema } as TSchema;
}

function answers(row: Route): Record<string, object> {
  return Object.fromEntries(
    Object.entries(row.answers).map(([status, schema]) => [
      status,
      status === '204'
        ? { type: 'null', description: 'Done; nothing to tell.' }
        : {
            description: 'Done.',
            ...(row.entityTag && { headers: ENTITY_TAG }),
            content: { [row.answerType ?? 'application/json']: { schema } },
          },
    ]),
  );
}

function problems(row: Route): Record<string, object> {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of problemCodes(row)) {
    const status = row.statusOf?.[code] ?? STATUS_OF[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      status,
      {
        description: codes.map((code) => `\`${code}\`: ${ERROR_CODES[code]}`).join(' '),
        content: { [PROBLEM_TYPE]: { schema: { $ref: `${PROBLEM_ID}#` } } },
      },
    ]),
  );
}

function problemCodes({
  role,
  path,
  body,
  method,
  entityTag,
  refusesOtherHosts,
  problems = [],
}: Route): ErrorCode[] {
  const codes: ErrorCode[] = ['invalid_value', 'internal', 'store_unavailable'];
  if (role !== 'ANYONE') codes.push('unauthenticated', 'too_many_requests');
  if (refusesOtherHosts) codes.push('wrong_host');
  if (role !== 'ANYONE' && role !== 'PARTNER' && role !== 'KEY_OR_LOOPBACK') codes.push('forbidden');
  if (path.startsWith(INSTITUTION_PATH) || /:\w+/.test(path) || path === '/setup') codes.push('not_found');
  if (method !== 'GET') codes.push('conflict');
  if (entityTag === 'matched') codes.push('precondition_failed');
  if (body) codes.push('invalid_json', 'unsupported_media_type', 'body_too_large', 'request_too_slow');
  return [...new Set([...codes, ...problems])];
}

function security(role: Access): object[] {
  switch (role) {
    case 'ANYONE':
      return [];
    case 'PARTNER':
      return [{ partnerToken: [] }];
    case 'KEY_OR_LOOPBACK':
      return [{ apiKey: [] }, {}];
    default:
      return [{ apiKey: [] }];
  }
}

function accessText(role: Access): string {
  switch (role) {
    case 'ANYONE':
      return 'Needs no key.';
    case 'PARTNER':
      return "Needs a partner's token.";
    case 'KEY_OR_LOOPBACK':
      return 'Needs a key of any role, unless the request comes from the same machine.';
    default:
      return `Needs the role ${role}${role === 'ADMINISTRATOR' ? '' : ' or a greater one'}.`;
  }
}

/** `put_institutions_code_orders_orderId`: stable as long as the path is. */
function operationId({ method, path }: Route): string {
  const words = path
    .replace('/api/v1', '')
    .split(/[^A-Za-z0-9]+/)
    .filter(Boolean);
  return [method.toLowerCase(), ...words].join('_');
}
