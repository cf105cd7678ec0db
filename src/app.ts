/**
 * The composition root: puts the parts of the service together, starts them in order and stops them (`stop.ts`).
 *
 *     settings -> database -> store -> server -> engine (own thread)
 *
 * The server listens before the engine starts, so that a port in use ends a start before any call was made.
 */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createSecureContext } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { type Caller, createCaller } from './caller/caller.ts';
import { createNames } from './caller/names.ts';
import { holdDataFolder, keptEncryptionKey } from './data-folder.ts';
import { DescriptorWatch } from './descriptor-watch.ts';
import { type EngineThread, type EngineThreadOptions, startEngineThread } from './engine-thread.ts';
import { createFilterThread } from './filter-thread.ts';
import { type CallSlots, OwnCallSlots } from './http/call-slots.ts';
import { createServer, createSystemServer } from './http/server.ts';
import { createSetupLink } from './http/setup.ts';
import { createVault, type Vault } from './http/vault.ts';
import { AppError, StartError } from './model/app-error.ts';
import { systemClock } from './model/clock.ts';
import { Releasers } from './model/releasers.ts';
import { createServiceMetrics, figure } from './observe/metrics.ts';
import {
  type DatabaseChoice,
  type FileChoice,
  openStore,
  openStoreToRead,
  type ServerChoice,
} from './open-store.ts';
import { createOrderWriter } from './order-writer-thread.ts';
import type { Settings } from './settings.ts';
import { stopInOrder, workMsOf } from './stop.ts';
import { ThreadLock } from './store/sqlite/database.ts';
import type { Store } from './store/store.ts';
import { USER_AGENT, VERSION } from './version.ts';

const DAY_MS = 24 * 60 * 60 * 1_000;
/** How long the engine's thread is waited for when metrics are asked: it may have much to do. */
const ENGINE_METRICS_WITHIN_MS = 1_000;

const TELL_ACCEPT_FAILURES_EVERY_MS = 60_000;

export type Service = {
  /** `http://127.0.0.1:8080` */
  readonly address: string;
  /** Good once, to create the first administrator; undefined when there is one. */
  readonly setupUrl: string | undefined;
  /** Takes no new work, lets what runs end, commits; bounded as `stop.ts` says. */
  stop(): Promise<void>;
  /** Rejects when a part broke that the service cannot do without; never resolves. */
  readonly broken: Promise<never>;
};

/**
 * `asked`: aborted when the process is asked to end. While it starts, the start is given up; once it has, `stop` must follow.
 * @throws StartError when a setting, the data folder, the database or the port does not allow it; the signal's reason when it
 * was given up
 */
export async function startService(
  settings: Settings,
  log: Logger,
  asked: AbortSignal = new AbortController().signal,
): Promise<Service> {
  const releasers = new Releasers();
  const ending = new AbortController();
  return orRelease(releasers, async () => {
    const extraCa = readExtraCa(settings.extraCaFile);
    const { database, encryptionKey } = chooseDatabase(settings, releasers, log);
    const store = await openStore(database, { log, asked });
    releasers.push(() => store.close());

    const names = createNames({ limitMs: settings.connectTimeoutMs });
    releasers.push(() => names.close());

    const vault = createVault(encryptionKey);
    checkVault(vault, await store.anySealedSecret());

    // For test calls only: deliveries are the engine's.
    const caller = createCaller({
      userAgent: USER_AGENT,
      limits: callLimits(settings),
      resolve: names.resolve,
      egressProxy: settings.egressProxy,
      ...(extraCa === '' ? {} : { extraCa }),
    });
    releasers.push(() => caller.destroy());

    // A server stores in processes of its own; to a file it is done here.
    const orderWriter = database.kind === 'sqlite' ? createOrderWriter(database) : undefined;
    releasers.push(() => orderWriter?.stop());

    const filters = createFilterThread();
    releasers.push(() => filters.stop());

    const needsSetup = settings.adminKey === '' && !(await store.hasAdministrator());
    const setup = needsSetup ? createSetupLink() : undefined;
    const engine = new EngineSlot();
    const server = await createServer({
      store,
      importStore: orderWriter ?? store,
      caller: callerUntil(ending.signal, caller),
      resolve: names.resolve,
      hasEgressProxy: settings.egressProxy !== undefined,
      vault,
      ...(setup ? { setup } : {}),
      askFilter: (question) => filters.ask(question),
      callSlots: engine.callSlots(ending.signal),
      limits: {
        webServiceCallsPerMinute: settings.webServiceCallsPerMinute,
        webServiceLimitStatus: settings.webServiceLimitStatus,
      },
      ...systemParts(settings, { store, engine, log, releasers, ending: ending.signal }),
    });
    releasers.push(() => server.closeWithin(0));
    const address = await listen(server, settings, log);
    await engine.start(engineOptions(settings, database, extraCa), asked, workMsOf(settings.stopGraceMs));
    return {
      address,
      setupUrl: setup && `${address}/setup?token=${setup.token}`,
      stop: stopOnce({ settings, log, engine, server, releasers, ending }),
      broken: engine.died,
    };
  });
}

/**
 * The engine beside others on one PostgreSQL database, with health, readiness and metrics on its port.
 * @throws as `startService`; StartError without such a database
 */
export async function startWorker(
  settings: Settings,
  log: Logger,
  asked: AbortSignal = new AbortController().signal,
): Promise<Omit<Service, 'setupUrl'>> {
  const releasers = new Releasers();
  const ending = new AbortController();
  return orRelease(releasers, async () => {
    if (settings.databaseUrl === '') {
      throw new StartError('A worker needs PostgreSQL: set ORDERHOOK_DATABASE_URL.');
    }
    const extraCa = readExtraCa(settings.extraCaFile);
    const database = serverChoice(settings);
    // Only asked for what health, readiness and metrics are about; it needs to hear nobody.
    const store = await openStoreToRead(database, { log, asked });
    releasers.push(() => store.close());
    const engine = new EngineSlot();
    const server = await createSystemServer({
      store,
      ...systemParts(settings, { store, engine, log, releasers, ending: ending.signal }),
    });
    releasers.push(() => server.closeWithin(0));
    const address = await listen(server, settings, log);
    await engine.start(engineOptions(settings, database, extraCa), asked, workMsOf(settings.stopGraceMs));
    return {
      address,
      stop: stopOnce({ settings, log, engine, server, releasers, ending }),
      broken: engine.died,
    };
  });
}

/** @throws StartError for a key that does not open what is there: every partner would be refused, one by one */
function checkVault(vault: Vault, sealed: string | undefined): void {
  if (sealed === undefined) return;
  try {
    vault.open(sealed);
  } catch (error) {
    throw new StartError(
      "The encryption key does not open the partners' secrets that are there: give all nodes the key that sealed them, " +
        'as ORDERHOOK_ENCRYPTION_KEY or as the file encryption.key in the data folder.',
      { cause: error },
    );
  }
}

/** Gives back what was begun of a start that failed; its error is the one to tell. */
async function orRelease<T>(releasers: Releasers, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    await releasers.release().catch(() => {});
    throw error;
  }
}

function stopOnce(parts: {
  settings: Settings;
  log: Logger;
  engine: EngineSlot;
  server: FastifyInstance;
  releasers: Releasers;
  ending: AbortController;
}): () => Promise<void> {
  const { settings, log, engine, server, releasers, ending } = parts;
  let stopping: Promise<void> | undefined;
  return () => {
    stopping ??= stopInOrder(
      {
        onAsked: () => ending.abort(),
        engine,
        server,
        release: () => releasers.release(),
      },
      { drainMs: settings.drainS * 1_000, graceMs: settings.stopGraceMs },
      { log, clock: { after: wakefulTimer } },
    );
    return stopping;
  };
}

/** Unlike the clock's it keeps the process alive: what is waited for may be all that is left. */
function wakefulTimer(delayMs: number, action: () => void): () => void {
  const timer = setTimeout(action, delayMs);
  return () => clearTimeout(timer);
}

/** The engine of a server that listens before there is one. */
class EngineSlot {
  #thread: EngineThread | undefined;

  async start(options: EngineThreadOptions, asked: AbortSignal, callsMs: number): Promise<void> {
    this.#thread = await startEngineThread(options, asked, callsMs);
  }

  get died(): Promise<never> {
    if (!this.#thread) throw new Error('The engine has not started.');
    return this.#thread.died;
  }

  async metrics(): Promise<string> {
    return this.#thread?.metrics() ?? '';
  }

  async readiness() {
    return this.#thread?.readiness() ?? { ready: false, because: 'The engine is starting.' };
  }

  /**
   * Test calls and deliveries share the concurrency of an interface where this node works it. Where another node does, or
   * none, test calls have as many slots of their own: nodes do not ask each other before a call.
   */
  callSlots(ending: AbortSignal): CallSlots {
    const own = new OwnCallSlots();
    return {
      reserve: async (institutionId, interfaceId, concurrency) => {
        if (ending.aborted) throw stoppingError();
        const taken = (await this.#thread?.reserveSlot(institutionId, interfaceId)) ?? 'elsewhere';
        if (taken === 'elsewhere') return own.reserve(institutionId, interfaceId, concurrency);
        return taken === 'full' ? undefined : taken;
      },
    };
  }

  async stop(withinMs: number): Promise<void> {
    await this.#thread?.stop(withinMs);
  }
}

/** What both kinds of servers need for health, readiness and metrics. */
function systemParts(
  settings: Settings,
  given: {
    store: Pick<Store, 'check' | 'queueTotals' | 'horizonLagMs'>;
    engine: EngineSlot;
    log: Logger;
    releasers: Releasers;
    ending: AbortSignal;
  },
) {
  const { store, engine, log, releasers, ending } = given;
  const descriptors = new DescriptorWatch({ clock: systemClock, log });
  releasers.push(() => descriptors.stop());
  const metrics = createServiceMetrics(store);
  const engineMetrics = figure(() => engine.metrics(), ENGINE_METRICS_WITHIN_MS);
  return {
    clock: Date.now,
    log,
    version: VERSION,
    ending,
    hosts: [settings.host, ...settings.hosts],
    ...(settings.adminKey === '' ? {} : { adminKey: settings.adminKey }),
    metrics: async () => (await Promise.all([metrics.text(), engineMetrics()])).join(''),
    async engineReadiness() {
      const because = descriptors.trouble();
      return because === undefined ? engine.readiness() : { ready: false, because };
    },
  };
}

function stoppingError(): AppError {
  return new AppError('store_unavailable', 'The service is stopping: no call starts any more.');
}

/** No call starts once the process was asked to end, test calls included. */
export function callerUntil(ending: AbortSignal, caller: Pick<Caller, 'call'>): Pick<Caller, 'call'> {
  return {
    call(...given) {
      if (ending.aborted) {
        throw stoppingError();
      }
      caller.call(...given);
    },
  };
}

function engineOptions(settings: Settings, database: DatabaseChoice, extraCa: string): EngineThreadOptions {
  return {
    database,
    logLevel: settings.logLevel,
    limits: callLimits(settings),
    egressProxy: settings.egressProxy,
    extraCa,
    retentionMs: settings.retentionDays * DAY_MS,
    orderRetentionMs: settings.orderRetentionDays === '' ? undefined : settings.orderRetentionDays * DAY_MS,
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

/** @throws StartError for a file that would leave every call to these authorities' callees without trust */
function readExtraCa(file: string): string {
  if (file === '') return '';
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new StartError(`ORDERHOOK_EXTRA_CA_FILE cannot be read: ${(error as Error).message}.`);
  }
  try {
    createSecureContext({ ca: text });
  } catch (error) {
    throw new StartError(`ORDERHOOK_EXTRA_CA_FILE, ${file}, is broken: ${(error as Error).message}.`);
  }
  if (!text.includes('-----BEGIN CERTIFICATE-----')) {
    throw new StartError(`ORDERHOOK_EXTRA_CA_FILE holds no certificate in PEM form: ${file}.`);
  }
  return text;
}

/** SQLite in the data folder, which this process then holds, or PostgreSQL; and the key that secrets are sealed with. */
function chooseDatabase(
  settings: Settings,
  releasers: Releasers,
  log: Logger,
): { database: DatabaseChoice; encryptionKey: Uint8Array } {
  const given = settings.encryptionKey === '' ? undefined : Buffer.from(settings.encryptionKey, 'hex');
  if (settings.databaseUrl !== '') {
    return {
      database: serverChoice(settings),
      encryptionKey: given ?? keptEncryptionKey(settings.dataFolder),
    };
  }
  const folder = holdDataFolder(settings.dataFolder, new Date());
  releasers.push(() => folder.release());
  if (folder.openToOthers.length > 0) {
    log.warn(
      { event: 'data.open_to_others', files: folder.openToOthers },
      'others of this machine may read these files, and they are not ours to change',
    );
  }
  const database: FileChoice = {
    kind: 'sqlite',
    file: folder.databaseFile,
    lockMemory: new ThreadLock().memory,
  };
  return { database, encryptionKey: given ?? folder.encryptionKey };
}

function serverChoice({ databaseUrl, databaseListen, startWaitS }: Settings): ServerChoice {
  return {
    kind: 'postgres',
    url: databaseUrl,
    listen: databaseListen === 'on',
    startWaitMs: startWaitS * 1_000,
  };
}

const LISTEN_ADVICE: ReadonlyMap<string, string> = new Map([
  ['EADDRINUSE', 'Stop what listens there, or choose another port with ORDERHOOK_PORT.'],
  ['EACCES', 'Ports below 1024 need rights: choose another with ORDERHOOK_PORT.'],
  ['EADDRNOTAVAIL', 'It is no address of this machine: see ORDERHOOK_HOST.'],
  ['ENOTFOUND', 'No such name is known: see ORDERHOOK_HOST.'],
]);

async function listen(server: FastifyInstance, { host, port }: Settings, log: Logger): Promise<string> {
  try {
    await server.listen({ host, port });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const advice = LISTEN_ADVICE.get(code ?? '') ?? 'See ORDERHOOK_HOST and ORDERHOOK_PORT.';
    throw new StartError(`Cannot listen on ${host}:${port}: ${message}. ${advice}`);
  }
  // A connection that could not be accepted; without a listener it would be the end of the process.
  let toldAt = Number.NEGATIVE_INFINITY;
  server.server.on('error', (error) => {
    if (performance.now() - toldAt < TELL_ACCEPT_FAILURES_EVERY_MS) return;
    toldAt = performance.now();
    log.error({ event: 'accept.failed', err: error }, 'a connection could not be accepted');
  });
  const bound = server.server.address() as AddressInfo;
  return `http://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`;
}
