/** How a start fails, in one line; what it waits for; and what it leaves on the disk. Real processes. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { Agent, get } from 'node:http';
import { connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import pg from 'pg';
import { StartError } from '../src/model/app-error.ts';
import { startTrouble } from '../src/store/postgres/start-trouble.ts';
import { api, NodeProcess } from './support/node-process.ts';
import { freePort, PostgresServer } from './support/postgres-server.ts';
import { RecordingCallee } from './support/recording-callee.ts';
import { startRefusingPostgres } from './support/refusing-postgres.ts';
import { type Finished, runCommand, ServiceProcess } from './support/service-process.ts';
import { type TemporaryFolder, temporaryFolder } from './support/temporary-folder.ts';
import { until } from './support/until.ts';

const MAIN = join(import.meta.dirname, '../src/main.ts');
const LAUNCHER = join(import.meta.dirname, '../bin/orderhook.js');

let folder: TemporaryFolder;
beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(() => folder.remove());

function serve(settings: Record<string, string>, command = 'serve'): Promise<Finished> {
  return runCommand([command], {
    ORDERHOOK_DATA: join(folder.path, 'data'),
    ORDERHOOK_PORT: '0',
    ORDERHOOK_ADMIN_KEY: 'k',
    ...settings,
  });
}

/** It failed, and said why in one line. */
function assertOneLine({ code, stdout, stderr }: Finished, said: RegExp): void {
  assert.equal(code, 1, stderr);
  assert.equal(stdout, '');
  assert.match(stderr, /^orderhook: [^\n]+\n$/);
  assert.match(stderr, said);
  assert.doesNotMatch(stderr, /hunter2/);
}

describe('a start that fails says why in one line', () => {
  test('the data folder is a file, or below one', async () => {
    writeFileSync(join(folder.path, 'data'), '');
    assertOneLine(
      await serve({}),
      /The data folder \S+ cannot be used: EEXIST: .* It is a file: name another/,
    );
    const below = await serve({ ORDERHOOK_DATA: join(folder.path, 'data/more') });
    assertOneLine(below, /cannot be used: ENOTDIR: .* A part of the path is a file/);
  });

  test('the data folder, or a file in it, is not ours to write', async (t) => {
    const data = join(folder.path, 'data');
    mkdirSync(data);
    // As root everything is: then a file system that takes no writes is the next best.
    const isRoot = process.getuid?.() === 0;
    if (isRoot) {
      const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro,size=1m', 'tmpfs', data]);
      if (status !== 0) {
        const because = 'NOT TESTED: a data folder that takes no writes. Mounting one needs root on Linux.';
        t.diagnostic(because);
        t.skip(because);
        return;
      }
    } else chmodSync(data, 0o500);
    const finished = await serve({});
    if (isRoot) spawnSync('umount', [data]);
    assertOneLine(
      finished,
      /cannot be used: (EROFS|EACCES): .* (name another folder|Give this user the right)/,
    );
  });

  test('the disk is full, and nothing half written is left', async (t) => {
    const data = join(folder.path, 'data');
    mkdirSync(data);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', data]).status === 0;
    if (!mounted) {
      const because = 'NOT TESTED: a start on a full disk. Mounting one needs root on Linux.';
      t.diagnostic(because);
      t.skip(because);
      return;
    }
    try {
      const fill = (bytes: number) => writeFileSync(join(data, 'ballast'), Buffer.alloc(bytes));
      fill(16 * 1024);
      assertOneLine(
        await serve({}),
        /The data folder \S+ cannot be used: ENOSPC: .* Make room on its disk\./,
      );
      assert.ok(!existsSync(join(data, 'encryption.key')));
      fill(4 * 1024);
      assertOneLine(await serve({}), /The database file \S+ cannot be opened: .*full.*/);
    } finally {
      spawnSync('umount', [data]);
    }
  });

  test('the database file is none', async () => {
    mkdirSync(join(folder.path, 'data'));
    writeFileSync(join(folder.path, 'data/orderhook.db'), 'x'.repeat(10_000));
    assertOneLine(await serve({}), /The database file \S+ cannot be opened: file is not a database\./);
  });

  test('the key file holds no key', async () => {
    mkdirSync(join(folder.path, 'data'));
    writeFileSync(join(folder.path, 'data/encryption.key'), 'none');
    assertOneLine(await serve({}), /encryption\.key does not hold a key of 64 hexadecimal digits\./);
  });

  for (const kind of ['SQLite', 'PostgreSQL'] as const) {
    test(`the key does not open the secrets that are there, ${kind}`, async (t) => {
      const settings: Record<string, string> =
        kind === 'SQLite' ? {} : { ORDERHOOK_DATABASE_URL: await server.database() };
      const first = await ServiceProcess.start(join(folder.path, 'data'), settings);
      t.after(() => first.stop('SIGKILL'));
      await first.call('POST', '/institutions', { code: 'A', name: 'A' });
      await first.call('POST', '/institutions/A/partners', { partner: 'ACME', operator: 'OP' });
      assert.equal(await first.stop(), 0);
      const another = { ...settings, ORDERHOOK_ENCRYPTION_KEY: 'ab'.repeat(32) };
      assertOneLine(
        await serve(another),
        /The encryption key does not open the partners' secrets that are there/,
      );
      const same = await ServiceProcess.start(join(folder.path, 'data'), settings);
      assert.equal(await same.stop(), 0);
    });
  }

  for (const command of ['serve', 'worker'] as const) {
    test(`the port of a ${command} is in use`, async (t) => {
      const taken = createServer();
      await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
      t.after(() => taken.close());
      const { port } = taken.address() as { port: number };
      const url = command === 'worker' ? { ORDERHOOK_DATABASE_URL: await server.database() } : {};
      assertOneLine(
        await serve({ ORDERHOOK_PORT: String(port), ...url }, command),
        /Cannot listen on 127\.0\.0\.1:\d+: listen EADDRINUSE: .* choose another port with ORDERHOOK_PORT\./,
      );
    });
  }

  test('the host is no address of this machine', async () => {
    assertOneLine(
      await serve({ ORDERHOOK_HOST: '192.0.2.1' }),
      /listen EADDRNOTAVAIL: .* see ORDERHOOK_HOST\./,
    );
  });

  test('the file of authorities is not there, or holds none', async () => {
    const file = join(folder.path, 'ca.pem');
    assertOneLine(
      await serve({ ORDERHOOK_EXTRA_CA_FILE: file }),
      /ORDERHOOK_EXTRA_CA_FILE cannot be read: ENOENT/,
    );
    writeFileSync(file, 'no certificate');
    assertOneLine(
      await serve({ ORDERHOOK_EXTRA_CA_FILE: file }),
      /ORDERHOOK_EXTRA_CA_FILE holds no certificate/,
    );
  });

  for (const [code, message, said] of [
    [
      '28P01',
      'password authentication failed for user "ann"',
      /user "ann": 28P01 password .* Check user and password\./,
    ],
    [
      '28000',
      'no pg_hba.conf entry',
      /28000 no pg_hba\.conf entry\. Check the user, and what pg_hba\.conf lets in\./,
    ],
    [
      '3D000',
      'database "shop" does not exist',
      /database "shop", .* Create the database, or check its name\./,
    ],
  ] as const) {
    test(`the database refuses with ${code}, which is not waited for`, async (t) => {
      const refusing = await startRefusingPostgres(code, message);
      t.after(() => refusing.close());
      const url = { ORDERHOOK_DATABASE_URL: refusing.url };
      for (const command of ['serve', 'worker', 'migrate']) assertOneLine(await serve(url, command), said);
      assert.equal(refusing.connections, 3);
    });
  }

  for (const [code, message, said] of [
    ['53300', 'sorry, too many clients already', /53300 sorry, .* Raise max_connections, or run fewer nodes/],
    [
      '57P03',
      'the database system is starting up',
      /57P03 the database .* It is starting up or shutting down\./,
    ],
    [undefined, '', /Connection terminated unexpectedly/],
  ] as const) {
    test(`the database refuses with ${code ?? 'silence'}, which is waited for`, async (t) => {
      const refusing = await startRefusingPostgres(code, message);
      t.after(() => refusing.close());
      const finished = await serve({ ORDERHOOK_DATABASE_URL: refusing.url, ORDERHOOK_START_WAIT_S: '1' });
      const lines = finished.stderr.trimEnd().split('\n');
      assert.equal(lines.length, 2, finished.stderr);
      assert.match(lines[0] as string, /"event":"start\.waiting"/);
      assertOneLine({ ...finished, stderr: `${lines[1]}\n` }, said);
      assert.match(lines[1] as string, /It did not come up within 1 s \(ORDERHOOK_START_WAIT_S\)\.$/);
      assert.ok(refusing.connections > 1);
    });
  }

  test('nothing listens where the database should, on one host or several', async () => {
    const port = await freePort();
    for (const [hosts, tried] of [
      [`127.0.0.1:${port}`, `127\\.0\\.0\\.1:${port}`],
      [`127.0.0.1:${port},localhost:${port}`, `127\\.0\\.0\\.1:${port} and localhost:${port}`],
    ] as const) {
      const url = `postgres://ann:hunter2@${hosts}/shop`;
      assertOneLine(
        await serve({ ORDERHOOK_DATABASE_URL: url, ORDERHOOK_START_WAIT_S: '0' }),
        new RegExp(`Tried ${tried}, database "shop", user "ann": .*ECONNREFUSED .* Nothing listens there`),
      );
    }
  });

  test('the certificate of the database’s authority is not there, which is not waited for', async () => {
    const url = 'postgres://ann:hunter2@127.0.0.1/shop?sslmode=verify-full&sslrootcert=/nowhere/ca.pem';
    assertOneLine(
      await serve({ ORDERHOOK_DATABASE_URL: url }),
      /ENOENT: no such file or directory, open '\/nowhere\/ca\.pem'\. Check sslmode and sslrootcert/,
    );
  });

  const named = (code: string, message: string, syscall?: string) =>
    Object.assign(new Error(message), { code, ...(syscall && { syscall }) });
  for (const [error, mayPass, said] of [
    [
      named('ENOTFOUND', 'getaddrinfo ENOTFOUND db.example'),
      true,
      /ENOTFOUND db\.example\. No such host is known/,
    ],
    [named('EAI_AGAIN', 'getaddrinfo EAI_AGAIN db.example'), true, /The name server does not answer/],
    [named('ETIMEDOUT', 'connect ETIMEDOUT'), true, /does not answer/],
    [named('ENOENT', 'connect ENOENT /run/.s.PGSQL.5432', 'connect'), true, /ENOENT/],
    [named('ENOENT', 'no such file, open', 'open'), false, /sslrootcert/],
    [named('SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate'), false, /sslrootcert/],
    [new Error('The server does not support SSL connections'), false, /sslmode/],
    [new Error('timeout expired'), true, /timeout expired/],
    [
      new AggregateError([
        named('ECONNREFUSED', 'connect ECONNREFUSED ::1:1'),
        named('ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:1'),
      ]),
      true,
      /::1:1; connect ECONNREFUSED 127/,
    ],
  ] as const) {
    test(`of a database: ${String(error)}`, () => {
      const trouble = startTrouble(error, 'db.example:5432');
      assert.ok(trouble instanceof StartError);
      assert.equal(trouble.mayPass, mayPass);
      assert.match(trouble.message, said);
      assert.doesNotMatch(trouble.message, /\n/);
    });
  }

  test('a bug of ours stays what it is', () => {
    const bug = new TypeError('x is not a function');
    assert.equal(startTrouble(bug, 'db'), bug);
    const wrong = new pg.DatabaseError('syntax error', 0, 'error');
    wrong.code = '42601';
    assert.equal(startTrouble(wrong, 'db'), wrong);
  });
});

let server: PostgresServer;
before(async () => {
  server = await PostgresServer.start();
});
after(() => server.remove());

describe('a database that is not up yet', () => {
  test('is waited for', async (t) => {
    const url = await server.database();
    await server.stop();
    const settings = { ORDERHOOK_DATABASE_URL: url, ORDERHOOK_LOG_LEVEL: 'warn' };
    const nodes = (['serve', 'worker'] as const).map(
      (command) => new NodeProcess(folder.path, { command, settings }),
    );
    t.after(async () => {
      for (const node of nodes) if (!node.hasEnded) await node.end('SIGKILL');
    });
    for (const node of nodes) await until('it waits', () => node.errors.includes('start.waiting'));
    await server.start();
    for (const node of nodes) {
      await node.ready;
      assert.equal((await node.end('SIGTERM')).exitCode, 0);
    }
  });

  test('is waited for no longer once the process is asked to end', async () => {
    const url = `postgres://ann@127.0.0.1:${await freePort()}/shop`;
    for (const command of ['serve', 'worker'] as const) {
      const settings = { ORDERHOOK_DATABASE_URL: url, ORDERHOOK_LOG_LEVEL: 'warn' };
      const node = new NodeProcess(folder.path, { command, settings });
      await until('it waits', () => node.errors.includes('start.waiting'));
      const { exitCode, sentAt, endedAt } = await node.end('SIGTERM');
      assert.equal(exitCode, 0);
      assert.ok(endedAt - sentAt < 10_000);
      assert.doesNotMatch(node.errors, /^orderhook:/m);
    }
  });
});

describe('what is on the disk', () => {
  const modesIn = (path: string) =>
    readdirSync(path).map((name) => `${name} ${(statSync(join(path, name)).mode & 0o777).toString(8)}`);
  const PRIVATE = [
    'encryption.key 600',
    'held-by 600',
    'lock 600',
    'orderhook.db 600',
    'orderhook.db-shm 600',
    'orderhook.db-wal 600',
  ];

  for (const umask of ['000', '077', '022', '0277']) {
    test(`is the owner's alone with umask ${umask}, in a folder that was open to all`, async (t) => {
      const data = join(folder.path, 'data');
      mkdirSync(data);
      chmodSync(data, 0o777);
      const node = new NodeProcess(data, { through: ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh'] });
      t.after(() => (node.hasEnded ? undefined : node.end('SIGKILL')));
      const address = await node.ready;
      await api(address, 'POST', '/institutions', { code: 'A', name: 'A' });
      assert.deepEqual(modesIn(data).sort(), PRIVATE);
      assert.equal((await node.end('SIGTERM')).exitCode, 0);
    });
  }

  test('is narrowed where it was wider', async (t) => {
    const data = join(folder.path, 'data');
    const first = new NodeProcess(data);
    await first.ready;
    await first.end('SIGKILL');
    for (const name of readdirSync(data)) chmodSync(join(data, name), 0o666);
    const second = new NodeProcess(data);
    t.after(() => (second.hasEnded ? undefined : second.end('SIGKILL')));
    await second.ready;
    assert.deepEqual(modesIn(data).sort(), PRIVATE);
    assert.equal((await second.end('SIGTERM')).exitCode, 0);
  });

  test('is the key alone with PostgreSQL, and the owner’s', async (t) => {
    const data = join(folder.path, 'data');
    mkdirSync(data);
    writeFileSync(join(data, 'encryption.key'), `${'ab'.repeat(32)}\n`, { mode: 0o644 });
    const settings = { ORDERHOOK_DATABASE_URL: await server.database() };
    const node = new NodeProcess(data, { settings });
    t.after(() => (node.hasEnded ? undefined : node.end('SIGKILL')));
    await node.ready;
    assert.deepEqual(modesIn(data), ['encryption.key 600']);
    assert.equal((await node.end('SIGTERM')).exitCode, 0);
  });
});

describe('a worker', () => {
  test('has health, readiness and metrics of its own, with the rules of a serve', async (t) => {
    const url = await server.database();
    const callee = await RecordingCallee.start();
    t.after(() => callee.stop());
    const settings = { ORDERHOOK_DATABASE_URL: url };
    const service = await ServiceProcess.start(join(folder.path, 'data'), settings);
    t.after(() => service.stop('SIGKILL'));
    const { code } = await service.setUp(callee.address, {
      schedule: { launch: 'AUTOMATIC', frequencyMinutes: 0 },
    });
    assert.equal(await service.stop(), 0);
    const worker = new NodeProcess(folder.path, { command: 'worker', settings });
    t.after(() => (worker.hasEnded ? undefined : worker.end('SIGKILL')));
    const address = await worker.ready;
    const ask = (path: string, headers: Record<string, string> = {}) =>
      fetch(`${address}${path}`, { headers });
    assert.match(address, /^http:\/\/127\.0\.0\.1:\d+$/);
    assert.equal((await ask('/healthz')).status, 200);
    assert.deepEqual(await (await ask('/readyz')).json(), { status: 'ready', horizonLagMs: 0 });
    assert.equal((await ask('/metrics', { 'x-forwarded-for': '203.0.113.9' })).status, 401);
    const authorization = 'Bearer crash-test-admin-key';
    assert.equal((await ask('/metrics', { 'x-forwarded-for': '203.0.113.9', authorization })).status, 200);
    for (const path of ['/', '/docs', '/openapi.json', '/api/v1/institutions']) {
      assert.equal((await ask(path, { authorization })).status, 404, path);
    }

    const second = await ServiceProcess.start(join(folder.path, 'data'), settings);
    t.after(() => second.stop('SIGKILL'));
    for (let orderId = 1; orderId <= 20; orderId += 1) {
      await second.call('PUT', `/institutions/${code}/orders/${orderId}`, { orderId, orderState: 'CLOSED' });
    }
    const delivered = async (from: string) =>
      Number(
        /^orderhook_calls_total\{outcome="delivered"\} (\d+)$/m.exec(
          await (await fetch(`${from}/metrics`)).text(),
        )?.[1] ?? 0,
      );
    await until('each counts what it made', async () => {
      return (await delivered(address)) + (await delivered(second.address)) >= 20;
    });
    assert.ok((await delivered(address)) > 0, 'the worker held the interface first');
    assert.equal((await worker.end('SIGTERM')).exitCode, 0);
    assert.equal(await second.stop(), 0);
  });
});

describe('metrics while the database is away', () => {
  test('are there, without what it would have to say, and quickly', async (t) => {
    const own = await PostgresServer.start();
    t.after(() => own.remove());
    const settings = { ORDERHOOK_DATABASE_URL: await own.database(), ORDERHOOK_LOG_LEVEL: 'fatal' };
    const service = await ServiceProcess.start(join(folder.path, 'data'), settings);
    t.after(() => service.stop('SIGKILL'));
    const metrics = async () => {
      const began = performance.now();
      const response = await fetch(`${service.address}/metrics`);
      assert.equal(response.status, 200);
      const text = await response.text();
      assert.ok(performance.now() - began < 4_000, 'sooner than a statement is given up');
      return text;
    };
    const isUp = async () => /^orderhook_store_up 1$/m.test(await metrics());
    assert.ok(await isUp());
    own.freeze();
    for (let scrape = 0; scrape < 3; scrape += 1) {
      const text = await metrics();
      assert.match(text, /^orderhook_store_up 0$/m);
      assert.match(text, /^process_cpu_seconds_total /m);
      assert.match(text, /^# HELP orderhook_executions_total /m);
      assert.doesNotMatch(text, /^orderhook_deliveries\{/m);
    }
    own.thaw();
    await until('it is up again', isUp);
    await own.stop('SIGQUIT');
    assert.match(await metrics(), /^orderhook_store_up 0$/m);
    await own.start();
    await until('it is up again', isUp);
    assert.equal(await service.stop(), 0);
  });
});

describe('no file descriptors', () => {
  test('to accept with: the process lives, says so, and goes on when there are some', async (t) => {
    const node = new NodeProcess(folder.path, { through: ['sh', '-c', 'ulimit -n 80; exec "$@"', 'sh'] });
    t.after(() => (node.hasEnded ? undefined : node.end('SIGKILL')));
    const address = await node.ready;
    const { port } = new URL(address);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.after(() => agent.destroy());
    const ready = () =>
      new Promise<string>((resolve, reject) => {
        get({ port, path: '/readyz', agent }, (response) => {
          let text = `${response.statusCode} `;
          response.on('data', (chunk) => {
            text += chunk;
          });
          response.on('end', () => resolve(text));
        }).on('error', reject);
      });
    assert.match(await ready(), /^200 /);
    const sockets = Array.from({ length: 100 }, () =>
      connect(Number(port), '127.0.0.1').on('error', () => {}),
    );
    t.after(() => {
      for (const socket of sockets) socket.destroy();
    });
    await until('it says so', async () => /^503 .*No file descriptor is left \(EMFILE\)/.test(await ready()));
    await until('and in the log', () => node.errors.includes('"event":"descriptors.none"'));
    for (const socket of sockets) socket.destroy();
    await until('it goes on', async () => {
      const isServing = await fetch(`${address}/healthz`).then(
        ({ ok }) => ok,
        () => false,
      );
      return isServing && (await ready()).startsWith('200 ');
    });
    assert.equal(node.errors.match(/descriptors\.none/g)?.length, 1);
    assert.equal((await node.end('SIGTERM')).exitCode, 0);
  });
});

describe('the program', () => {
  const OLD_NODE = ['/usr/bin/node', '/usr/local/bin/node'].find((program) => {
    const { stdout } = spawnSync(program, ['--version'], { encoding: 'utf8' });
    return Number(/^v(\d+)/.exec(stdout ?? '')?.[1] ?? 99) < 24;
  });

  test('says which Node.js it needs, on one that claims to be older', () => {
    const pretend =
      'data:text/javascript,Object.defineProperty(process,"versions",{value:{...process.versions,node:"22.1.0"}})';
    for (const entry of [MAIN, LAUNCHER]) {
      const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', pretend, entry, 'config'], {
        encoding: 'utf8',
      });
      assert.deepEqual([status, stdout], [1, '']);
      assert.match(stderr, /^orderhook: Node\.js 24 or newer is needed; this is 22\.1\.0, [^\n]+\n$/);
    }
  });

  const because = 'NOT TESTED: a real Node.js that is too old. None is in /usr/bin or /usr/local/bin.';
  if (!OLD_NODE) console.warn(because);
  test('says so on a real one that is older', { skip: !OLD_NODE && because }, () => {
    for (const entry of [MAIN, LAUNCHER]) {
      const { status, stdout, stderr } = spawnSync(OLD_NODE as string, [entry, 'serve'], {
        encoding: 'utf8',
      });
      assert.deepEqual([status, stdout], [1, '']);
      assert.match(stderr, /^orderhook: Node\.js 24 or newer is needed; [^\n]+\n$/);
    }
  });

  test('runs through a link, as package managers make one', () => {
    const link = join(folder.path, 'orderhook');
    symlinkSync(LAUNCHER, link);
    const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` };
    const { status, stdout, stderr } = spawnSync(link, ['config'], {
      encoding: 'utf8',
      env,
      cwd: folder.path,
    });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^ORDERHOOK_PORT=/m);
    rmSync(link);
  });

  for (const args of [['config'], ['--help'], ['filter', 'OrderDetailsData.OrderType=SALE'], ['demo']]) {
    test(`${args[0]} ends in silence when whoever reads what it prints has gone`, async () => {
      const child = spawn(process.execPath, [MAIN, ...args], {
        env: { ...process.env, ORDERHOOK_PORT: '0' },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      child.stdout.destroy();
      let errors = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        errors += text;
      });
      assert.deepEqual(await once(child, 'close'), [0, null]);
      assert.equal(errors, '');
    });
  }

  test('serve goes on without a reader of its output and of its log', async (t) => {
    const data = join(folder.path, 'data');
    const port = await freePort();
    const child = spawn(process.execPath, [MAIN, 'serve'], {
      env: {
        ...process.env,
        ORDERHOOK_DATA: data,
        ORDERHOOK_PORT: String(port),
        ORDERHOOK_LOG_LEVEL: 'debug',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.after(() => child.kill('SIGKILL'));
    child.stdout.destroy();
    child.stderr.destroy();
    const isUp = () =>
      fetch(`http://127.0.0.1:${port}/healthz`).then(
        ({ ok }) => ok,
        () => false,
      );
    await until('it is up', isUp);
    for (let n = 0; n < 5; n += 1) assert.ok(await isUp());
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });
});
