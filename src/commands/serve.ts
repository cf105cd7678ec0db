import type { Command } from 'commander';
import { startService } from '../app.ts';
import { createLog } from '../observe/log.ts';
import { untilAskedToEnd } from './process-end.ts';
import { addSettingFlags, SERVICE_SETTINGS, settingsOf } from './setting-flags.ts';

export function addServe(program: Command): void {
  const command = program
    .command('serve')
    .description('Run the service: API, web pages and engine in one process.');
  addSettingFlags(command, SERVICE_SETTINGS).action(async () => {
    const settings = settingsOf(command);
    // Before the engine starts: a signal that comes while it does must not end calls that run.
    const asked = untilAskedToEnd();
    const service = await startService(settings, createLog(settings.logLevel));
    process.stdout.write(`Orderhook is ready at ${service.address}\n`);
    if (service.setupUrl) {
      process.stdout.write(
        `Create the first administrator with this link, which works once: ${service.setupUrl}\n`,
      );
    }
    try {
      await Promise.race([asked, service.broken]);
    } finally {
      await service.stop();
    }
  });
}
