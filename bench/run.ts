/**
 * Runs the benchmarks, each as a program of its own, one after another.
 *
 *     npm run bench [-- NAME …] [--quick] [--only ROW …]
 *
 * Figures are printed as they come, and kept in `bench/results/NAME.json`. Ends with code 1 when a program failed, that is
 * when something was lost or made twice or did not work; a missed target is printed, and is no failure: it may be the
 * machine's.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { atExit } from './support/owned.ts';

const PROGRAMS = [
  'drain',
  'put',
  'import',
  'bad-imports',
  'latency',
  'filter',
  'memory',
  'growth',
  'neighbours',
];

const { values, positionals } = parseArgs({
  options: { quick: { type: 'boolean' }, only: { type: 'string', multiple: true } },
  allowPositionals: true,
});
const unknown = positionals.filter((name) => !PROGRAMS.includes(name));
if (unknown.length > 0) {
  console.error(`There is no ${unknown.join(', ')}. Benchmarks: ${PROGRAMS.join(', ')}.`);
  process.exit(2);
}

const startedAt = performance.now();
const failed: string[] = [];
for (const name of positionals.length > 0 ? positionals : PROGRAMS) {
  if (!(await succeeds(name))) failed.push(name);
}
console.log(`\n${Math.round((performance.now() - startedAt) / 1000)} s`);
if (failed.length > 0) {
  console.error(`Failed: ${failed.join(', ')}`);
  process.exitCode = 1;
}

async function succeeds(name: string): Promise<boolean> {
  const rows = (values.only ?? []).flatMap((row) => ['--only', row]);
  const args = [join(import.meta.dirname, `${name}.ts`), ...(values.quick ? ['--quick'] : []), ...rows];
  const child = spawn(process.execPath, args, { stdio: 'inherit' });
  // By a signal that it can clean up after.
  const forget = atExit(() => child.kill('SIGTERM'));
  const [code] = (await once(child, 'exit')) as [number | null];
  forget();
  return code === 0;
}
