import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { DATABASE_FILE, FolderHeldError, holdDataFolder } from '../data-folder.ts';
import { StartError } from '../model/app-error.ts';
import { type Compacted, compactInSteps, rebuildFile } from '../store/sqlite/compact.ts';
import { addSettingFlags, settingsOf } from './setting-flags.ts';

const PROGRESS_EVERY_MS = 1_000;

export function addCompact(program: Command): void {
  const command = program
    .command('compact')
    .description(
      'Give back the room on disk that removed orders and old entries left, all at once; the service may run or not.',
    );
  addSettingFlags(command, ['dataFolder', 'databaseUrl']).action(async () => {
    const { dataFolder, databaseUrl } = settingsOf(command);
    if (databaseUrl !== '') {
      throw new StartError(
        'compact is for the embedded database. PostgreSQL uses the room again by itself (autovacuum); VACUUM FULL gives it back.',
      );
    }
    const file = join(resolve(dataFolder), DATABASE_FILE);
    if (!existsSync(file)) throw new StartError(`There is no database ${file}.`);
    tell(await compact(dataFolder, file));
  });
}

async function compact(dataFolder: string, file: string): Promise<Compacted> {
  let folder: ReturnType<typeof holdDataFolder>;
  try {
    folder = holdDataFolder(dataFolder, new Date());
  } catch (error) {
    if (!(error instanceof FolderHeldError)) throw error;
    process.stdout.write(`${file} is in use: giving its free pages back in small steps\n`);
    return compactInSteps(file, progress());
  }
  try {
    process.stdout.write(`${file} is not in use: writing it anew\n`);
    return rebuildFile(file);
  } finally {
    folder.release();
  }
}

function progress(): (freeBytes: number) => void {
  let toldAt = Date.now();
  return (freeBytes) => {
    if (Date.now() - toldAt < PROGRESS_EVERY_MS) return;
    toldAt = Date.now();
    process.stderr.write(`${megabytes(freeBytes)} MB to give back\n`);
  };
}

function tell({ bytesBefore, bytesAfter, isLogCut }: Compacted): void {
  process.stdout.write(
    `${megabytes(bytesBefore)} MB before, ${megabytes(bytesAfter)} MB now: ${megabytes(bytesBefore - bytesAfter)} MB given back\n`,
  );
  if (isLogCut) return;
  process.exitCode = 1;
  process.stderr.write(
    'The write-ahead log could not be cut, because a program reads what was there before. The service cuts it when that has ended.\n',
  );
}

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(1);
}
