/** Starts a service of no use, and the threads that it has at times, and ends them: all they load is then in the compile cache. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startService } from './app.ts';
import { createFilterThread } from './filter-thread.ts';
import { GRANULARITY_DEFAULT } from './model/granularity.ts';
import { createLog } from './observe/log.ts';
import { createOrderWriter } from './order-writer-thread.ts';
import { readSettings } from './settings.ts';
import { ThreadLock } from './store/sqlite/database.ts';

// The command line, by a command that only prints.
process.argv[2] = 'config';
await import('./command-line.ts');

const folder = mkdtempSync(join(tmpdir(), 'orderhook-'));
try {
  const settings = readSettings({ ORDERHOOK_DATA: folder, ORDERHOOK_HOST: '127.0.0.1', ORDERHOOK_PORT: '0' });
  const service = await startService(settings, createLog('silent'));
  await service.stop();
  const file = join(folder, 'orders.db');
  const writer = createOrderWriter({ kind: 'sqlite', file, lockMemory: new ThreadLock().memory });
  await writer.putOrders([], 0);
  await writer.stop();
  const filters = createFilterThread();
  await filters.ask({ filter: '', granularity: GRANULARITY_DEFAULT });
  await filters.stop();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
