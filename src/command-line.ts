/** The command line: runs one command. `bin/orderhook.js`, of which `main.ts` is another name, comes before it. */
import { enableCompileCache } from 'node:module';
import { COMPILE_CACHE, tuneHeaps } from './heaps.ts';

const LONG_RUNNING = ['serve', 'worker', 'demo'];

// Both come before the rest is loaded: the first because it starts anew, the second because it spares compiling the rest.
if (LONG_RUNNING.includes(process.argv[2] ?? '')) tuneHeaps();
enableCompileCache(COMPILE_CACHE);
const { run } = await import('./commands/commands.ts');
await run(process.argv);
