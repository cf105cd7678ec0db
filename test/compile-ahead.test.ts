import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ServiceProcess } from './support/service-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort();
}

test('at the first start everything is compiled ahead, so that no service keeps a compiler', async (t) => {
  const [data, cache] = [temporaryFolder(), temporaryFolder()];
  t.after(() => data.remove());
  t.after(() => cache.remove());
  const service = await ServiceProcess.start(data.path, { NODE_COMPILE_CACHE: cache.path });
  const ahead = filesIn(cache.path);
  assert.ok(ahead.length > 500, `${ahead.length} files`);
  const { status } = await service.request('POST', '/institutions', { code: 'VENUE', name: 'Venue' });
  assert.equal(status, 201);
  assert.equal(await service.stop(), 0);
  // What a process had to compile itself it writes when it ends.
  assert.deepEqual(filesIn(cache.path), ahead);
});
