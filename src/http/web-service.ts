/**
 * The web service that partners read orders back through [V1]: the paths, fields and answers are SecuTix's, not ours.
 * So wrong values are 400 here, numbers are JSON numbers, and an unknown order is an answer and not an error.
 */
import { Type } from 'typebox';
import { AppError, throwProblems } from '../model/app-error.ts';
import {
  GRANULARITIES,
  GRANULARITY_DEFAULT,
  type Granularity,
  includesGranularity,
  LIST_GRANULARITY,
} from '../model/granularity.ts';
import { withoutFields } from '../model/json-scan.ts';
import { ORDER_ID_MAX } from '../model/limits.ts';
import { isRawNumber, type JsonValue, parseLossless } from '../model/lossless-json.ts';
import { type OrderId, parseOrderId } from '../model/order.ts';
import type { Problem } from '../model/problem.ts';
import type { Store } from '../store/store.ts';
import { COMPRESSED_FROM_BYTES, compress, encodingFor } from './compression.ts';
import { parseBody } from './json-text.ts';
import { scanLarge, type Turn } from './large-text.ts';
import type { PartnerTokens } from './partner-token.ts';
import { countedAddress, type RefusedAttempts } from './refused-attempts.ts';
import { type Route, route } from './route.ts';
import type { WorkTurns } from './work-turns.ts';

const TAG = 'Web service';
const REQUEST_BYTES_MAX = 64 * 1024;
const WRONG_VALUE_IS_400 = { invalid_value: 400 };

type OrderDetailsRequest = {
  /** Digits; undefined when none was given. */
  readonly requestId: string | undefined;
  readonly orderId: OrderId;
  readonly granularity: Granularity;
};

export function webServiceRoutes(parts: {
  store: Pick<Store, 'order'>;
  tokens: PartnerTokens;
  /** Of the answer to too many calls: 429, or 509 as the real service answered it once [WS]. */
  limitStatus?: number | undefined;
  attempts: RefusedAttempts;
  turns: WorkTurns;
}): Route[] {
  const { store, tokens, attempts, turns, limitStatus = 429 } = parts;
  const statusOf = { ...WRONG_VALUE_IS_400, too_many_requests: limitStatus };
  let requests = 0;
  return [
    route({
      method: 'POST',
      path: '/tnseb/backend-apis/externalOrderService/v1_33/getOrderDetails',
      role: 'PARTNER',
      tag: TAG,
      summary: 'Read an order back',
      description:
        'With a JWT signed with HS256: `sub` institution code, `aud` operator, `iss` partner, `exp` at most 900 s after `iat`, both in ' +
        'seconds or in milliseconds. ' +
        'An order that is unknown is answered with `expectedException` and statusCode `notfound`. Longer answers are compressed ' +
        'where `Accept-Encoding` asks for gzip or deflate.',
      body: 'json_text',
      bodySchema: Type.Object({
        requestId: Type.Optional(Type.Integer({ description: 'echoed' })),
        orderId: Type.Integer({ minimum: 1, format: 'int64' }),
        granularity: Type.Optional(Type.Enum(GRANULARITIES, { default: GRANULARITY_DEFAULT })),
      }),
      bodyBytesMax: REQUEST_BYTES_MAX,
      statusOf,
      answers: {
        200: Type.Object({
          orderDetailsData: Type.Union([Type.Object({}, { additionalProperties: true }), Type.Null()]),
          expectedException: Type.Boolean(),
          requestId: Type.Integer(),
          statusCode: Type.Enum(['success', 'notfound']),
          statusMessage: Type.Union([Type.String(), Type.Null()]),
          statusDetail: Type.Null(),
        }),
      },
      async handle({ body, institution, request, reply }) {
        const { requestId, orderId, granularity } = readRequest(body);
        requests += 1;
        const order = await store.order(institution.id, orderId);
        reply.type('application/json; charset=utf-8').header('vary', 'accept-encoding');
        const result = writeResult({
          requestId: requestId ?? String(requests),
          orderId,
          details:
            order?.details === undefined
              ? undefined
              : await cutDetails(order.details, granularity, { turns, key: institution.id }),
        });
        const encoding = encodingFor(request.headers['accept-encoding']);
        if (encoding === undefined || Buffer.byteLength(result) <= COMPRESSED_FROM_BYTES) return result;
        reply.header('content-encoding', encoding);
        return compress(result, encoding);
      },
    }),
    route({
      method: 'POST',
      path: '/tnai/backend-apis/v1/auth',
      role: 'ANYONE',
      tag: TAG,
      summary: 'Get a token, good for 30 seconds, for partners who do not sign their own',
      body: Type.Object(
        { operator: Type.String(), partner: Type.String(), secret: Type.String() },
        { additionalProperties: true },
      ),
      bodyBytesMax: REQUEST_BYTES_MAX,
      takesAnyText: true,
      problems: ['unauthenticated', 'too_many_requests'],
      statusOf: WRONG_VALUE_IS_400,
      answers: { 200: Type.Object({ token: Type.String() }) },
      async handle({ body, request, reply }) {
        const account = `account ${JSON.stringify([body.operator, body.partner])}`;
        const token = await attempts.watch([countedAddress(request.ip), account], () => tokens.issue(body));
        reply.header('cache-control', 'no-store');
        return { token };
      },
    }),
  ];
}

/** Unknown fields are let pass: clients made for the real service may send them. */
function readRequest(text: string): OrderDetailsRequest {
  const body = parseBody(text, parseLossless);
  if (typeof body !== 'object' || body === null || Array.isArray(body) || isRawNumber(body)) {
    throw new AppError('invalid_value', 'Send a JSON object with an orderId.', {
      problems: [{ path: '', code: 'type', message: 'Send a JSON object with an orderId.' }],
    });
  }
  const problems: Problem[] = [];
  const orderId = parseOrderId(integerText(body.orderId) ?? '');
  if (orderId === undefined) {
    const message = `orderId must be a JSON integer from 1 to ${ORDER_ID_MAX}.`;
    problems.push({ path: 'orderId', code: 'order_id_invalid', message });
  }
  const requestId = integerText(body.requestId);
  if (requestId === undefined && body.requestId !== undefined && body.requestId !== null) {
    problems.push({
      path: 'requestId',
      code: 'request_id_invalid',
      message: 'requestId must be a JSON integer.',
    });
  }
  const granularity = body.granularity ?? GRANULARITY_DEFAULT;
  if (!isGranularity(granularity)) {
    const message = `granularity must be ${GRANULARITIES.join(' or ')}.`;
    problems.push({ path: 'granularity', code: 'granularity_unknown', message });
  }
  throwProblems(problems);
  return { requestId, orderId: orderId as OrderId, granularity: granularity as Granularity };
}

function isGranularity(value: JsonValue): value is Granularity {
  return (GRANULARITIES as readonly JsonValue[]).includes(value);
}

/** As it was written, at most 64 bits or so. */
function integerText(value: JsonValue | undefined): string | undefined {
  const text = typeof value === 'number' ? String(value) : isRawNumber(value) ? value.rawJSON : '';
  return /^-?\d{1,19}$/.test(text) ? text : undefined;
}

/** The text as it is stored, but for the lists that the granularity leaves out. */
async function cutDetails(details: string, granularity: Granularity, turn: Turn): Promise<string> {
  const cut = [...LIST_GRANULARITY].filter(([, needed]) => !includesGranularity(granularity, needed));
  const names = new Set(cut.map(([list]) => list));
  // A name may also be written with escapes.
  if (!details.includes('\\u') && ![...names].some((name) => details.includes(`"${name}"`))) return details;
  const scan = await scanLarge(details, { names }, turn);
  return scan.isJson === true ? withoutFields(details, scan.fields) : details;
}

function writeResult(result: { requestId: string; orderId: OrderId; details: string | undefined }): string {
  const { requestId, orderId, details } = result;
  const status =
    details === undefined
      ? { statusCode: 'notfound', statusMessage: `There is no order ${orderId}.`, statusDetail: null }
      : { statusCode: 'success', statusMessage: null, statusDetail: null };
  // Spliced: the details and the ids may hold numbers that JavaScript cannot.
  return (
    `{"orderDetailsData":${details ?? 'null'},"expectedException":${details === undefined},"requestId":${requestId},` +
    JSON.stringify(status).slice(1)
  );
}
