/** Starts and stops with parts that are made up: the order of things, what one failure costs, and that time is bounded. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { describe, test } from 'node:test';
import { callerUntil } from '../src/app.ts';
import { DescriptorWatch } from '../src/descriptor-watch.ts';
import { stopEngine } from '../src/engine-stop.ts';
import { ClosingConnections } from '../src/http/closing-connections.ts';
import { untilStopping } from '../src/http/stoppable-chunks.ts';
import { AppError, StartError } from '../src/model/app-error.ts';
import { Releasers, releaseAll } from '../src/model/releasers.ts';
import { createServiceMetrics, type StoreFigures } from '../src/observe/metrics.ts';
import { openWhenUp } from '../src/start-wait.ts';
import { type PartsToStop, RELEASE_MS, stopInOrder } from '../src/stop.ts';
import { EngineFixture } from './support/engine-fixture.ts';
import { answered, FakeCallee } from './support/fake-callee.ts';
import { FakeClock, settle } from './support/fake-clock.ts';
import { until } from './support/until.ts';

const never = new Promise<never>(() => {});

/** What was logged, by event. */
function recordedLog() {
  const events: string[] = [];
  const write = (line: { event?: string }) => void events.push(line.event ?? '');
  return { events, log: { debug: write, info: write, warn: write, error: write, fatal: write } };
}

describe('releasers', () => {
  test('all run, in reverse, whatever one throws, and the first error is the one that is thrown', async () => {
    const ran: string[] = [];
    const releasers = new Releasers();
    releasers.push(() => ran.push('folder'));
    releasers.push(async () => {
      ran.push('store');
      throw new Error('second');
    });
    releasers.push(() => {
      ran.push('engine');
      throw new Error('first');
    });
    await assert.rejects(releasers.release(), /first/);
    assert.deepEqual(ran, ['engine', 'store', 'folder']);
    await releasers.release();
    assert.equal(ran.length, 3);
  });

  test('given as a list, the first runs first', async () => {
    const ran: number[] = [];
    const fail = async () => Promise.reject(new Error('the first fails'));
    await assert.rejects(
      releaseAll(
        fail,
        async () => ran.push(2),
        () => ran.push(3),
      ),
      /the first fails/,
    );
    assert.deepEqual(ran, [2, 3]);
  });
});

describe('a stop in order', () => {
  const times = { drainMs: 5_000, graceMs: 30_000 };

  function stopping(changes: Partial<PartsToStop> = {}, given = times) {
    const clock = new FakeClock();
    const began = clock.now();
    const told: string[] = [];
    const note = (what: string) => told.push(`${what} at ${clock.now() - began}`);
    const { events, log } = recordedLog();
    const parts: PartsToStop = {
      onAsked: () => note('asked'),
      engine: {
        async stop(withinMs) {
          note(`engine within ${withinMs}`);
        },
      },
      server: {
        async closeWithin(withinMs) {
          note(`server within ${withinMs}`);
        },
      },
      release: async () => void note('release'),
      ...changes,
    };
    let end: unknown;
    const stopped = stopInOrder(parts, given, { log, clock }).then(
      () => {
        end = clock.now() - began;
      },
      (error: unknown) => {
        end = error;
      },
    );
    return { clock, told, events, stopped, note, end: () => end };
  }

  test('tells the engine at once, the server when the drain is over, and releases the rest last', async () => {
    const { clock, told, stopped, events } = stopping();
    await clock.advance(60_000);
    await stopped;
    assert.deepEqual(told, [
      'asked at 0',
      'engine within 29000 at 0',
      'server within 29000 at 5000',
      'release at 5000',
    ]);
    assert.deepEqual(events, []);
  });

  test('without a drain tells all at once', async () => {
    const { told, stopped } = stopping({}, { drainMs: 0, graceMs: 30_000 });
    await stopped;
    assert.deepEqual(
      told.map((one) => one.replace(/.* at /, '')),
      ['0', '0', '0', '0'],
    );
  });

  for (const [what, changes] of [
    ['the engine', { engine: { stop: () => never } }],
    ['the server', { server: { closeWithin: () => never } }],
    ['what is released', { release: () => never }],
  ] as const) {
    test(`is over after drain and grace, although ${what} hangs, and says so`, async () => {
      const { clock, end, events } = stopping(changes);
      await clock.advance(34_999);
      assert.equal(end(), undefined);
      await clock.advance(1);
      assert.equal(end(), 35_000);
      assert.deepEqual(events, ['stop.late']);
    });
  }

  test('a grace that is shorter than a commit takes lets the last commit be made all the same', async () => {
    const { clock, told, end } = stopping({ release: () => never }, { drainMs: 0, graceMs: 0 });
    await clock.advance(RELEASE_MS - 1);
    assert.equal(end(), undefined);
    assert.ok(told.includes('engine within 0 at 0'));
    await clock.advance(1);
    assert.equal(end(), RELEASE_MS);
  });

  test('a part that fails keeps no other from stopping, and its error is thrown at the end', async () => {
    const failure = new Error('the server could not close');
    const { told, end, stopped } = stopping(
      {
        server: { closeWithin: () => Promise.reject(failure) },
        engine: { stop: () => Promise.reject(new Error('nor the engine')) },
      },
      { drainMs: 0, graceMs: 1_000 },
    );
    await stopped;
    assert.deepEqual(told, ['asked at 0', 'release at 0']);
    assert.match(String(end()), /nor the engine/);
  });
});

describe('the stop of an engine', () => {
  test('lets calls end in their time, then cuts them before anything is given back', async () => {
    const clock = new FakeClock();
    const order: string[] = [];
    const stopped = stopEngine({
      clock,
      callsMs: 1_000,
      caller: {
        callsInFlight: 3,
        destroy: async () => void order.push(`destroyed`),
      },
      engine: {
        stop: (cut) =>
          new Promise((resolve) => {
            cut?.addEventListener('abort', () => {
              order.push('cut');
              resolve();
            });
          }),
      },
    });
    await clock.advance(999);
    assert.deepEqual(order, []);
    await clock.advance(1);
    assert.equal(await stopped, 3);
    assert.deepEqual(order, ['destroyed', 'cut']);
  });

  test('cuts nothing when the calls end', async () => {
    const clock = new FakeClock();
    const caller = { callsInFlight: 0, destroy: () => assert.fail('it cut') };
    assert.equal(await stopEngine({ clock, callsMs: 1_000, caller, engine: { stop: async () => {} } }), 0);
    await clock.advance(2_000);
  });

  test('commits what had ended when its calls are cut, and gives its interfaces back', async (t) => {
    const fixture = await EngineFixture.start();
    t.after(() => {
      fixture.callee.release();
      return fixture.stop();
    });
    const one = await fixture.createInterface({ concurrency: 2 });
    fixture.callee.outcome = (_request, number) => (number < 3 ? answered() : undefined);
    await fixture.createSchedule(one, { launch: 'AUTOMATIC', frequencyMinutes: 0 });
    await fixture.close(10);
    await settle();
    assert.equal(fixture.callee.running, 2);
    const cut = new AbortController();
    let isStopped = false;
    const stopped = fixture.engine.stop(cut.signal).then(() => {
      isStopped = true;
    });
    await settle();
    assert.equal(isStopped, false);
    cut.abort();
    await stopped;
    const figures = await fixture.store.queueFigures(fixture.institution.id, one.id);
    assert.deepEqual([figures?.waiting, fixture.callee.calls.length], [7, 5]);
  });

  test('starts no call while the settings are on their way from a slow database', async (t) => {
    const fixture = await EngineFixture.start();
    t.after(() => {
      fixture.callee.release();
      return fixture.stop();
    });
    const one = await fixture.createInterface({ concurrency: 1 });
    await fixture.createSchedule(one, { launch: 'AUTOMATIC', frequencyMinutes: 0 });
    fixture.callee.outcome = () => undefined;
    await fixture.close(10);
    await settle();
    assert.equal(fixture.callee.calls.length, 1);
    const { promise: isBack, resolve: comeBack } = Promise.withResolvers<void>();
    const { engineInterfaces } = fixture.store;
    fixture.store.engineInterfaces = async (id) => {
      await isBack;
      return engineInterfaces(id);
    };
    await fixture.clock.advance(60_000); // it looks again, and waits for the database
    const stopped = fixture.engine.stop();
    fixture.callee.release();
    await settle();
    assert.equal(fixture.callee.calls.length, 1);
    comeBack();
    await stopped;
    assert.equal(fixture.callee.calls.length, 1);
  });
});

test('no test call starts once the process is asked to end', () => {
  const ending = new AbortController();
  const callee = new FakeCallee();
  const caller = callerUntil(ending.signal, callee);
  const request = { method: 'GET', url: 'http://callee.example/' } as const;
  caller.call(request, { allowPrivate: false }, () => {});
  ending.abort();
  assert.throws(
    () => caller.call(request, { allowPrivate: false }, () => {}),
    (error) => error instanceof AppError && error.code === 'store_unavailable',
  );
  assert.equal(callee.calls.length, 1);
});

describe('waiting for a database that is not up yet', () => {
  const away = new StartError('It is away.', { mayPass: true });
  const opened = {
    isClosed: false,
    async close() {
      this.isClosed = true;
    },
  };

  function waiting(open: () => Promise<typeof opened>, waitMs: number) {
    let time = 0;
    const { events, log } = recordedLog();
    const asked = new AbortController();
    const pause = async (ms: number) => {
      time += ms;
      await settle(1);
      asked.signal.throwIfAborted();
    };
    const given = { waitMs, log, asked: asked.signal, now: () => time, pause };
    return { events, asked, time: () => time, result: openWhenUp(open, given) };
  }

  test('tries again until it is up, and says so every few seconds', async () => {
    let tries = 0;
    const { result, events, time } = waiting(async () => {
      tries += 1;
      if (tries <= 30) throw away;
      return opened;
    }, 60_000);
    assert.equal(await result, opened);
    assert.equal(tries, 31);
    assert.equal(time(), 15_000);
    assert.deepEqual(events, ['start.waiting', 'start.waiting', 'start.waiting']);
  });

  test('gives up when its time is over, saying how long it waited', async () => {
    const { result, time } = waiting(async () => Promise.reject(away), 10_000);
    await assert.rejects(result, (error) => {
      return (
        error instanceof StartError &&
        error.message === 'It is away. It did not come up within 10 s (ORDERHOOK_START_WAIT_S).'
      );
    });
    assert.equal(time(), 10_000);
  });

  test('with no time to wait fails at the first try', async () => {
    const { result, events } = waiting(async () => Promise.reject(away), 0);
    await assert.rejects(result, { message: 'It is away.' });
    assert.deepEqual(events, []);
  });

  test('waits for nothing that a person must mend', async () => {
    for (const error of [new StartError('A wrong password.'), new TypeError('A bug')]) {
      const { result, time } = waiting(async () => Promise.reject(error), 10_000);
      await assert.rejects(result, (thrown) => thrown === error);
      assert.equal(time(), 0);
    }
  });

  test('asked to end it ends at once, also while it tries, and closes what opens later', async () => {
    const { promise: opening, resolve: open } = Promise.withResolvers<typeof opened>();
    const { result, asked } = waiting(() => opening, 10_000);
    asked.abort();
    await assert.rejects(result, (error) => error === asked.signal.reason);
    assert.equal(opened.isClosed, false);
    open(opened);
    await settle();
    assert.equal(opened.isClosed, true);
    const pausing = waiting(async () => Promise.reject(away), 10_000);
    pausing.asked.abort();
    await assert.rejects(pausing.result, (error) => error === pausing.asked.signal.reason);
  });
});

describe('metrics of the service', () => {
  const up: StoreFigures = {
    check: async () => {},
    queueTotals: async () => ({ waiting: 1, owed: 2, abandoned: 3 }),
    horizonLagMs: async () => 4_000,
  };

  test('tell what the store says, and that it is up', async () => {
    const text = await createServiceMetrics(up).text();
    assert.match(text, /^orderhook_store_up 1$/m);
    assert.match(text, /^orderhook_deliveries\{state="owed"\} 2$/m);
    assert.match(text, /^orderhook_log_horizon_lag_seconds 4$/m);
  });

  test('leave out what the store cannot say, and come back with it', async () => {
    let isAway = false;
    const orAway =
      <T>(ask: () => Promise<T>) =>
      () =>
        isAway ? Promise.reject(new Error('away')) : ask();
    const metrics = createServiceMetrics({
      check: orAway(up.check),
      queueTotals: orAway(up.queueTotals),
      horizonLagMs: orAway(up.horizonLagMs),
    });
    await metrics.text();
    isAway = true;
    const text = await metrics.text();
    assert.match(text, /^orderhook_store_up 0$/m);
    assert.match(text, /^process_resident_memory_bytes /m);
    assert.doesNotMatch(text, /^orderhook_(deliveries|log_horizon_lag_seconds)[ {]/m);
    isAway = false;
    assert.match(await metrics.text(), /^orderhook_deliveries\{state="owed"\} 2$/m);
  });

  test('wait for no store that stands still, and ask it nothing anew meanwhile', async () => {
    let asked = 0;
    const stand = () => {
      asked += 1;
      return never;
    };
    const metrics = createServiceMetrics({ check: stand, queueTotals: stand, horizonLagMs: stand }, 20);
    for (let scrape = 0; scrape < 5; scrape += 1) {
      assert.match(await metrics.text(), /^orderhook_store_up 0$/m);
    }
    assert.equal(asked, 3);
  });
});

describe('file descriptors', () => {
  test('that run out are told once and now and then, and that there are some again', async () => {
    const clock = new FakeClock();
    const { events, log } = recordedLog();
    let code: string | undefined;
    const watch = new DescriptorWatch({
      clock,
      log,
      probe() {
        if (code) throw Object.assign(new Error(code), { code });
      },
    });
    await clock.advance(5_000);
    assert.equal(watch.trouble(), undefined);
    code = 'ENOENT';
    assert.equal(watch.trouble(), undefined);
    code = 'EMFILE';
    await clock.advance(30_000);
    assert.match(watch.trouble() ?? '', /No file descriptor is left \(EMFILE\)/);
    assert.deepEqual(events, ['descriptors.none']);
    await clock.advance(40_000);
    assert.equal(events.length, 2);
    code = undefined;
    await clock.advance(1_000);
    assert.deepEqual(events.slice(2), ['descriptors.left']);
    watch.stop();
    code = 'EMFILE';
    await clock.advance(10_000);
    assert.equal(events.length, 3);
  });
});

test('a body is read until the service stops, even while its client sends nothing', async () => {
  async function* chunks() {
    yield 1;
    yield 2;
    await never;
  }
  const stopping = new AbortController();
  const read: number[] = [];
  const reading = (async () => {
    for await (const chunk of untilStopping(chunks(), stopping.signal)) read.push(chunk);
  })();
  await settle();
  stopping.abort();
  await assert.rejects(reading, { code: 'store_unavailable' });
  assert.deepEqual(read, [1, 2]);
});

test('a server that closes waits for those that it owes an answer, and for nobody else', async () => {
  const answers: (() => void)[] = [];
  const server = createServer((_request, response) => void answers.push(() => response.end('done')));
  const connections = new ClosingConnections(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const client = async (text: string) => {
    const socket = connect(port, '127.0.0.1');
    let received = '';
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        received += chunk;
      });
    await once(socket, 'connect');
    socket.write(text);
    return { socket, received: () => received };
  };
  const silent = await client('');
  const half = await client('GET / HTTP/1.1\r\nHost');
  const owed = await client('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  const stuck = await client('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  await until('both requests are there', () => answers.length === 2);
  const done = connections.closing(2_000);
  const closed = new Promise((resolve) => server.close(resolve));
  await until('those without a request are gone', () => silent.socket.closed && half.socket.closed);
  assert.ok(!owed.socket.closed && !stuck.socket.closed);
  answers[0]?.();
  await until('the answer ends its connection', () => owed.socket.closed || stuck.socket.closed);
  assert.ok(owed.received().endsWith('done') || stuck.received().endsWith('done'));
  await closed; // the other is cut
  done();
});
