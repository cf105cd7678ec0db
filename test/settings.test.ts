/** What settings are taken, refused and shown. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StartError } from '../src/model/app-error.ts';
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
