/** Proxy openings: operators request them, administrators decide. */
import { Type } from 'typebox';
import { checkDestinationText, type Resolve } from '../caller/destination.ts';
import { OPENING_STATES, type OpeningDecision, type ProxyOpening } from '../model/entities.ts';
import type { Store } from '../store/store.ts';
import { openingWarnings } from './opening-warnings.ts';
import {
  found,
  ID,
  idFromPath,
  MOMENT,
  PAGE_FIELDS,
  pageAnswer,
  pageRequest,
  pageSchema,
  WARNINGS,
  writeMoment,
  writeOptionalMoment,
} from './pages.ts';
import type { Principal } from './principal.ts';
import { type Route, route } from './route.ts';

const TAG = 'Proxy openings';

const OPENING = Type.Object({
  id: ID,
  destination: Type.String({ examples: ['partner.example.com:443'] }),
  state: Type.Enum(OPENING_STATES),
  allowPrivate: Type.Boolean(),
  reason: Type.Optional(Type.String()),
  requestedAt: MOMENT,
  requestedBy: Type.String(),
  decidedAt: Type.Optional(MOMENT),
  decidedBy: Type.Optional(Type.String()),
});
const OPENING_WITH_WARNINGS = Type.Object({ ...OPENING.properties, warnings: WARNINGS });

export function openingRoutes(parts: {
  store: Pick<Store, 'requestOpening' | 'openings' | 'decideOpening'>;
  clock: () => number;
  resolve: Resolve;
  hasEgressProxy: boolean;
}): Route[] {
  const { store, clock } = parts;

  async function decide(
    decision: OpeningDecision,
    call: {
      params: { openingId: string };
      institution: { id: number };
      principal: Principal;
      allowPrivate?: boolean;
    },
  ): Promise<ProxyOpening> {
    const { params, institution, principal, allowPrivate = false } = call;
    const id = idFromPath(params.openingId, 'proxy opening');
    const given = { allowPrivate, decidedBy: principal.name, decidedAt: clock() };
    const opening = await store.decideOpening(institution.id, id, decision, given);
    return found(opening, 'proxy opening', params.openingId);
  }

  async function answerWithWarnings(opening: ProxyOpening): Promise<object> {
    return { ...openingAnswer(opening), warnings: await openingWarnings(opening, parts) };
  }

  return [
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/proxy-openings',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Request the permission to call a destination',
      body: Type.Object({
        destination: Type.String({
          description: 'the host and the port to call, such as partner.example.com:443, or a URL of it',
          maxLength: 2_048,
        }),
        reason: Type.Optional(Type.String({ maxLength: 1_000 })),
      }),
      rules({ body: { destination } }) {
        const checked = destination === undefined ? undefined : checkDestinationText(destination);
        return checked && 'problems' in checked ? checked.problems : [];
      },
      answers: { 201: OPENING_WITH_WARNINGS },
      async handle({ body: { destination: text, reason }, institution, principal }) {
        const { destination } = checkDestinationText(text) as { destination: string };
        const opening = await store.requestOpening(institution.id, {
          destination,
          ...(reason !== undefined && { reason }),
          requestedAt: clock(),
          requestedBy: principal.name,
        });
        return answerWithWarnings(opening);
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/proxy-openings',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'List the proxy openings',
      query: Type.Object(PAGE_FIELDS),
      answers: { 200: pageSchema(OPENING) },
      async handle({ query, institution }) {
        return pageAnswer(await store.openings(institution.id, pageRequest(query)), openingAnswer);
      },
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/proxy-openings/:openingId/open',
      role: 'ADMINISTRATOR',
      tag: TAG,
      summary: 'Open a requested one, or change `allowPrivate` of an open one',
      description:
        '`allowPrivate` also allows addresses that are not public, such as those of the own network. Without it, an opening ' +
        'for such an address lets no call through, which comes back as `warnings`. An open one is opened again to change it: ' +
        'it is as this call says, so what is left out is false.',
      body: Type.Object({ allowPrivate: Type.Optional(Type.Boolean({ default: false })) }),
      answers: { 200: OPENING_WITH_WARNINGS },
      async handle({ body: { allowPrivate = false }, ...call }) {
        return answerWithWarnings(await decide('open', { ...call, allowPrivate }));
      },
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/proxy-openings/:openingId/refuse',
      role: 'ADMINISTRATOR',
      tag: TAG,
      summary: 'Refuse a requested one',
      answers: { 200: OPENING },
      handle: async (call) => openingAnswer(await decide('refuse', call)),
    }),
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/proxy-openings/:openingId/revoke',
      role: 'ADMINISTRATOR',
      tag: TAG,
      summary: 'Revoke an open one: nothing is called there any more',
      answers: { 200: OPENING },
      handle: async (call) => openingAnswer(await decide('revoke', call)),
    }),
  ];
}

function openingAnswer(opening: ProxyOpening): object {
  return {
    id: String(opening.id),
    destination: opening.destination,
    state: opening.state,
    allowPrivate: opening.allowPrivate,
    ...(opening.reason !== undefined && { reason: opening.reason }),
    requestedAt: writeMoment(opening.requestedAt),
    requestedBy: opening.requestedBy,
    ...writeOptionalMoment('decidedAt', opening.decidedAt),
    ...(opening.decidedBy !== undefined && { decidedBy: opening.decidedBy }),
  };
}
