import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serviceContract } from './service-contract.ts';
import { runCommand, ServiceProcess } from './support/service-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

serviceContract('SQLite', async () => {
  const folder = temporaryFolder();
  return { folder: folder.path, settings: {}, remove: folder.remove };
});

test('a second serve on the same folder refuses to start, saying who holds it', async () => {
  const folder = temporaryFolder();
  const first = await ServiceProcess.start(folder.path);
  const second = await runCommand(['serve'], { ORDERHOOK_DATA: folder.path, ORDERHOOK_PORT: '0' });
  assert.equal(second.code, 1);
  assert.match(second.stderr, /is held by process \d+, since /);
  assert.equal(await first.stop(), 0);
  folder.remove();
});
