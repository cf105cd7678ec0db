import type { Command } from 'commander';
import { holdDataFolder } from '../data-folder.ts';
import { createLog } from '../observe/log.ts';
import { type DatabaseChoice, openStore } from '../open-store.ts';
import { ThreadLock } from '../store/sqlite/database.ts';
import { endRequest } from './process-end.ts';
import { addSettingFlags, settingsOf } from './setting-flags.ts';

export function addMigrate(program: Command): void {
  const command = program.command('migrate').description('Bring the database to the schema of this version.');
  addSettingFlags(command, ['dataFolder', 'databaseUrl', 'startWaitS']).action(async () => {
    const { databaseUrl: url, dataFolder, startWaitS } = settingsOf(command);
    if (url !== '') {
      const startWaitMs = startWaitS * 1_000;
      await migrate({ kind: 'postgres', url, listen: false, startWaitMs }, 'The PostgreSQL database');
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
  const asked = endRequest();
  try {
    await (await openStore(database, { log: createLog('warn'), asked })).close();
  } catch (error) {
    if (asked.aborted && error === asked.reason) process.exit();
    throw error;
  }
  process.stdout.write(`${name} has the schema of this version.\n`);
}
