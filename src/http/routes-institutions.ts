/** Institutions: the tenants. */
import { Type } from 'typebox';
import type { Institution } from '../model/entities.ts';
import type { Problem } from '../model/problem.ts';
import type { Store } from '../store/store.ts';
import { MOMENT, NAME, PAGE_FIELDS, pageAnswer, pageRequest, pageSchema, writeMoment } from './pages.ts';
import { type Route, route } from './route.ts';

const TIME_ZONE_DEFAULT = 'UTC';

const INSTITUTION = Type.Object({
  code: Type.String(),
  name: Type.String(),
  timeZone: Type.String(),
  createdAt: MOMENT,
});

export function institutionRoutes(parts: {
  store: Pick<Store, 'createInstitution' | 'institutions'>;
  clock: () => number;
}): Route[] {
  const { store, clock } = parts;
  return [
    route({
      method: 'POST',
      path: '/api/v1/institutions',
      role: 'ADMINISTRATOR',
      tag: 'Institutions',
      summary: 'Create an institution',
      body: Type.Object({
        code: Type.String({
          pattern: '^[A-Z0-9_-]{1,32}$',
          description: '1 to 32 upper-case letters, digits, `_` and `-`',
        }),
        name: NAME,
        timeZone: Type.Optional(
          Type.String({
            description: 'the IANA name of a time zone, such as Europe/Zurich',
            default: TIME_ZONE_DEFAULT,
          }),
        ),
      }),
      rules: ({ body }) => timeZoneProblems(body.timeZone),
      answers: { 201: INSTITUTION },
      async handle({ body: { code, name, timeZone = TIME_ZONE_DEFAULT } }) {
        return institutionAnswer(await store.createInstitution({ code, name, timeZone, createdAt: clock() }));
      },
    }),
    route({
      method: 'GET',
      path: '/api/v1/institutions',
      role: 'ADMINISTRATOR',
      tag: 'Institutions',
      summary: 'List the institutions',
      query: Type.Object(PAGE_FIELDS),
      answers: { 200: pageSchema(INSTITUTION) },
      async handle({ query }) {
        return pageAnswer(await store.institutions(pageRequest(query)), institutionAnswer);
      },
    }),
  ];
}

function institutionAnswer({ code, name, timeZone, createdAt }: Institution): object {
  return { code, name, timeZone, createdAt: writeMoment(createdAt) };
}

function timeZoneProblems(timeZone: string | undefined): Problem[] {
  if (timeZone === undefined || isTimeZone(timeZone)) return [];
  const message = 'timeZone must be the IANA name of a time zone, such as Europe/Zurich.';
  return [{ path: 'timeZone', code: 'time_zone_unknown', message }];
}

function isTimeZone(name: string): boolean {
  // Intl takes offsets as well, which are no zones: they know no summer time.
  if (/^[+-]/.test(name)) return false;
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
