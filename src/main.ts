/** The command line: parses arguments, runs one command, sets the exit code. */
import { Command, CommanderError } from 'commander';
import { COMMANDS } from './commands/commands.ts';
import { StartError } from './model/app-error.ts';
import { VERSION } from './version.ts';

const program = new Command('orderhook')
  .description("Calls a partner's URL each time an order is closed; the partner reads the order back.")
  .version(VERSION)
  .exitOverride();
for (const add of COMMANDS) add(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode;
  } else {
    const isExpected = error instanceof StartError;
    process.stderr.write(`orderhook: ${isExpected ? error.message : ((error as Error).stack ?? error)}\n`);
    process.exitCode = 1;
  }
}
