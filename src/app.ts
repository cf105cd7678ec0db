/**
 * The composition root: puts the parts of the service together, starts them in order and stops them in reverse.
 *
 *     settings -> data folder -> store -> engine (own thread) -> server
 */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { type DataFolder, holdDataFolder } from './data-folder.ts';
import { createCaller } from './engine/caller.ts';
import { type EngineThread, startEngineThread } from './engine-thread.ts';
import { createServer } from './http/server.ts';
import { createSetupLink } from './http/setup.ts';
import { createVault } from './http/vault.ts';
import { StartError } from './model/app-error.ts';
import { createProcessMetrics } from './observe/metrics.ts';
import type { Settings } from './settings.ts';
import { ThreadLock } from './store/sqlite/database.ts';
import { openSqliteStore } from './store/sqlite/sqlite-store.ts';
import { USER_AGENT, VERSION } from './version.ts';

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
  if (settings.databaseUrl !== '')
    throw new StartError('ORDERHOOK_DATABASE_URL: PostgreSQL is not supported yet.');
  const extraCa = readExtraCa(settings.extraCaFile);
  const releasers: (() => unknown)[] = [];
  const release = async () => {
    for (let next = releasers.pop(); next !== undefined; next = releasers.pop()) await next();
  };
  try {
    const folder = holdDataFolder(settings.dataFolder, new Date());
    releasers.push(() => folder.release());
    const lock = new ThreadLock();
    const store = openSqliteStore({ file: folder.databaseFile, lockMemory: lock.memory });
    releasers.push(() => store.close());

    const limits = callLimits(settings);
    const engine = await startEngineThread({
      databaseFile: folder.databaseFile,
      lockMemory: lock.memory,
      logLevel: settings.logLevel,
      limits,
      egressProxy: settings.egressProxy,
      extraCa,
    });
    releasers.push(() => stopEngine(engine, settings.stopGraceMs, log));

    // For previews and test calls only: deliveries are the engine's.
    const caller = createCaller({
      userAgent: USER_AGENT,
      limits,
      ...(settings.egressProxy === '' ? {} : { egressProxy: settings.egressProxy }),
      ...(extraCa === '' ? {} : { extraCa }),
    });
    releasers.push(() => caller.close());

    const processMetrics = createProcessMetrics();
    releasers.push(() => processMetrics.stop());
    const needsSetup = settings.adminKey === '' && !(await store.hasAdministrator());
    const setup = needsSetup ? createSetupLink() : undefined;
    const server = await createServer({
      store,
      caller,
      clock: Date.now,
      log,
      version: VERSION,
      vault: createVault(encryptionKey(settings, folder)),
      ...(setup ? { setup } : {}),
      ...(settings.adminKey === '' ? {} : { adminKey: settings.adminKey }),
      limits: { webServiceCallsPerMinute: settings.webServiceCallsPerMinute },
      metrics: async () => (await processMetrics.text()) + (await engine.metrics()),
      engineReadiness: () => engine.readiness(),
    });
    releasers.push(() => server.close());
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

function encryptionKey(settings: Settings, folder: DataFolder): Uint8Array {
  return settings.encryptionKey === '' ? folder.encryptionKey : Buffer.from(settings.encryptionKey, 'hex');
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
