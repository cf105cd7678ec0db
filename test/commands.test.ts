import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { sampleOrder } from '../src/commands/sample-orders.ts';
import { readOrderDetails } from '../src/model/order.ts';
import { runCommand, ServiceProcess } from './support/service-process.ts';
import { temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

const MAIN = join(import.meta.dirname, '../src/main.ts');

describe('commands', () => {
  test('demo --once sets everything up, delivers 60 orders, has them read back, and ends with 0', async () => {
    const { code, stdout, stderr } = await runCommand(['demo', '--once'], { ORDERHOOK_PORT: '0' });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /The service runs at http:\/\/127\.0\.0\.1:\d+/);
    assert.equal(stdout.match(/ {2}-> {2}/g)?.length, 60);
    assert.match(stdout, /60 orders closed, 60 delivered and read back\./);
  });

  test('config prints every setting that is in force, with secrets masked', async () => {
    const { code, stdout } = await runCommand(['config', '--port', '81'], {
      ORDERHOOK_ADMIN_KEY: 'very-secret',
      ORDERHOOK_PORT: '80',
    });
    assert.equal(code, 0);
    assert.match(stdout, /^ORDERHOOK_PORT=81$/m);
    assert.match(stdout, /^ORDERHOOK_ADMIN_KEY=\*{8}$/m);
    assert.ok(!stdout.includes('very-secret'));
  });

  test('an unknown variable and a value that does not parse stop the start, and both are told', async () => {
    const { code, stderr } = await runCommand(['serve'], { ORDERHOOK_PROT: '80', ORDERHOOK_PORT: 'eighty' });
    assert.equal(code, 1);
    assert.match(stderr, /ORDERHOOK_PROT is not a setting/);
    assert.match(stderr, /ORDERHOOK_PORT must be a whole number from 0 to 65535, not "eighty"/);
  });

  test('migrate makes the database, and says so', async () => {
    const folder = temporaryFolder();
    const { code, stdout } = await runCommand(['migrate'], { ORDERHOOK_DATA: folder.path });
    assert.equal(code, 0);
    assert.match(stdout, /orderhook\.db has the schema of this version/);
    folder.remove();
  });

  test('import says which lines were rejected, and that the service or the institution is not there', async () => {
    const folder = temporaryFolder();
    const service = await ServiceProcess.start(join(folder.path, 'data'));
    await service.call('POST', '/institutions', { code: 'A', name: 'A' });
    const file = join(folder.path, 'orders.ndjson');
    writeFileSync(
      file,
      '{"orderId":1,"orderState":"CLOSED"}\nnot json\n\n{"orderId":2}\n{"orderId":3,"orderState":"OPEN"}',
    );
    const settings = { ORDERHOOK_URL: service.address, ORDERHOOK_KEY: service.key };
    const imported = await runCommand(['import', file, '--institution', 'A'], settings);
    assert.equal(imported.code, 1);
    assert.equal(imported.stdout, '4 orders received, 2 stored, 1 closings recorded, 2 rejected\n');
    assert.match(imported.stderr, /^line 2: .*not JSON/m);
    assert.match(imported.stderr, /^line 4: .*orderState/m);
    const unknown = await runCommand(['import', file, '--institution', 'NONE'], settings);
    assert.equal(unknown.code, 1);
    assert.match(unknown.stderr, /404: .*NONE/);
    const away = await runCommand(['import', file, '--institution', 'A'], {
      ...settings,
      ORDERHOOK_URL: 'http://127.0.0.1:9',
    });
    assert.equal(away.code, 1);
    assert.match(away.stderr, /cannot be reached/);
    await service.stop();
    folder.remove();
  });

  test('filter explains what it says of an order, and points at what is wrong', async () => {
    const folder = temporaryFolder();
    const file = join(folder.path, 'order.json');
    writeFileSync(file, '{"orderId":1,"orderState":"CLOSED","orderType":"SALE"}');
    const matching = await runCommand(['filter', 'OrderDetailsData.OrderType=SALE', '--order', file]);
    assert.equal(matching.code, 0);
    assert.match(matching.stdout, /^true .*OrderType=SALE/m);
    assert.match(matching.stdout, /would be called/);
    const other = await runCommand(['filter', 'OrderDetailsData.OrderType=RENEWAL', '--order', file]);
    assert.equal(other.code, 3);
    assert.match(other.stdout, /would not be called/);
    const wrong = await runCommand(['filter', 'OrderDetailsData.OrderType']);
    assert.equal(wrong.code, 1);
    assert.match(wrong.stdout, /^error at \d+: /m);
    folder.remove();
  });

  test('listen prints each call and answers as it is told', async () => {
    const child = spawn(process.execPath, [MAIN, 'listen', '--port', '0', '--status', '503']);
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
    });
    await until('it listens', () => printed.includes('Listening at'));
    const address = /http:\S+?(?=,)/.exec(printed)?.[0] as string;
    const response = await fetch(`${address}/hook?id=42`, { method: 'POST', body: '{"id":42}' });
    assert.equal(response.status, 503);
    await until(
      'the call is printed',
      () => printed.includes('POST /hook?id=42  -> 503') && printed.includes('{"id":42}'),
    );
    child.kill('SIGTERM');
    assert.deepEqual((await once(child, 'exit'))[0], 0);
  });

  test('an unknown command ends with a code and a word of help', async () => {
    const { code, stderr } = await runCommand(['serf']);
    assert.notEqual(code, 0);
    assert.match(stderr, /unknown command 'serf'/);
  });
});

test('sample orders are orders, the same for the same number', () => {
  const at = new Date(0);
  for (let number = 0; number < 50; number += 1) {
    const text = JSON.stringify(sampleOrder(number, at));
    assert.equal(readOrderDetails(text).orderState, 'CLOSED');
    assert.equal(text, JSON.stringify(sampleOrder(number, at)));
  }
});
