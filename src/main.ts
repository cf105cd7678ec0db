/** The command line: runs one command. */
import { enableCompileCache } from 'node:module';
import { boundHeaps } from './heap-bounds.ts';

const LONG_RUNNING = ['serve', 'worker', 'demo'];

// Both come before the rest is loaded: the first because it starts anew, the second because it spares reading TypeScript,
// which takes time and 25 MB in each thread.
if (LONG_RUNNING.includes(process.argv[2] ?? '')) boundHeaps();
enableCompileCache();
const { run } = await import('./commands/commands.ts');
await run(process.argv);
