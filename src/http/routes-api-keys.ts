/** API keys: who may use this API. */
import { Type } from 'typebox';
import type { ApiKey, Institution, InstitutionId } from '../model/entities.ts';
import { ROLES } from '../model/entities.ts';
import type { Problem } from '../model/problem.ts';
import type { Store } from '../store/store.ts';
import {
  found,
  ID,
  idFromPath,
  MOMENT,
  momentProblems,
  NAME,
  PAGE_FIELDS,
  pageRequest,
  pageSchema,
  readMoment,
  writeMoment,
  writeOptionalMoment,
} from './pages.ts';
import { createKey, type Principals } from './principal.ts';
import { NOTHING, type Route, route } from './route.ts';

const TAG = 'API keys';

const KEY_FIELDS = {
  id: ID,
  name: Type.String(),
  role: Type.Enum(ROLES),
  institution: Type.Optional(Type.String()),
  createdAt: MOMENT,
  expiresAt: Type.Optional(MOMENT),
};

export function apiKeyRoutes(parts: {
  store: Pick<Store, 'createApiKey' | 'apiKeys' | 'deleteApiKey' | 'institutionById'>;
  clock: () => number;
  principals: Principals;
  findInstitution: (code: string) => Promise<Institution | undefined>;
}): Route[] {
  const { store, clock, principals, findInstitution } = parts;

  async function institutionProblems(role: ApiKey['role'], code: string | undefined): Promise<Problem[]> {
    const problem = (kind: string, message: string) => [{ path: 'institution', code: kind, message }];
    if (role === 'ADMINISTRATOR') {
      return code === undefined
        ? []
        : problem(
            'institution_not_wanted',
            'An ADMINISTRATOR is of all institutions: leave `institution` out.',
          );
    }
    if (code === undefined) {
      return problem(
        'institution_missing',
        `The role ${role} is of one institution: give its code as \`institution\`.`,
      );
    }
    return (await findInstitution(code))
      ? []
      : problem('institution_unknown', `There is no institution ${code}.`);
  }

  async function answers(keys: readonly ApiKey[]): Promise<object[]> {
    const ids = new Set(keys.map(({ institutionId }) => institutionId).filter((id) => id !== undefined));
    const codes = new Map<InstitutionId, string>();
    for (const id of ids) {
      const institution = await store.institutionById(id);
      if (institution) codes.set(id, institution.code);
    }
    return keys.map((key) => keyAnswer(key, codes.get(key.institutionId ?? 0)));
  }

  return [
    route({
      method: 'POST',
      path: '/api/v1/api-keys',
      role: 'ADMINISTRATOR',
      tag: TAG,
      summary: 'Create an API key; answers the key once',
      body: Type.Object({
        name: NAME,
        role: Type.Enum(ROLES),
        institution: Type.Optional(
          Type.String({ maxLength: 100, description: 'the code of an institution' }),
        ),
        expiresAt: Type.Optional(MOMENT),
      }),
      async rules({ body: { role, institution, expiresAt } }) {
        const problems = momentProblems({ expiresAt });
        if (
          problems.length === 0 &&
          expiresAt !== undefined &&
          (readMoment(expiresAt) as number) <= clock()
        ) {
          problems.push({
            path: 'expiresAt',
            code: 'expires_in_the_past',
            message: 'expiresAt must be in the future.',
          });
        }
        if (role !== undefined) problems.push(...(await institutionProblems(role, institution)));
        return problems;
      },
      answers: { 201: Type.Object({ ...KEY_FIELDS, key: Type.String() }) },
      async handle({ body: { name, role, institution: code, expiresAt }, reply }) {
        const { key, keyHash } = createKey();
        const institution = code === undefined ? undefined : await findInstitution(code);
        const expires = expiresAt === undefined ? undefined : readMoment(expiresAt);
        const created = await store.createApiKey({
          name,
          role,
          ...(institution && { institutionId: institution.id }),
          ...(expires !== undefined && { expiresAt: expires }),
          createdAt: clock(),
          keyHash,
        });
        reply.header('cache-control', 'no-store');
        return { ...keyAnswer(created, code), key };
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/api-keys',
      role: 'ADMINISTRATOR',
      tag: TAG,
      summary: 'List the API keys, without the keys themselves',
      query: Type.Object(PAGE_FIELDS),
      answers: { 200: pageSchema(Type.Object(KEY_FIELDS)) },
      async handle({ query }) {
        const page = await store.apiKeys(pageRequest(query));
        return { items: await answers(page.items), next: page.next ?? null };
      },
    }),
    route({
      method: 'DELETE',
      path: '/api/v1/api-keys/:keyId',
      role: 'ADMINISTRATOR',
      tag: TAG,
      summary: 'Delete an API key: it is refused from now on',
      answers: { 204: NOTHING },
      async handle({ params }) {
        const id = idFromPath(params.keyId, 'API key');
        const wasThere = await store.deleteApiKey(id);
        principals.forgetKey(id);
        found(wasThere || undefined, 'API key', params.keyId);
      },
    }),
  ];
}

function keyAnswer(key: ApiKey, institution: string | undefined): object {
  return {
    id: String(key.id),
    name: key.name,
    role: key.role,
    ...(institution !== undefined && { institution }),
    createdAt: writeMoment(key.createdAt),
    ...writeOptionalMoment('expiresAt', key.expiresAt),
  };
}
