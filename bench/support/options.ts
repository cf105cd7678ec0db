/** What every program of `bench/` takes: `--quick` for a look instead of a measurement. */
import { parseArgs } from 'node:util';

/** `full` or, after `--quick`, `quick`. */
export function size<T>(full: T, quick: T): T {
  const { values } = parseArgs({ options: { quick: { type: 'boolean' } }, allowPositionals: true });
  return values.quick ? quick : full;
}
