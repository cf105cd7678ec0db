import type { Command } from 'commander';
import { startWorker } from '../app.ts';
import { createLog } from '../observe/log.ts';
import { untilAskedToEnd } from './process-end.ts';
import { addSettingFlags, SERVICE_SETTINGS, settingsOf } from './setting-flags.ts';

export function addWorker(program: Command): void {
  const command = program
    .command('worker')
    .description('Run the engine only: one more node on a PostgreSQL database.');
  addSettingFlags(command, SERVICE_SETTINGS).action(async () => {
    const settings = settingsOf(command);
    // Before the engine starts: a signal that comes while it does must not end calls that run.
    const asked = untilAskedToEnd();
    const worker = await startWorker(settings, createLog(settings.logLevel));
    process.stdout.write('Orderhook worker is ready\n');
    try {
      await Promise.race([asked, worker.broken]);
    } finally {
      await worker.stop();
    }
  });
}
