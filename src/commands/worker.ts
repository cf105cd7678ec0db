import type { Command } from 'commander';
import { startWorker } from '../app.ts';
import { createLog } from '../observe/log.ts';
import { runUntilAskedToEnd } from './process-end.ts';
import { addSettingFlags, SERVICE_SETTINGS, settingsOf } from './setting-flags.ts';

export function addWorker(program: Command): void {
  const command = program
    .command('worker')
    .description('Run the engine only: one more node on a PostgreSQL database.');
  addSettingFlags(command, SERVICE_SETTINGS).action(async () => {
    const settings = settingsOf(command);
    await runUntilAskedToEnd(
      (asked) => startWorker(settings, createLog(settings.logLevel), asked),
      ({ address }) => void process.stdout.write(`Orderhook worker is ready at ${address}\n`),
    );
  });
}
