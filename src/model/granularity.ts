/** [V2] Section 4.2: how much of an order is given; each level adds to the one before. */
export const GRANULARITIES = ['OPERATIONS', 'MOVEMENTS', 'TICKETS'] as const;
export type Granularity = (typeof GRANULARITIES)[number];
export const GRANULARITY_DEFAULT: Granularity = 'TICKETS';

/** The lists of an order that exist only from a granularity on. */
export const LIST_GRANULARITY: ReadonlyMap<string, Granularity> = new Map([
  ['movementDatas', 'MOVEMENTS'],
  ['ticketDatas', 'TICKETS'],
]);

/** Whether `granularity` gives what `needed` gives. */
export function includesGranularity(granularity: Granularity, needed: Granularity): boolean {
  return GRANULARITIES.indexOf(granularity) >= GRANULARITIES.indexOf(needed);
}

/** The same details without the lists that the granularity leaves out; the given object is not changed. */
export function cutToGranularity<T extends object>(details: T, granularity: Granularity): Partial<T> {
  const kept: Partial<T> = { ...details };
  for (const [list, needed] of LIST_GRANULARITY) {
    if (!includesGranularity(granularity, needed)) delete kept[list as keyof T];
  }
  return kept;
}
