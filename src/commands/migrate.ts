import type { Command } from 'commander';
import { holdDataFolder } from '../data-folder.ts';
import { openSqliteStore } from '../store/sqlite/sqlite-store.ts';
import { addSettingFlags, settingsOf } from './setting-flags.ts';

export function addMigrate(program: Command): void {
  const command = program.command('migrate').description('Bring the database to the schema of this version.');
  addSettingFlags(command, ['dataFolder', 'databaseUrl']).action(async () => {
    const folder = holdDataFolder(settingsOf(command).dataFolder, new Date());
    try {
      // Opening applies what is missing.
      await openSqliteStore({ file: folder.databaseFile }).close();
      process.stdout.write(`${folder.databaseFile} has the schema of this version.\n`);
    } finally {
      folder.release();
    }
  });
}
