/**
 * What is wrong with a filter, and what is probably not meant, when somebody saves it. Knows the fields that orders are
 * known to have; never throws.
 */
import { type Granularity, includesGranularity, LIST_GRANULARITY } from '../model/granularity.ts';
import {
  type Fields,
  type FieldType,
  knownField,
  ORDER_FIELDS,
  ORDER_LISTS,
  ORDER_ROOT,
} from '../model/order-fields.ts';
import type { Problem, Warning } from '../model/problem.ts';
import { type CompiledCondition, compileConditions, valuesOf } from './compile.ts';
import { orderedKind } from './ordering.ts';
import { FilterError, type PlacedCondition, type PlacedSegment } from './parse.ts';

/** Positions are 0-based offsets into the filter text. */
export type FilterProblem = Required<Omit<Problem, 'path'>>;
export type FilterWarning = Omit<Warning, 'path'>;
export type FilterCheck = { readonly problems: FilterProblem[]; readonly warnings: FilterWarning[] };

/**
 * A text that is no filter has one problem, the first. A filter that reads what the granularity leaves out has one for
 * each such condition. Blank text is no filter, and has none.
 */
export function checkFilter(text: string, granularity: Granularity): FilterCheck {
  let conditions: readonly CompiledCondition[];
  try {
    conditions = compileConditions(text);
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    const { code, message, position } = error;
    return { problems: [{ code, message, position }], warnings: [] };
  }
  return {
    problems: conditions.flatMap(({ source }) => granularityProblems(source, granularity)),
    warnings: conditions.flatMap((condition) => [
      ...pathWarnings(condition.source.path),
      ...valueWarnings(condition),
    ]),
  };
}

function granularityProblems({ path }: PlacedCondition, granularity: Granularity): FilterProblem[] {
  const [root, list] = path;
  if (!root || !isRoot(root.name) || !list) return [];
  const name = knownField(list.name)?.name ?? '';
  const needed = LIST_GRANULARITY.get(name);
  if (!needed || includesGranularity(granularity, needed)) return [];
  const message = `${list.name} is not given with granularity ${granularity}, so the condition could never match: choose granularity ${needed}.`;
  return [{ code: 'filter_below_granularity', message, position: list.position }];
}

function isRoot(name: string): boolean {
  return name.toLowerCase() === ORDER_ROOT.toLowerCase();
}

/** Of the first name that is unlikely to lead anywhere; what comes after it is not judged. */
function pathWarnings([root, ...names]: readonly PlacedSegment[]): FilterWarning[] {
  if (!root) return [];
  const { position } = root;
  if (!isRoot(root.name)) {
    const meant = nearestName(root.name, [ORDER_ROOT]) ? '' : `.${root.name}`;
    return [
      { position, message: `A path starts with OrderDetailsData: did you mean OrderDetailsData${meant}?` },
    ];
  }
  const warnings = notAList(root);
  let fields: Fields = ORDER_FIELDS;
  for (const [index, segment] of names.entries()) {
    const type = typeOf(segment.name, fields);
    if (!type) return [...warnings, unknownField(segment.name, segment.position, fields)];
    if (type === 'any') return warnings;
    if (type !== 'list') {
      warnings.push(...notAList(segment));
      const next = names[index + 1];
      if (next)
        warnings.push({
          position: next.position,
          message: `${segment.name} holds a single value, which has no fields.`,
        });
      return warnings;
    }
    fields = ORDER_LISTS.get(knownField(segment.name)?.name ?? '')?.fields ?? {};
    warnings.push(...selectorWarnings(segment, fields));
  }
  const last = names.at(-1) ?? root;
  return [
    ...warnings,
    {
      position: last.position,
      message: `${last.name} has fields and never matches a value: name the field to compare, as in ${last.name}.${pascalCase(Object.keys(fields)[0] ?? '')}.`,
    },
  ];
}

function typeOf(name: string, fields: Fields): FieldType | undefined {
  const known = knownField(name)?.name;
  return known !== undefined && Object.hasOwn(fields, known) ? fields[known] : undefined;
}

function notAList({ name, selector }: PlacedSegment): FilterWarning[] {
  if (!selector) return [];
  return [
    {
      position: selector.position,
      message: `${name} is not a list: the parentheses have nothing to choose from.`,
    },
  ];
}

function selectorWarnings({ selector }: PlacedSegment, fields: Fields): FilterWarning[] {
  if (!selector || selector.kind === 'any') return [];
  const { name, namePosition: position } = selector;
  const type = typeOf(name, fields);
  if (!type) return [unknownField(name, position, fields)];
  if (selector.kind === 'equal' || type === 'boolean') return [];
  return [{ position, message: `${name} is not a field that is true or false: did you mean (${name}=…)?` }];
}

function unknownField(name: string, position: number, fields: Fields): FilterWarning {
  const meant = nearestField(name, fields);
  const hint = meant === undefined ? '.' : `: did you mean ${meant}?`;
  return { position, message: `No known field of ${holderOf(fields)} is called ${name}${hint}` };
}

function holderOf(fields: Fields): string {
  const noun = [...ORDER_LISTS.values()].find((list) => list.fields === fields)?.noun ?? 'order';
  return `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`;
}

/**
 * A list called by what it holds, else a field that was looked for in the wrong place, else one with nearly this name
 * here, else one elsewhere.
 */
function nearestField(name: string, fields: Fields): string | undefined {
  const lists = [...ORDER_LISTS].map(([list, { noun }]) => ({ list, names: [noun, `${noun}s`] }));
  const called = lists.find(({ names }) => names.includes(name.toLowerCase()));
  if (called && fields === ORDER_FIELDS) return pascalCase(called.list);
  const known = knownField(name)?.name;
  if (known !== undefined) return wholePath(known);
  const near = nearestName(name, Object.keys(fields));
  if (near !== undefined) return pascalCase(near);
  const elsewhere = nearestName(
    name,
    [...ORDER_LISTS.values()].flatMap((list) => Object.keys(list.fields)),
  );
  return elsewhere && wholePath(elsewhere);
}

function wholePath(known: string): string {
  const list = Object.hasOwn(ORDER_FIELDS, known)
    ? undefined
    : [...ORDER_LISTS].find(([, { fields }]) => Object.hasOwn(fields, known))?.[0];
  return `OrderDetailsData.${list ? `${pascalCase(list)}(*).` : ''}${pascalCase(known)}`;
}

function valueWarnings(condition: CompiledCondition): FilterWarning[] {
  const { operator, value, valuePosition: position } = condition.source;
  const warnings: FilterWarning[] = valuesOf(condition).flatMap((one) => {
    const problem = one.value.expressionProblem;
    return problem === undefined
      ? []
      : [
          {
            position: one.position,
            message: `The value is no valid regular expression (${problem}) and is compared as plain text.`,
          },
        ];
  });
  const message = unlikelyValue(value);
  if (message !== undefined) warnings.push({ position, message });
  if (operator !== '=' && operator !== '!=' && !orderedKind(value)) {
    const hint = /^\d{4}-\d\d-\d\d$/.test(value)
      ? `write ${value}T00:00:00+00:00`
      : 'the condition never matches';
    warnings.push({
      position,
      message: `${operator} compares numbers and date-times, and ${value} is neither: ${hint}.`,
    });
  }
  return warnings;
}

/** Slips that the grammar takes for a value. */
function unlikelyValue(value: string): string | undefined {
  if (/^[=<>]/.test(value)) return `"${value[0]}" is read as the beginning of the value.`;
  if (/^(["']).*\1$/s.test(value)) return 'The quotes are read as part of the value: write it without them.';
  if (/OrderDetailsData\./i.test(value))
    return 'The value holds another path: conditions are separated by ";".';
  return undefined;
}

function pascalCase(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

/** The name that differs in the fewest letters, when that is at most a third of them. */
function nearestName(name: string, names: readonly string[]): string | undefined {
  const lower = name.toLowerCase();
  // A name much longer than any known one is near none, and measuring it would take long.
  let fewest = Math.floor(Math.min(lower.length, 32) / 3) + 1;
  let nearest: string | undefined;
  for (const candidate of names) {
    if (Math.abs(candidate.length - lower.length) >= fewest) continue;
    const distance = editDistance(lower, candidate.toLowerCase());
    if (distance < fewest) {
      fewest = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

/** Letters to add, take away or change (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
