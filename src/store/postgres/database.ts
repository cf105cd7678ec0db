/**
 * Connections to PostgreSQL: a pool, statements, and errors in the words of the contract.
 *
 * Every method of the store is one statement and so one transaction: nothing is ever left open between two round trips,
 * where a process that is paused would hold rows, and everybody's reading of the log, until it wakes.
 *
 * Behind pgbouncer in transaction mode (`isDirect: false`) nothing is kept in a session: no settings, no names of
 * prepared statements, no LISTEN.
 */
import { createHash } from 'node:crypto';
import { Socket } from 'node:net';
import pg from 'pg';
import { AppError, StartError } from '../../model/app-error.ts';
import type { Row } from '../rows.ts';
import type { DatabaseEvent } from './events.ts';
import { describeHosts, type Host, Hosts, parseDatabaseUrl } from './hosts.ts';
import {
  breaksConnection,
  isConnectionTrouble,
  isReadOnly,
  isTimeout,
  isWorthRepeating,
  needsPerson,
  translate,
  unavailable,
} from './trouble.ts';

export type Value = string | number | boolean | Buffer | null;

export type DatabaseOptions = {
  readonly url: string;
  readonly schema: string;
  readonly poolSize: number;
  /** Connections reach the server itself, or a pooler that keeps one server connection for each. */
  readonly isDirect: boolean;
  /** Of one statement, and of connecting: a server that is frozen is told from a slow one after this. */
  readonly timeoutMs: number;
  readonly onEvent?: ((event: DatabaseEvent) => void) | undefined;
};

const REPEATS_MAX = 4;
const KEEP_ALIVE_AFTER_MS = 10_000;
const IDLE_MS = 60_000;
/** A server that is frozen does not say good-bye. */
const CLOSE_WITHIN_MS = 1_000;

/** Ids and times are below 2^53; order ids are read as text. */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === pg.types.builtins.INT8 && format !== 'binary'
      ? Number
      : pg.types.getTypeParser(oid, format as 'text')) as typeof pg.types.getTypeParser,
};

type Result = { rows: unknown[]; readonly rowCount: number | null };

export class Database {
  readonly schema: string;
  readonly isDirect: boolean;
  /** The same for all that open the same schema of the same database by the same URL. */
  readonly identity: string;
  /** Hosts, database and user, for messages. */
  readonly target: string;
  readonly #options: DatabaseOptions;
  readonly #hosts: Hosts;
  readonly #pool: pg.Pool;
  /** Where each connection of the pool leads. */
  readonly #hostOf = new WeakMap<object, Host>();
  readonly #sockets = new Set<Socket>();

  /** Connects when the first statement runs. @throws StartError when the URL or the schema is none */
  constructor(options: DatabaseOptions) {
    if (!/^[a-z_][a-z0-9_]{0,40}$/.test(options.schema)) {
      throw new StartError(
        `${options.schema} is no name for a schema: use lower case letters, digits and _.`,
      );
    }
    this.schema = options.schema;
    this.isDirect = options.isDirect;
    this.identity = hash(`${options.url} ${options.schema}`);
    this.#options = options;
    const all = hostsOf(options.url);
    this.target = describeHosts(all);
    const hosts = new Hosts(all);
    const hostOf = this.#hostOf;
    const config = this.#clientConfig();
    class PoolClient extends pg.Client {
      constructor() {
        super({ ...config, connectionString: hosts.current.url });
        hostOf.set(this, hosts.current);
        // While a statement runs the pool listens to nothing; the statement's own error tells the same.
        this.on('error', () => {});
      }
    }
    this.#hosts = hosts;
    this.#pool = new pg.Pool({
      Client: PoolClient,
      max: options.poolSize,
      idleTimeoutMillis: IDLE_MS,
      connectionTimeoutMillis: options.timeoutMs,
      onConnect: (client) => this.#beginSession(client),
    });
    // Of connections that nobody uses at the moment; the pool has dropped them by then.
    this.#pool.on('error', (cause, client) =>
      this.#report('connection_lost', cause, this.#hostOf.get(client)),
    );
  }

  /** For the log: what no statement rejects with. */
  #report(kind: DatabaseEvent['kind'], cause: unknown, host?: Host): void {
    this.#options.onEvent?.({ kind, cause, ...(host ? { server: host.name } : {}) });
  }

  #leave(host: Host, cause: unknown): void {
    if (this.#hosts.moveOnFrom(host)) this.#report('server_left', cause, host);
  }

  /** The text with the schema's name in it. Statements are written for the schema `orderhook`. */
  named(sql: string): string {
    return this.schema === 'orderhook' ? sql : sql.replace(/\borderhook(?=\b|_outbox\b)/g, this.schema);
  }

  /** A statement that changes nothing: run again by itself when the connection breaks. */
  reading(sql: string): Statement {
    return new Statement(this, this.named(sql), true);
  }

  writing(sql: string): Statement {
    return new Statement(this, this.named(sql), false);
  }

  /** @throws AppError `store_unavailable` */
  async run(query: pg.QueryConfig & { rowMode?: 'array' }, isReading: boolean): Promise<Result> {
    for (let repeats = 0; ; repeats += 1) {
      try {
        return release(await this.#runOnce(query), query);
      } catch (error) {
        const mayRepeat =
          isWorthRepeating(error) ||
          isReadOnly(error) ||
          (isReading && repeats === 0 && isConnectionTrouble(error) && !isTimeout(error));
        if (!mayRepeat || repeats >= REPEATS_MAX) throw translate(error);
        this.#report('statement_repeated', error);
      }
    }
  }

  /** A connection of its own, for work that is no statement of the store. Whoever asked ends it. */
  async connect(withTimeout: boolean): Promise<pg.Client> {
    const failures: unknown[] = [];
    for (;;) {
      const host = this.#hosts.current;
      try {
        return await this.#connectTo(host, withTimeout);
      } catch (error) {
        failures.push(error);
        this.#leave(host, error);
        // What a person must mend is worth more than that another server is away.
        if (failures.length >= this.#hosts.count) throw failures.find(needsPerson) ?? error;
      }
    }
  }

  async #connectTo(host: Host, withTimeout: boolean): Promise<pg.Client> {
    const config = this.#clientConfig();
    if (!withTimeout) delete config.query_timeout;
    const client = new pg.Client({ ...config, connectionString: host.url });
    // Without a listener the end of the connection would be the end of the process; the next query tells it.
    client.on('error', () => {});
    try {
      await client.connect();
      if (!(await isPrimary(client))) throw unavailable(`The database server ${host.name} takes no writes.`);
      return client;
    } catch (error) {
      client.end().catch(() => {});
      throw error;
    }
  }

  /** What `connect` answered ends too. */
  async close(): Promise<void> {
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, CLOSE_WITHIN_MS);
    try {
      await this.#pool.end();
    } finally {
      clearTimeout(timer);
      for (const socket of this.#sockets) socket.destroy();
    }
  }

  #clientConfig(): pg.ClientConfig {
    const { timeoutMs } = this.#options;
    return {
      application_name: 'orderhook',
      types,
      query_timeout: timeoutMs,
      connectionTimeoutMillis: timeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_AFTER_MS,
      stream: () => {
        const socket = new Socket();
        this.#sockets.add(socket);
        socket.once('close', () => this.#sockets.delete(socket));
        return socket;
      },
    };
  }

  async #runOnce(query: pg.QueryConfig): Promise<Result> {
    const client = await this.#checkOut();
    let isBroken = true;
    try {
      const result = await client.query(query);
      isBroken = false;
      return result;
    } catch (error) {
      isBroken = breaksConnection(error);
      const host = this.#hostOf.get(client);
      if (isReadOnly(error) && host) this.#leave(host, error);
      throw error;
    } finally {
      client.release(isBroken);
    }
  }

  async #checkOut(): Promise<pg.PoolClient> {
    for (let tries = 1; ; tries += 1) {
      const host = this.#hosts.current;
      try {
        const client = await this.#pool.connect();
        if (this.#hostOf.get(client) === this.#hosts.current) return client;
        client.release(true); // of before a failover
        tries -= 1;
      } catch (error) {
        this.#leave(host, error);
        if (tries >= this.#hosts.count) throw error;
      }
    }
  }

  async #beginSession(client: pg.ClientBase): Promise<void> {
    if (!(await isPrimary(client))) {
      const host = this.#hostOf.get(client);
      const refusal = takesNoWrites(host);
      if (host) this.#leave(host, refusal);
      throw refusal;
    }
    if (!this.isDirect) return;
    // The server gives up shortly before the client does, which then still has a connection. `synchronous_commit` keeps
    // what is stronger than `on`. All that is done often is a lookup by an index: it needs no plan of its own for each set of
    // values, no JIT compilation, and must not look through a table because that was empty when the plan was made.
    await client.query(
      `SELECT set_config('statement_timeout', $1, false), set_config('idle_in_transaction_session_timeout', $1, false),
         set_config('jit', 'off', false),
         CASE WHEN version() LIKE '%linux%' THEN set_config('client_connection_check_interval', '5s', false) END,
         set_config('plan_cache_mode', 'force_generic_plan', false), set_config('enable_seqscan', 'off', false),
         set_config('enable_bitmapscan', 'off', false),
         set_config('synchronous_commit',
           CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN 'on'
             ELSE current_setting('synchronous_commit') END, false)`,
      [String(Math.ceil(this.#options.timeoutMs * 0.8))],
    );
  }
}

/** One SQL text, prepared once per connection. */
export class Statement {
  readonly #db: Database;
  readonly #text: string;
  readonly #name: string | undefined;
  readonly #isReading: boolean;

  constructor(db: Database, text: string, isReading: boolean) {
    this.#db = db;
    this.#text = text;
    this.#isReading = isReading;
    this.#name = db.isDirect ? `orderhook_${hash(text)}` : undefined;
  }

  async rows(...values: Value[]): Promise<Row[]> {
    return (await this.#run(values)).rows as Row[];
  }

  async row(...values: Value[]): Promise<Row | undefined> {
    return (await this.rows(...values))[0];
  }

  /** Rows as arrays of columns: for the paths that read many. */
  async arrays<T extends readonly unknown[]>(...values: Value[]): Promise<T[]> {
    return (await this.#run(values, 'array')).rows as T[];
  }

  /** How many rows it changed. */
  async count(...values: Value[]): Promise<number> {
    return (await this.#run(values)).rowCount ?? 0;
  }

  #run(values: Value[], rowMode?: 'array'): Promise<Result> {
    return this.#db.run(
      {
        text: this.#text,
        values,
        ...(this.#name === undefined ? {} : { name: this.#name }),
        ...(rowMode === undefined ? {} : { rowMode }),
      },
      this.#isReading,
    );
  }
}

/**
 * Takes the rows and the values out of the driver's objects. Those of one statement are still held by those of the one before
 * it, so once one of them is in the old generation all that follow get there too, with what hangs on them, and the garbage
 * collector has to go through all of it.
 */
function release(result: Result, { values }: pg.QueryConfig): Result {
  const { rows, rowCount } = result;
  result.rows = [];
  if (values) values.length = 0;
  return { rows, rowCount };
}

function hostsOf(url: string): readonly Host[] {
  try {
    return parseDatabaseUrl(url);
  } catch (error) {
    throw new StartError(`The database URL ${(error as Error).message}.`);
  }
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

async function isPrimary(client: pg.ClientBase): Promise<boolean> {
  const { rows } = await client.query(
    `SELECT NOT pg_is_in_recovery() AND current_setting('default_transaction_read_only') = 'off' AS is_primary`,
  );
  return rows[0]?.is_primary === true;
}

/** Which server that is, only the log says. */
function takesNoWrites(host: Host | undefined): AppError {
  const server = host?.name ?? 'of the URL';
  return unavailable(
    'The database cannot be used right now: it takes no writes.',
    new Error(`The database server ${server} takes no writes.`),
  );
}

/** A conflict with what is there becomes one of the contract's. */
export async function orConflict<T>(
  message: string,
  isConflict: (error: unknown) => boolean,
  insert: () => Promise<T>,
): Promise<T> {
  try {
    return await insert();
  } catch (error) {
    throw isConflict(error) ? new AppError('conflict', message) : error;
  }
}
