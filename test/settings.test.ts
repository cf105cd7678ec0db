/** What settings are taken, refused and shown. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { StartError } from '../src/model/app-error.ts';
import { maskCredentials } from '../src/model/credentials.ts';
import { printSettings, readSettings } from '../src/settings.ts';

describe('the address of a PostgreSQL database', () => {
  for (const url of [
    'postgres://user:pw@db.example:5432/orderhook',
    'postgresql://db.example/orderhook',
    'postgres://user:pw@a:5432,b:5433/orderhook',
    'postgres://user:p%40w,x@a,b,[::1]:5432/orderhook?target_session_attrs=read-write&sslmode=require',
    'postgres:///orderhook?host=/var/run/postgresql',
  ]) {
    test(`may be ${url}, and is printed masked`, () => {
      const settings = readSettings({ ORDERHOOK_DATABASE_URL: url });
      assert.equal(settings.databaseUrl, url);
      const printed = printSettings(settings);
      assert.match(printed, /^ORDERHOOK_DATABASE_URL=\*{8}$/m);
      for (const part of ['pw', 'p%40w', 'db.example', '5432']) assert.ok(!printed.includes(part), part);
    });
  }

  for (const url of [
    'mysql://user:hunter2@db.example/orderhook',
    'http://user:hunter2@db.example/orderhook',
    'user:hunter2@db.example/orderhook',
    'postgres://user:hunter2@a:5432,b:port/orderhook',
    'postgres://user:hunter2@a:70000/orderhook',
    'postgres://user:hunter2@a,,b/orderhook',
    'postgres://user:hunter2@a,b,/orderhook',
    'postgres://user:hunter2@a,b/orderhook?target_session_attrs=standby',
  ]) {
    test(`may not be ${url}, which is told without the password`, () => {
      assert.throws(
        () => readSettings({ ORDERHOOK_DATABASE_URL: url }),
        (error) =>
          error instanceof StartError &&
          /^ORDERHOOK_DATABASE_URL must (look like postgres:|have target_session_attrs=)/.test(
            error.message,
          ) &&
          !error.message.includes('hunter2'),
      );
    });
  }
});

describe('variables that Kubernetes makes for its Services', () => {
  const injected = {
    ORDERHOOK_SERVICE_HOST: '10.96.0.17',
    ORDERHOOK_SERVICE_PORT: '8080',
    ORDERHOOK_SERVICE_PORT_HTTP: '8080',
    ORDERHOOK_PORT: 'tcp://10.96.0.17:8080',
    ORDERHOOK_PORT_8080_TCP: 'tcp://10.96.0.17:8080',
    ORDERHOOK_PORT_8080_TCP_PROTO: 'tcp',
    ORDERHOOK_PORT_8080_TCP_PORT: '8080',
    ORDERHOOK_PORT_8080_TCP_ADDR: '10.96.0.17',
    ORDERHOOK_API_SERVICE_HOST: 'fd00::17',
    ORDERHOOK_API_SERVICE_PORT_WEB_TLS: '443',
    ORDERHOOK_API_PORT: 'tcp://[fd00::17]:443',
    ORDERHOOK_API_PORT_443_UDP: 'udp://[fd00::17]:443',
    ORDERHOOK_API_PORT_443_UDP_ADDR: 'fd00::17',
  };

  test('are ignored, and the port is the usual one', () => {
    assert.deepEqual(readSettings(injected), readSettings({}));
    assert.equal(readSettings({ ...injected, ORDERHOOK_DATA: '/data' }).dataFolder, '/data');
  });

  test('are known by their shape: a setting that is mistyped is noticed all the same', () => {
    for (const [name, value] of [
      ['ORDERHOOK_PORTS', '8080'],
      ['ORDERHOOK_PORT_NUMBER', '8080'],
      ['ORDERHOOK_API_PORT', '8080'],
      ['ORDERHOOK_API_SERVICE_HOST', 'example.org'],
      ['ORDERHOOK_SERVICE_PORT', 'eighty'],
      ['ORDERHOOK_PORT_8080_TCP_PROTO', 'http'],
      ['ORDERHOOK_DATABASE_URL_PORT_1_TCP', 'postgres://x'],
    ] as const) {
      assert.throws(() => readSettings({ [name]: value }), {
        message: new RegExp(`^${name} is not a setting`),
      });
    }
    for (const value of ['tcp://', 'tcp://10.0.0.1', 'http://10.0.0.1:8080', 'tcp://10.0.0.1:8080/x']) {
      assert.throws(
        () => readSettings({ ORDERHOOK_PORT: value }),
        /^StartError: ORDERHOOK_PORT must be a whole number/,
      );
    }
    assert.throws(() => readSettings({}, { port: 'tcp://10.0.0.1:8080' }), /--port must be a whole number/);
  });
});

describe('credentials in texts', () => {
  for (const [text, shown] of [
    ['no URL at all', 'no URL at all'],
    ['http://proxy:3128/path', 'http://proxy:3128/path'],
    ['see http://a:b@c/d and ftp://e@f', 'see http://********@c/d and ftp://********@f'],
    ['postgres://u:p@ss/w?rd#@a:5432,b/db', 'postgres://********@a:5432,b/db'],
    ['"http://u:p@h"', '"http://********@h"'],
    ["at 'HTTPS://u:p@h'", "at 'HTTPS://********@h'"],
    ['me@example.org', 'me@example.org'],
  ] as const) {
    test(`are masked: ${text}`, () => assert.equal(maskCredentials(text), shown));
  }

  test('never reach the log with an error, its causes or what it gathers', () => {
    const url = 'http://u:hunter2@proxy';
    const written = spawnSync(
      process.execPath,
      ['--input-type=module-typescript', '-e', LOGGING.replaceAll('URL', url)],
      { cwd: import.meta.dirname, encoding: 'utf8' },
    ).stderr;
    assert.match(written, /outer/);
    assert.match(written, /one of many/);
    assert.doesNotMatch(written, /hunter2/);
  });
});

const LOGGING = `
  import { createLog } from '../src/observe/log.ts';
  const log = createLog('info');
  log.error({ err: new Error('outer URL', { cause: new Error('inner URL') }) }, 'told');
  log.error({ err: new AggregateError([new Error('one of many URL')], 'all URL') }, 'told');
  log.error({ err: 'a text URL' }, 'told');
`;
