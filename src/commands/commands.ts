/** All commands, each a function that adds itself to the program. */
import { Command, CommanderError } from 'commander';
import { StartError } from '../model/app-error.ts';
import { VERSION } from '../version.ts';
import { addCompact } from './compact.ts';
import { addConfig } from './config.ts';
import { addDemo } from './demo.ts';
import { addFilter } from './filter.ts';
import { addImport } from './import.ts';
import { addListen } from './listen.ts';
import { addMigrate } from './migrate.ts';
import { addServe } from './serve.ts';
import { addWorker } from './worker.ts';

const COMMANDS: readonly ((program: Command) => void)[] = [
  addServe,
  addWorker,
  addDemo,
  addListen,
  addImport,
  addFilter,
  addMigrate,
  addCompact,
  addConfig,
];

/** Runs the command that `argv` names, as Node.js gives it. Never rejects: what went wrong is told, in the exit code too. */
export async function run(argv: readonly string[]): Promise<void> {
  const program = new Command('orderhook')
    .description("Calls a partner's URL each time an order is closed; the partner reads the order back.")
    .version(VERSION)
    .exitOverride();
  for (const add of COMMANDS) add(program);
  try {
    await program.parseAsync(argv);
  } catch (error) {
    process.exitCode = error instanceof CommanderError ? error.exitCode : 1;
    if (error instanceof CommanderError) return;
    const isExpected = error instanceof StartError;
    process.stderr.write(`orderhook: ${isExpected ? error.message : ((error as Error).stack ?? error)}\n`);
  }
}
