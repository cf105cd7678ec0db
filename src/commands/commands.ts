/** All commands, each a function that adds itself to the program. */
import type { Command } from 'commander';
import { addConfig } from './config.ts';
import { addDemo } from './demo.ts';
import { addFilter } from './filter.ts';
import { addImport } from './import.ts';
import { addListen } from './listen.ts';
import { addMigrate } from './migrate.ts';
import { addServe } from './serve.ts';
import { addWorker } from './worker.ts';

export const COMMANDS: readonly ((program: Command) => void)[] = [
  addServe,
  addWorker,
  addDemo,
  addListen,
  addImport,
  addFilter,
  addMigrate,
  addConfig,
];
