/**
 * Keeps the heaps of a service small, and tidying them cheap (docs/decisions/0005-bounded-heaps.md). V8 lets a heap grow as
 * far as the machine's memory allows, and can be told otherwise on its command line only. So the process replaces itself,
 * under the same id, with one that was told.
 */
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';

/** In MiB, of each thread. A service lives on a tenth of the old space; the rest is room for floods of big orders. */
const BOUNDS = { '--max-semi-space-size': 4, '--max-old-space-size': 512 };

/** Of glibc, which gives every thread one of its own otherwise, each with its unused rest. */
const MALLOC_ARENAS = '2';

/**
 * What Node.js made of our TypeScript: a thread that finds it there needs no compiler, which takes some 10 MB and stays.
 * Beside the code, so that whoever can write it could write the code too. Where nobody can, it does without.
 */
export const COMPILE_CACHE = join(import.meta.dirname, '../node_modules/.cache/orderhook');

/** Returns in a process with these bounds, or where there can be none: on Windows. Those that it was started with are kept. */
export function tuneHeaps(): void {
  const given = process.execArgv.map((argument) => argument.replace(/=.*/, '').replaceAll('_', '-'));
  const missing = Object.entries(BOUNDS).filter(([name]) => !given.includes(name));
  if (missing.length > 0 && process.platform !== 'win32' && process.execve !== undefined) {
    const flags = missing.map(([name, mebibytes]) => `${name}=${mebibytes}`);
    process.execve(
      process.execPath,
      [process.execPath, ...flags, ...process.execArgv, ...process.argv.slice(1)],
      { MALLOC_ARENA_MAX: MALLOC_ARENAS, NODE_COMPILE_CACHE: COMPILE_CACHE, ...process.env },
    );
  }
  // A young generation of this size is cleared in a millisecond. Helping threads would hardly shorten that, and would take
  // the processor from everything else.
  setFlagsFromString('--no-parallel-scavenge');
}
