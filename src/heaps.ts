/**
 * Keeps the heaps of a service small, and tidying them cheap (docs/decisions/0005-bounded-heaps.md). V8 lets a heap grow as
 * far as the machine's memory allows, and can be told otherwise on its command line only. So the process replaces itself,
 * under the same id, with one that was told.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
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

const COMPILE_MS_MAX = 30_000;

/** Returns in a process with these bounds, or where there can be none: on Windows. Those that it was started with are kept. */
export function tuneHeaps(): void {
  const given = process.execArgv.map((argument) => argument.replace(/=.*/, '').replaceAll('_', '-'));
  const missing = Object.entries(BOUNDS).filter(([name]) => !given.includes(name));
  if (missing.length > 0 && process.platform !== 'win32' && process.execve !== undefined) {
    const flags = [...missing.map(([name, mebibytes]) => `${name}=${mebibytes}`), ...process.execArgv];
    const environment = {
      MALLOC_ARENA_MAX: MALLOC_ARENAS,
      NODE_COMPILE_CACHE: COMPILE_CACHE,
      ...process.env,
    };
    compileAhead(flags, environment);
    process.execve(process.execPath, [process.execPath, ...flags, ...process.argv.slice(1)], environment);
  }
  // A young generation of this size is cleared in a millisecond. Helping threads would hardly shorten that, and would take
  // the processor from everything else.
  setFlagsFromString('--no-parallel-scavenge');
}

/**
 * Once after each change of the code, a process that ends compiles all of it: a service that does so itself keeps the compiler
 * of TypeScript in each of its threads. Without success the start goes on, and compiles for itself.
 */
function compileAhead(flags: readonly string[], environment: NodeJS.ProcessEnv): void {
  try {
    const { NODE_COMPILE_CACHE: cache = COMPILE_CACHE } = environment;
    mkdirSync(cache, { recursive: true });
    const stamp = join(cache, `compiled-${fingerprint()}`);
    if (existsSync(stamp)) return;
    writeFileSync(stamp, ''); // first: where this fails it is not tried again with each start
    const program = join(import.meta.dirname, 'compile-ahead.ts');
    spawnSync(process.execPath, [...flags, program], {
      env: environment,
      stdio: 'ignore',
      timeout: COMPILE_MS_MAX,
    });
  } catch {
    // Nobody can write there.
  }
}

/** Of this Node.js and of all sources, by their sizes and times. */
function fingerprint(): string {
  const hash = createHash('sha256').update(process.version);
  for (const name of readdirSync(import.meta.dirname, { recursive: true, encoding: 'utf8' }).sort()) {
    const { size, mtimeMs } = statSync(join(import.meta.dirname, name));
    hash.update(`${name} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex').slice(0, 16);
}
