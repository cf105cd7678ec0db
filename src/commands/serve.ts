import type { Command } from 'commander';
import { startService } from '../app.ts';
import { createLog } from '../observe/log.ts';
import { runUntilAskedToEnd } from './process-end.ts';
import { addSettingFlags, SERVICE_SETTINGS, settingsOf } from './setting-flags.ts';

export function addServe(program: Command): void {
  const command = program
    .command('serve')
    .description('Run the service: API, web pages and engine in one process.');
  addSettingFlags(command, SERVICE_SETTINGS).action(async () => {
    const settings = settingsOf(command);
    await runUntilAskedToEnd(
      (asked) => startService(settings, createLog(settings.logLevel), asked),
      ({ address, setupUrl }) => {
        process.stdout.write(`Orderhook is ready at ${address}\n`);
        if (setupUrl === undefined) return;
        process.stdout.write(
          `Create the first administrator with this link, which works once: ${setupUrl}\n`,
        );
      },
    );
  });
}
