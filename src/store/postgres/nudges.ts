/**
 * Tells the parts of this process and other nodes what changed, and hears it from them.
 *
 *     publish ──> listeners of this store
 *             ├─> other threads of this process (BroadcastChannel)
 *             └─> NOTIFY ──> other nodes' LISTEN connections ──> their listeners
 *
 * A nudge can be lost: a node dies before its NOTIFY, a LISTEN connection breaks, a pooler allows none. So the log's end
 * is looked at every now and then as well.
 *
 * NOTIFY takes a lock that the whole server has once, and keeps it until the commit is on disk. So it is not part of the
 * transaction that it tells of: what came together meanwhile goes out as one, in a transaction of its own that waits for
 * no disk.
 */
import { randomUUID } from 'node:crypto';
import { BroadcastChannel } from 'node:worker_threads';
import type pg from 'pg';
import type { ExecutionId, InstitutionId } from '../../model/entities.ts';
import type { Change } from '../store.ts';
import { int8Array, textArray } from './arrays.ts';
import type { Database } from './database.ts';
import type { DatabaseEvent } from './events.ts';
import type { Place } from './log-position.ts';
import type { LogWatch } from './queue.ts';

export type NudgeOptions = {
  /** One connection is kept for LISTEN. */
  readonly listens: boolean;
  /** Looks for closings that nobody told of. */
  readonly pollMs: number;
  /** Other threads of this process want to know what is behind the ends that are read here. */
  readonly readsForAnother: boolean;
  readonly onEvent: (event: DatabaseEvent) => void;
};

type Message = {
  readonly origin?: string;
  readonly closings?: readonly InstitutionId[];
  readonly configuration?: readonly InstitutionId[];
  readonly ended?: readonly ExecutionId[];
};

/** What other nodes have yet to hear of. */
type ToNotify = {
  readonly closings: Set<InstitutionId>;
  readonly configuration: Set<InstitutionId>;
  readonly ended: Set<ExecutionId>;
};

function nothingToNotify(): ToNotify {
  return { closings: new Set(), configuration: new Set(), ended: new Set() };
}

/** A payload has 8,000 bytes at most; an id has at most 16 digits and a comma. */
const IDS_PER_MESSAGE = 400;
/** Runs that ended and that nobody could be told of: whoever waits for older ones looks by himself. */
const ENDED_KEPT_MAX = 10_000;
const NOTIFY_AGAIN_MS = 1_000;
const RECONNECT_MS_MIN = 100;
const RECONNECT_MS_MAX = 5_000;
/** Closings behind a running transaction are looked for again, less and less often while it runs. */
const LOOK_AGAIN_MS_MIN = 4;
const LOOK_AGAIN_MS_MAX = 500;

export class Nudges implements LogWatch {
  readonly #db: Database;
  readonly #options: NudgeOptions;
  readonly #origin = randomUUID();
  /** Threads of this process are heard through the channel, so their NOTIFY says nothing new. */
  readonly #siblings = new Set<string>([this.#origin]);
  readonly #listeners = new Set<(change: Change) => void>();
  readonly #channel: BroadcastChannel;
  readonly #notify;
  readonly #logEnd;
  readonly #institutionsWaiting;
  readonly #allInstitutions;
  readonly #isBeyond;

  #toNotify = nothingToNotify();
  #isNotifying = false;
  /** What runs beside the calls of the store; `close` waits for it. */
  readonly #running = new Set<Promise<void>>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #isClosed = false;
  #isPolling = false;
  #isDeaf = false;
  #lastClosingId: number | undefined;
  #listener: pg.Client | undefined;
  /** Where reads of each log ended, with something committed behind. */
  readonly #ends = new Map<InstitutionId, { key: string; delayMs: number; isBusy: boolean }>();

  constructor(db: Database, options: NudgeOptions) {
    this.#db = db;
    this.#options = options;
    this.#channel = new BroadcastChannel(`orderhook postgres ${db.identity}`);
    this.#channel.onmessage = ({ data }) => {
      const { origin, change } = data as { origin: string; change: Change };
      this.#siblings.add(origin);
      this.#tell(change);
    };
    this.#channel.unref();
    // Once the server's queue was full it stays full until somebody asks how full it is, which costs less than a microsecond.
    this.#notify = db.writing(
      `SELECT set_config('synchronous_commit', 'off', true), pg_notification_queue_usage(), pg_notify('orderhook', m)
       FROM unnest($1::text[]) m`,
    );
    this.#logEnd = db.reading('SELECT last_value FROM orderhook.closing_ids');
    this.#institutionsWaiting = db.reading(
      `SELECT DISTINCT q.institution_id FROM orderhook.queues q
       WHERE NOT q.deleted AND EXISTS (SELECT FROM orderhook.closings c
         WHERE c.institution_id = q.institution_id AND (c.xid, c.closing_id) > (q.cursor_xid, q.cursor_id))`,
    );
    this.#allInstitutions = db.reading(
      'SELECT DISTINCT institution_id FROM orderhook.queues WHERE NOT deleted',
    );
    this.#isBeyond = db.reading(
      `SELECT 1 FROM orderhook.closings c WHERE c.institution_id = $1 AND (c.xid, c.closing_id) > ($2, $3)
         AND NOT (c.xid < $4 AND c.xid <> ALL ($5::bigint[])) ORDER BY c.xid, c.closing_id LIMIT 1`,
    );
  }

  subscribe(listener: (change: Change) => void): () => void {
    this.#listeners.add(listener);
    if (!this.#isPolling) this.#startPolling();
    return () => this.#listeners.delete(listener);
  }

  /** Begins to hear other nodes. */
  start(): void {
    if (this.#options.listens) this.#inBackground('listen_lost', () => this.#listen(RECONNECT_MS_MIN));
  }

  /** `elsewhere`: what of it concerns other nodes. */
  publish(change: Change, elsewhere: Change | null = change): void {
    this.#tell(change);
    this.#channel.postMessage({ origin: this.#origin, change });
    if (elsewhere) this.#queueNotify(elsewhere);
  }

  /** A read came to the end of what can be read. What is committed behind it is told of again when it may be readable. */
  reachedEnd(institutionId: InstitutionId, end: Place): void {
    const isHeard = this.#options.readsForAnother || this.#listeners.size > 0;
    if (this.#isClosed || !isHeard || this.#ends.get(institutionId)?.isBusy) return;
    this.#inBackground('look_failed', () => this.#lookBeyond(institutionId, end));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#channel.close();
    this.#listener?.end().catch(() => {}); // the database sees to its end
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  #tell(change: Change): void {
    for (const listener of this.#listeners) listener(change);
  }

  /** Failures are no harm: what these do is done again, or looked at by polling. */
  #inBackground(kind: DatabaseEvent['kind'], work: () => Promise<void>): void {
    const running = work()
      .catch((cause) => this.#report(kind, cause))
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Whoever closes it ends its connections: that is no event. */
  #report(kind: DatabaseEvent['kind'], cause?: unknown): void {
    if (!this.#isClosed) this.#options.onEvent({ kind, ...(cause === undefined ? {} : { cause }) });
  }

  #after(delayMs: number, kind: DatabaseEvent['kind'], work: () => Promise<void>): void {
    if (this.#isClosed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#inBackground(kind, work);
    }, delayMs);
    timer.unref();
    this.#timers.add(timer);
  }

  #queueNotify(change: Change): void {
    const { closings, configuration, ended } = this.#toNotify;
    if (change.kind === 'closings') for (const id of change.institutionIds) closings.add(id);
    else if (change.kind === 'configuration') configuration.add(change.institutionId);
    else for (const id of change.executionIds) ended.add(id);
    this.#beginNotify();
  }

  #beginNotify(): void {
    if (this.#isNotifying || this.#isClosed) return;
    this.#isNotifying = true;
    this.#inBackground('notify_failed', () => this.#sendNotify());
  }

  async #sendNotify(): Promise<void> {
    // A step later, so that what the same turn publishes goes along.
    await undefined;
    try {
      for (;;) {
        const taken = this.#toNotify;
        const messages = this.#messagesOf(taken);
        if (messages.length === 0) return;
        this.#toNotify = nothingToNotify();
        try {
          await this.#notify.rows(textArray(messages));
        } catch (error) {
          // Nobody looks for a change of settings by himself, so it is told later: the queue of NOTIFY may be full.
          this.#putBack(taken);
          this.#after(NOTIFY_AGAIN_MS, 'notify_failed', async () => this.#beginNotify());
          throw error;
        }
      }
    } finally {
      this.#isNotifying = false;
    }
  }

  #putBack(taken: ToNotify): void {
    const { closings, configuration, ended } = this.#toNotify;
    for (const id of taken.closings) closings.add(id);
    for (const id of taken.configuration) configuration.add(id);
    if (ended.size + taken.ended.size > ENDED_KEPT_MAX) return;
    for (const id of taken.ended) ended.add(id);
  }

  #messagesOf({ closings, configuration, ended }: ToNotify): string[] {
    const origin = this.#origin;
    return [
      ...chunks([...closings]).map((ids): Message => ({ origin, closings: ids })),
      ...chunks([...configuration]).map((ids): Message => ({ origin, configuration: ids })),
      ...chunks([...ended]).map((ids): Message => ({ origin, ended: ids })),
    ].map((message) => JSON.stringify(message));
  }

  #hear(payload: string | undefined): void {
    let message: Message;
    try {
      message = JSON.parse(payload ?? '') as Message;
    } catch {
      return; // whoever may connect may notify
    }
    if (message.origin !== undefined && this.#siblings.has(message.origin)) return;
    if (message.closings) this.#tell({ kind: 'closings', institutionIds: message.closings });
    for (const institutionId of message.configuration ?? [])
      this.#tell({ kind: 'configuration', institutionId });
    if (message.ended) this.#tell({ kind: 'executions_ended', executionIds: message.ended });
  }

  async #listen(retryMs: number): Promise<void> {
    if (this.#isClosed) return;
    let client: pg.Client;
    try {
      client = await this.#db.connect(true);
    } catch (error) {
      this.#isDeaf = true;
      this.#report('listen_lost', error);
      this.#after(retryMs, 'listen_lost', () => this.#listen(Math.min(retryMs * 2, RECONNECT_MS_MAX)));
      return;
    }
    if (this.#isClosed) {
      await client.end();
      return;
    }
    this.#listener = client;
    const over = (cause?: unknown) => {
      if (this.#listener !== client) return;
      this.#listener = undefined;
      this.#isDeaf = true;
      this.#report('listen_lost', cause);
      client.end().catch(() => {});
      this.#after(RECONNECT_MS_MIN, 'listen_lost', () => this.#listen(RECONNECT_MS_MIN));
    };
    client.on('error', over);
    client.on('end', over);
    client.on('notification', ({ payload }) => this.#hear(payload));
    try {
      await client.query(`LISTEN "${this.#db.schema}"`);
      if (this.#isDeaf) this.#report('listen_restored');
      this.#isDeaf = false;
      await this.#tellAll();
    } catch (error) {
      over(error);
    }
  }

  /** Nobody was heard for a while: everything may have changed. */
  async #tellAll(): Promise<void> {
    const ids = (await this.#allInstitutions.arrays<[InstitutionId]>()).map(([id]) => id);
    for (const institutionId of ids) this.#tell({ kind: 'configuration', institutionId });
    if (ids.length > 0) this.#tell({ kind: 'closings', institutionIds: ids });
  }

  #startPolling(): void {
    this.#isPolling = true;
    const poll = async (): Promise<void> => {
      if (this.#listeners.size === 0) {
        this.#isPolling = false;
        return;
      }
      try {
        await this.#pollOnce();
      } finally {
        this.#after(this.#options.pollMs, 'look_failed', poll);
      }
    };
    this.#after(this.#options.pollMs, 'look_failed', poll);
  }

  async #pollOnce(): Promise<void> {
    // A connection to a machine that is gone looks as if nothing happened there.
    await this.#listener?.query('SELECT 1').catch(() => this.#listener?.emit('end'));
    const [row] = await this.#logEnd.arrays<[number]>();
    const lastClosingId = row?.[0];
    if (lastClosingId === this.#lastClosingId) return;
    this.#lastClosingId = lastClosingId;
    const institutionIds = (await this.#institutionsWaiting.arrays<[InstitutionId]>()).map(([id]) => id);
    if (institutionIds.length > 0) this.#tell({ kind: 'closings', institutionIds });
  }

  async #lookBeyond(institutionId: InstitutionId, { xid, closingId, birth }: Place): Promise<void> {
    const key = `${xid}:${closingId}`;
    const before = this.#ends.get(institutionId);
    const delayMs = before?.key === key ? Math.min(before.delayMs * 2, LOOK_AGAIN_MS_MAX) : LOOK_AGAIN_MS_MIN;
    const end = { key, delayMs, isBusy: true };
    this.#ends.set(institutionId, end);
    let isMore = false;
    try {
      const running = int8Array(birth?.running ?? []);
      isMore =
        (await this.#isBeyond.row(institutionId, xid, closingId, birth?.xmax ?? 0, running)) !== undefined;
    } finally {
      if (!isMore) this.#ends.delete(institutionId);
    }
    if (!isMore) return;
    // Whoever is told reads again, and if that finds nothing new it is the same end: then later.
    this.#after(delayMs, 'look_failed', async () => {
      end.isBusy = false;
      const change: Change = { kind: 'closings', institutionIds: [institutionId] };
      if (this.#options.readsForAnother) this.#channel.postMessage({ origin: this.#origin, change });
      else this.#tell(change);
    });
  }
}

function chunks(ids: readonly number[]): number[][] {
  const all: number[][] = [];
  for (let at = 0; at < ids.length; at += IDS_PER_MESSAGE) all.push(ids.slice(at, at + IDS_PER_MESSAGE));
  return all;
}
