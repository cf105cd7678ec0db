/**
 * Keeps the heaps of a service small, and tidying them cheap (docs/decisions/0005-bounded-heaps.md). V8 lets a heap grow as
 * far as the machine's memory allows, and can be told otherwise on its command line only. So the process replaces itself,
 * under the same id, with one that was told.
 */
import { setFlagsFromString } from 'node:v8';

/** In MiB, of each thread. A service lives on a tenth of the old space; the rest is room for floods of big orders. */
const BOUNDS = { '--max-semi-space-size': 8, '--max-old-space-size': 512 };

/** Returns in a process with these bounds, or where there can be none: on Windows. Those that it was started with are kept. */
export function tuneHeaps(): void {
  const given = process.execArgv.map((argument) => argument.replace(/=.*/, '').replaceAll('_', '-'));
  const missing = Object.entries(BOUNDS).filter(([name]) => !given.includes(name));
  if (missing.length > 0 && process.platform !== 'win32' && process.execve !== undefined) {
    process.execve(process.execPath, [
      process.execPath,
      ...missing.map(([name, mebibytes]) => `${name}=${mebibytes}`),
      ...process.execArgv,
      ...process.argv.slice(1),
    ]);
  }
  // A young generation of this size is cleared in two milliseconds. Helping threads would hardly shorten that, and would
  // take the processor from everything else.
  setFlagsFromString('--no-parallel-scavenge');
}
