/** Filters, before anybody saves one. */
import { Type } from 'typebox';
import type { FilterQuestion, FilterReport } from '../filter/explain-details.ts';
import { GRANULARITIES, GRANULARITY_DEFAULT } from '../model/granularity.ts';
import { ORDER_BYTES_MAX } from '../model/limits.ts';
import { BODY_BYTES_MAX, type Route, route } from './route.ts';

/** Why a condition holds for an order or does not. */
export const CONDITION = Type.Object({
  text: Type.String(),
  matches: Type.Boolean(),
  path: Type.Optional(Type.String()),
  found: Type.Optional(Type.String()),
  because: Type.String(),
});

/** As `reportFilter`, which may take seconds: somewhere else than where requests are answered. */
export type AskFilter = (question: FilterQuestion) => Promise<FilterReport>;

export function filterRoutes({ askFilter }: { readonly askFilter: AskFilter }): Route[] {
  return [
    route({
      method: 'POST',
      path: '/api/v1/filters/check',
      role: 'OPERATOR',
      tag: 'Filters',
      summary: 'Check a filter and, with an order, explain what it says of it',
      description: 'A wrong filter is an answer here, not an error. `order` is an OrderDetailsData.',
      body: Type.Object({
        filter: Type.String(),
        granularity: Type.Optional(Type.Enum(GRANULARITIES, { default: GRANULARITY_DEFAULT })),
        order: Type.Optional(
          Type.Object({}, { additionalProperties: true, description: 'an OrderDetailsData, a JSON object' }),
        ),
      }),
      // An order of the greatest size, with room for the filter beside it.
      bodyBytesMax: ORDER_BYTES_MAX + BODY_BYTES_MAX,
      // Its numbers keep their text.
      textField: 'order',
      answers: {
        200: Type.Object({
          valid: Type.Boolean(),
          errors: Type.Array(Type.Object({ position: Type.Integer(), message: Type.String() })),
          warnings: Type.Array(
            Type.Object({ position: Type.Optional(Type.Integer()), message: Type.String() }),
          ),
          matches: Type.Optional(Type.Boolean()),
          conditions: Type.Optional(Type.Array(CONDITION)),
        }),
      },
      async handle({ body: { filter, granularity = GRANULARITY_DEFAULT }, fieldText: details }) {
        const question = { filter, granularity, ...(details !== undefined && { details }) };
        const { problems, warnings, explanation } = await askFilter(question);
        const errors = problems.map(({ position, message }) => ({ position, message }));
        return { valid: problems.length === 0, errors, warnings, ...explanation };
      },
    }),
  ];
}
