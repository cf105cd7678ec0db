/**
 * Checks a JSON object, or a query string, against its schema field by field, so that all wrong fields are told at once
 * in the same words everywhere. TypeBox decides; this module only asks it per field and says what was expected.
 *
 * Never coerces a body. The sound fields are given back beside the problems: rules that look at values can still be
 * applied to them, and their problems told in the same answer.
 */
import type { Static, TObject, TSchema } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import { isRawNumber, scalarText } from '../model/lossless-json.ts';
import type { Problem } from '../model/problem.ts';
import { isKeepable } from '../model/text.ts';

/**
 * Keyword of a schema whose texts are order ids, one or a list of them: a JSON integer is read as the text of its digits.
 * The row of such a body has `keepsNumbers`, because JavaScript numbers cannot hold every order id.
 */
export const TAKES_ORDER_IDS = 'x-order-id';

export type Checked<T> = {
  readonly problems: Problem[];
  /** The fields that are as the schema says. */
  readonly sound: Partial<T>;
};

/** Fields that are told as unknown in one answer; what is wrong is clear after a few. */
const UNKNOWN_FIELDS_TOLD_MAX = 20;
/** Characters of an unknown field's name that are repeated in the answer. */
const FIELD_NAME_CHARACTERS_MAX = 64;

type FieldCheck = {
  readonly name: string;
  readonly schema: TSchema;
  readonly validator: Validator;
  readonly isRequired: boolean;
  readonly takesOrderIds: boolean;
};

export class FieldsCheck<S extends TObject> {
  readonly #fields: readonly FieldCheck[];
  readonly #names: ReadonlySet<string>;
  readonly #toleratesUnknown: boolean;
  readonly #takesAnyText: boolean;
  /** Whether `{}` is right: then an absent body is as good. */
  readonly isAllOptional: boolean;

  /** `takesAnyText`: also text that no database keeps as it is; whoever uses it sees to that. */
  constructor(schema: S, { takesAnyText = false }: { readonly takesAnyText?: boolean } = {}) {
    this.#takesAnyText = takesAnyText;
    const required = new Set<string>(schema.required ?? []);
    this.#fields = Object.entries(schema.properties).map(([name, field]) => ({
      name,
      schema: field,
      validator: Compile(field),
      isRequired: required.has(name),
      takesOrderIds: TAKES_ORDER_IDS in field,
    }));
    this.#names = new Set(this.#fields.map(({ name }) => name));
    this.#toleratesUnknown = (schema as { additionalProperties?: unknown }).additionalProperties === true;
    this.isAllOptional = required.size === 0;
  }

  check(value: unknown): Checked<Static<S>> {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return { problems: [{ path: '', code: 'type', message: 'Send a JSON object.' }], sound: {} };
    }
    return this.#checkFields(value as Record<string, unknown>);
  }

  /** Query strings have texts only: those of numbers and booleans are read as such. */
  checkQuery(query: Record<string, unknown>): Checked<Static<S>> {
    const read: Record<string, unknown> = { ...query };
    for (const { name, schema } of this.#fields) {
      const text = query[name];
      if (typeof text === 'string') read[name] = fromText(text, (schema as { type?: unknown }).type);
    }
    return this.#checkFields(read);
  }

  #checkFields(value: Record<string, unknown>): Checked<Static<S>> {
    const problems: Problem[] = [];
    const sound: Record<string, unknown> = {};
    for (const { name, schema, validator, isRequired, takesOrderIds } of this.#fields) {
      const given = takesOrderIds ? withTextsForNumbers(value[name]) : value[name];
      if (!Object.hasOwn(value, name)) {
        if (isRequired)
          problems.push({ path: name, code: 'missing', message: `${name} is missing: ${expected(schema)}.` });
      } else if (validator.Check(given)) {
        if (typeof given === 'string' && !this.#takesAnyText && !isKeepable(given)) {
          problems.push({
            path: name,
            code: 'invalid',
            message: `${name} must not contain NUL or half of a character (a lone surrogate).`,
          });
        } else {
          sound[name] = given;
        }
      } else {
        problems.push({ path: name, code: 'invalid', message: `${name} must be ${expected(schema)}.` });
      }
    }
    if (this.#toleratesUnknown) return { problems, sound: sound as Partial<Static<S>> };
    const unknown = Object.keys(value).filter((name) => !this.#names.has(name));
    for (const name of unknown.slice(0, UNKNOWN_FIELDS_TOLD_MAX)) {
      const path = name.slice(0, FIELD_NAME_CHARACTERS_MAX);
      const known = [...this.#names].join(', ') || 'none';
      problems.push({ path, code: 'unknown', message: `${path} is not known here; known are: ${known}.` });
    }
    return { problems, sound: sound as Partial<Static<S>> };
  }
}

function withTextsForNumbers(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withTextForNumber);
  return withTextForNumber(value);
}

function withTextForNumber(value: unknown): unknown {
  return typeof value === 'number' || isRawNumber(value) ? scalarText(value) : value;
}

function fromText(text: string, type: unknown): unknown {
  if (type === 'integer' && /^-?\d{1,15}$/.test(text)) return Number(text);
  if (type === 'boolean' && (text === 'true' || text === 'false')) return text === 'true';
  return text;
}

/** What a schema takes, in words that stand after "must be". A schema's own description has the first say. */
function expected(schema: TSchema): string {
  const { type, anyOf, description, minLength, maxLength, minimum, maximum, format } = schema as {
    type?: string;
    enum?: readonly unknown[];
    anyOf?: readonly TSchema[];
    description?: string;
    minLength?: number;
    maxLength?: number;
    minimum?: number;
    maximum?: number;
    format?: string;
  };
  if (description !== undefined) return description;
  if (anyOf) return anyOf.map(expected).join(' or ');
  const values = (schema as { enum?: readonly unknown[] }).enum;
  if (values) return values.join(' or ');
  if (format === 'date-time') return 'an ISO 8601 date and time with Z or an offset';
  switch (type) {
    case 'string':
      if (maxLength === undefined) return minLength === undefined ? 'a text' : 'a text that is not empty';
      return `a text of ${minLength ?? 0} to ${maxLength} characters`;
    case 'integer':
      return minimum === undefined || maximum === undefined
        ? 'an integer'
        : `an integer from ${minimum} to ${maximum}`;
    case 'boolean':
      return 'true or false';
    case 'null':
      return 'null';
    case 'array':
      return 'a list';
    case 'object':
      return 'an object';
    default:
      return 'another value';
  }
}
