/** Partners: who may read orders back, and the secrets that they sign with. */
import { randomBytes } from 'node:crypto';
import { Type } from 'typebox';
import type { Partner } from '../model/entities.ts';
import type { Store } from '../store/store.ts';
import {
  found,
  ID,
  idFromPath,
  MOMENT,
  PAGE_FIELDS,
  pageAnswer,
  pageRequest,
  pageSchema,
  writeMoment,
} from './pages.ts';
import { NOTHING, type Route, route } from './route.ts';
import type { Vault } from './vault.ts';

const TAG = 'Partners';
const SECRET_BYTES = 32;

/** What stands as `iss` and `aud` in tokens. */
const TOKEN_NAME = Type.String({
  minLength: 1,
  maxLength: 100,
  pattern: '^[^\\s\\p{Cc}](?:[^\\p{Cc}]*[^\\s\\p{Cc}])?$',
  description: 'a text of 1 to 100 characters without blanks at its ends',
});
const PARTNER_FIELDS = { id: ID, partner: Type.String(), operator: Type.String(), createdAt: MOMENT };
const PARTNER = Type.Object(PARTNER_FIELDS);

export function partnerRoutes(parts: {
  store: Pick<Store, 'createPartner' | 'partners' | 'deletePartner'>;
  clock: () => number;
  vault: Vault;
}): Route[] {
  const { store, clock, vault } = parts;
  return [
    route({
      method: 'POST',
      path: '/api/v1/institutions/:code/partners',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Let a partner read orders back; answers its secret once',
      description: '`partner` and `operator` are what the tokens of the partner have as `iss` and `aud`.',
      body: Type.Object({ partner: TOKEN_NAME, operator: TOKEN_NAME }),
      answers: { 201: Type.Object({ ...PARTNER_FIELDS, secret: Type.String() }) },
      async handle({ body: { partner, operator }, institution, reply }) {
        const secret = randomBytes(SECRET_BYTES).toString('base64url');
        const created = await store.createPartner({
          institutionId: institution.id,
          partner,
          operator,
          sealedSecret: vault.seal(secret),
          createdAt: clock(),
        });
        reply.header('cache-control', 'no-store');
        return { ...partnerAnswer(created), secret };
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions/:code/partners',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'List the partners',
      query: Type.Object(PAGE_FIELDS),
      answers: { 200: pageSchema(PARTNER) },
      async handle({ query, institution }) {
        return pageAnswer(await store.partners(institution.id, pageRequest(query)), partnerAnswer);
      },
    }),
    route({
      method: 'DELETE',
      path: '/api/v1/institutions/:code/partners/:partnerId',
      role: 'OPERATOR',
      tag: TAG,
      summary: 'Revoke a partner: its tokens are refused from now on',
      answers: { 204: NOTHING },
      async handle({ params, institution }) {
        const wasThere = await store.deletePartner(institution.id, idFromPath(params.partnerId, 'partner'));
        found(wasThere || undefined, 'partner', params.partnerId);
      },
    }),
  ];
}

function partnerAnswer({ id, partner, operator, createdAt }: Partner): object {
  return { id: String(id), partner, operator, createdAt: writeMoment(createdAt) };
}
