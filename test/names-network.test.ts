/** Names of a real `serve`, in a network of its own with a DNS server of its own. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { ownNetworkMissing, runInOwnNetwork } from './support/own-network.ts';

test('names of one institution that stay silent cost another nothing, and the system’s files are honoured', async (t) => {
  const missing = ownNetworkMissing();
  if (missing) {
    const because = `NOT RUN: names in a network with silent DNS servers. ${missing}.`;
    t.diagnostic(because);
    return t.skip(because);
  }
  const { code, report } = await runInOwnNetwork(
    join(import.meta.dirname, 'support/names-in-own-network.ts'),
    {
      hosts: '127.0.0.1 localhost\n127.0.0.1 listed.example # and not in DNS\n',
      signal: t.signal,
      resolver: 'nameserver 127.0.0.1\nsearch corp.example\n',
    },
  );
  for (const line of report.split('\n').filter((line) => line.trim() !== '')) t.diagnostic(line);
  assert.equal(code, 0, report);
});
