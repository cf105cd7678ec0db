/** The command line: runs one command. */
import { enableCompileCache } from 'node:module';
import { tuneHeaps } from './heaps.ts';

const LONG_RUNNING = ['serve', 'worker', 'demo'];

// Both come before the rest is loaded: the first because it starts anew, the second because it spares reading TypeScript,
// which takes time and 25 MB in each thread.
if (LONG_RUNNING.includes(process.argv[2] ?? '')) tuneHeaps();
enableCompileCache();
const { run } = await import('./commands/commands.ts');
await run(process.argv);
