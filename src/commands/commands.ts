/** All commands, each a function that adds itself to the program. */
import { Command, CommanderError } from 'commander';
import { maskCredentials } from '../model/credentials.ts';
import { VERSION } from '../version.ts';
import { addCompact } from './compact.ts';
import { addConfig } from './config.ts';
import { addDemo } from './demo.ts';
import { addFilter } from './filter.ts';
import { addImport } from './import.ts';
import { addListen } from './listen.ts';
import { addMigrate } from './migrate.ts';
import { describeEnd, watchOutput } from './process-end.ts';
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
  watchOutput(argv[2]);
  const program = new Command('orderhook')
    .description("Calls a partner's URL each time an order is closed; the partner reads the order back.")
    .version(VERSION)
    // A flag that it does not know may be a setting, mistyped, with a URL that holds a password.
    .configureOutput({ writeErr: (text) => process.stderr.write(maskCredentials(text)) })
    .exitOverride();
  for (const add of COMMANDS) add(program);
  try {
    await program.parseAsync(argv);
  } catch (error) {
    process.exitCode = error instanceof CommanderError ? error.exitCode : 1;
    if (!(error instanceof CommanderError)) process.stderr.write(describeEnd(error));
  }
}
