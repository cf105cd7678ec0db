import type { Command } from 'commander';
import { printSettings, SETTINGS, type SettingName } from '../settings.ts';
import { addSettingFlags, settingsOf } from './setting-flags.ts';

export function addConfig(program: Command): void {
  const command = program.command('config').description('Print the effective settings, secrets masked.');
  addSettingFlags(command, Object.keys(SETTINGS) as SettingName[]).action(() => {
    process.stdout.write(printSettings(settingsOf(command)));
  });
}
