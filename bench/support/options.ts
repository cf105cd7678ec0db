/** What the programs of `bench/` take: `--quick` for a look instead of a measurement, and `--only ROW` where there are rows. */
import { parseArgs } from 'node:util';

const OPTIONS = { quick: { type: 'boolean' }, only: { type: 'string', multiple: true } } as const;

/** `full` or, after `--quick`, `quick`. */
export function size<T>(full: T, quick: T): T {
  return parseArgs({ options: OPTIONS, allowPositionals: true }).values.quick ? quick : full;
}

/** Those of these rows that are asked for; all, when none is. Ends the program when there is no such row. */
export function chosenRows<Row extends string>(rows: readonly Row[]): readonly Row[] {
  const { only } = parseArgs({ options: OPTIONS }).values;
  const unknown = (only ?? []).filter((name) => !rows.some((row) => row === name));
  if (unknown.length > 0) {
    console.error(`There is no row ${unknown.join(', ')}. Rows: ${rows.join(', ')}.`);
    process.exit(2);
  }
  return only === undefined ? rows : rows.filter((row) => only.includes(row));
}
