/**
 * The composition root: puts the parts of the service together, starts them in order and stops them in reverse.
 *
 *     settings -> database -> store -> engine (own thread) -> server
 */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { createCaller } from './caller/caller.ts';
import { holdDataFolder, keptEncryptionKey } from './data-folder.ts';
import { type EngineThread, type EngineThreadOptions, startEngineThread } from './engine-thread.ts';
import { createFilterThread } from './filter-thread.ts';
import { createServer } from './http/server.ts';
import { createSetupLink } from './http/setup.ts';
import { createVault } from './http/vault.ts';
import { StartError } from './model/app-error.ts';
import { createServiceMetrics } from './observe/metrics.ts';
import { type DatabaseChoice, openStore } from './open-store.ts';
import { createOrderWriter } from './order-writer-thread.ts';
import type { Settings } from './settings.ts';
import { ThreadLock } from './store/sqlite/database.ts';
import { USER_AGENT, VERSION } from './version.ts';

const DAY_MS = 24 * 60 * 60 * 1_000;

export type Service = {
  /** `http://127.0.0.1:8080` */
  readonly address: string;
  /** Good once, to create the first administrator; undefined when there is one. */
  readonly setupUrl: string | undefined;
  /** Takes no new work, finishes running calls, commits. */
  stop(): Promise<void>;
  /** Rejects when a part broke that the service cannot do without; never resolves. */
  readonly broken: Promise<never>;
};

/** @throws StartError when a setting or the data folder does not allow it */
export async function startService(settings: Settings, log: Logger): Promise<Service> {
  const extraCa = readExtraCa(settings.extraCaFile);
  const releasers: (() => unknown)[] = [];
  const release = async () => {
    for (let next = releasers.pop(); next !== undefined; next = releasers.pop()) await next();
  };
  try {
    const { database, encryptionKey } = chooseDatabase(settings, releasers);
    const store = await openStore(database);
    releasers.push(() => store.close());

    const engine = await startEngineThread(engineOptions(settings, database, extraCa));
    releasers.push(() => stopEngine(engine, settings.stopGraceMs, log));

    // For previews and test calls only: deliveries are the engine's.
    const caller = createCaller({
      userAgent: USER_AGENT,
      limits: callLimits(settings),
      ...(settings.egressProxy === '' ? {} : { egressProxy: settings.egressProxy }),
      ...(extraCa === '' ? {} : { extraCa }),
    });
    releasers.push(() => caller.close());

    // A server stores in processes of its own; to a file it is done here.
    const orderWriter = database.kind === 'sqlite' ? createOrderWriter(database) : undefined;
    releasers.push(() => orderWriter?.stop());

    const filters = createFilterThread();
    releasers.push(() => filters.stop());

    const metrics = createServiceMetrics(store);
    const needsSetup = settings.adminKey === '' && !(await store.hasAdministrator());
    const setup = needsSetup ? createSetupLink() : undefined;
    const server = await createServer({
      store,
      importStore: orderWriter ?? store,
      caller,
      clock: Date.now,
      log,
      version: VERSION,
      vault: createVault(encryptionKey),
      ...(setup ? { setup } : {}),
      ...(settings.adminKey === '' ? {} : { adminKey: settings.adminKey }),
      askFilter: (question) => filters.ask(question),
      hosts: [settings.host, ...settings.hosts],
      limits: { webServiceCallsPerMinute: settings.webServiceCallsPerMinute },
      metrics: async () => (await metrics.text()) + (await engine.metrics()),
      engineReadiness: () => engine.readiness(),
    });
    releasers.push(() => closeServer(server, settings.stopGraceMs));
    const address = await listen(server, settings);
    return {
      address,
      setupUrl: setup && `${address}/setup?token=${setup.token}`,
      stop: release,
      broken: engine.died,
    };
  } catch (error) {
    await release();
    throw error;
  }
}

/** The engine alone, beside others on one PostgreSQL database. @throws StartError without such a database */
export async function startWorker(
  settings: Settings,
  log: Logger,
): Promise<Pick<Service, 'stop' | 'broken'>> {
  const { databaseUrl: url, databaseListen } = settings;
  if (url === '') throw new StartError('A worker needs PostgreSQL: set ORDERHOOK_DATABASE_URL.');
  const database: DatabaseChoice = { kind: 'postgres', url, listen: databaseListen === 'on' };
  const engine = await startEngineThread(
    engineOptions(settings, database, readExtraCa(settings.extraCaFile)),
  );
  return { stop: () => stopEngine(engine, settings.stopGraceMs, log), broken: engine.died };
}

function engineOptions(settings: Settings, database: DatabaseChoice, extraCa: string): EngineThreadOptions {
  return {
    database,
    logLevel: settings.logLevel,
    limits: callLimits(settings),
    egressProxy: settings.egressProxy,
    extraCa,
    retentionMs: settings.retentionDays * DAY_MS,
  };
}

function callLimits(settings: Settings) {
  return {
    connectMs: settings.connectTimeoutMs,
    firstByteMs: settings.responseTimeoutMs,
    exchangeMs: settings.exchangeTimeoutMs,
    answerBytesMax: settings.answerBytesMax,
  };
}

function readExtraCa(file: string): string {
  if (file === '') return '';
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new StartError(`ORDERHOOK_EXTRA_CA_FILE cannot be read: ${(error as Error).message}.`);
  }
}

/** SQLite in the data folder, which this process then holds, or PostgreSQL; and the key that secrets are sealed with. */
function chooseDatabase(
  settings: Settings,
  releasers: (() => unknown)[],
): { database: DatabaseChoice; encryptionKey: Uint8Array } {
  const given = settings.encryptionKey === '' ? undefined : Buffer.from(settings.encryptionKey, 'hex');
  if (settings.databaseUrl !== '') {
    return {
      database: { kind: 'postgres', url: settings.databaseUrl, listen: settings.databaseListen === 'on' },
      encryptionKey: given ?? keptEncryptionKey(settings.dataFolder),
    };
  }
  const folder = holdDataFolder(settings.dataFolder, new Date());
  releasers.push(() => folder.release());
  return {
    database: { kind: 'sqlite', file: folder.databaseFile, lockMemory: new ThreadLock().memory },
    encryptionKey: given ?? folder.encryptionKey,
  };
}

async function listen(
  server: Awaited<ReturnType<typeof createServer>>,
  { host, port }: Settings,
): Promise<string> {
  try {
    await server.listen({ host, port });
  } catch (error) {
    throw new StartError(`Cannot listen on ${host}:${port}: ${(error as Error).message}.`);
  }
  const bound = server.server.address() as AddressInfo;
  return `http://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`;
}

/** Requests that are under way are answered; a client that stalls in one is cut off after the grace. */
async function closeServer(server: Awaited<ReturnType<typeof createServer>>, graceMs: number): Promise<void> {
  const cut = setTimeout(() => server.server.closeAllConnections(), graceMs).unref();
  await server.close();
  clearTimeout(cut);
}

/** Calls that run longer than the grace are cut; their orders stay in the queue. */
async function stopEngine(engine: EngineThread, graceMs: number, log: Logger): Promise<void> {
  const late = new Promise<'late'>((resolve) => setTimeout(resolve, graceMs, 'late').unref());
  const stopped = engine.stop();
  stopped.catch(() => {}); // it rejects when the thread is killed below, or died
  if ((await Promise.race([stopped, late])) === 'late') {
    await engine.kill();
    log.warn({ event: 'stop.late', graceMs }, 'calls were still running; their orders stay in the queue');
  }
}
