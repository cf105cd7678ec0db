import type { Command } from 'commander';
import { holdDataFolder } from '../data-folder.ts';
import { type DatabaseChoice, openStore } from '../open-store.ts';
import { ThreadLock } from '../store/sqlite/database.ts';
import { addSettingFlags, settingsOf } from './setting-flags.ts';

export function addMigrate(program: Command): void {
  const command = program.command('migrate').description('Bring the database to the schema of this version.');
  addSettingFlags(command, ['dataFolder', 'databaseUrl']).action(async () => {
    const { databaseUrl, dataFolder } = settingsOf(command);
    if (databaseUrl !== '') {
      await migrate({ kind: 'postgres', url: databaseUrl, listen: false }, 'The PostgreSQL database');
      return;
    }
    const folder = holdDataFolder(dataFolder, new Date());
    try {
      await migrate(
        { kind: 'sqlite', file: folder.databaseFile, lockMemory: new ThreadLock().memory },
        folder.databaseFile,
      );
    } finally {
      folder.release();
    }
  });
}

/** Opening applies what is missing. */
async function migrate(database: DatabaseChoice, name: string): Promise<void> {
  await (await openStore(database)).close();
  process.stdout.write(`${name} has the schema of this version.\n`);
}
