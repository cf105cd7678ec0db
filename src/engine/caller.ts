/**
 * Makes one HTTP request and says what it came to (contract, sections 2.2, 2.3 and 6).
 *
 * Hides connections, limits of time and size, redirects that are not followed, and the egress proxy. Promises exactly one
 * outcome per call, whatever the callee does; that each connection goes to an address that was checked; and that a request
 * is sent a second time only when nothing of the first left this machine. Never throws for what a callee does, never reads
 * more of an answer than it must, never retries anything else.
 *
 * ```
 *   call ──> waiting for a connection ──> sent ──> answered ──> outcome
 *                    connectMs             firstByteMs
 *            └──────────────────── exchangeMs ────────────────┘
 * ```
 */
import type { Socket } from 'node:net';
import { createSecureContext, getCACertificates } from 'node:tls';
import { type Dispatcher, Pool } from 'undici';
import { ANSWER_BYTES_MAX } from '../model/limits.ts';
import { type Answer, type CallRequest, haveSameHeaders, type Outcome } from '../model/outcome.ts';
import { BodyDecoder, BodyStart, decoderFor } from './caller-answer.ts';
import { type ConnectionSettings, createConnector } from './caller-connection.ts';
import { describeExchangeError, describeProxyAnswer, type Failure, isProxyAnswer } from './caller-failure.ts';
import { shapeWire, type Wires } from './caller-wire.ts';
import { type Resolve, resolveBySystem } from './destination.ts';

export type CallLimits = {
  /** From the start of a connection until it stands, DNS, proxy and TLS included. */
  readonly connectMs: number;
  /** From the request's sending to the first byte of its answer. */
  readonly firstByteMs: number;
  /** From the start of the call to the end of its answer. */
  readonly exchangeMs: number;
  /** Decoded bytes of an answer's body that are read before the connection is dropped. */
  readonly answerBytesMax: number;
};

/** [ours] Section 2.3. */
export const CALL_LIMITS: CallLimits = {
  connectMs: 5_000,
  firstByteMs: 15_000,
  exchangeMs: 30_000,
  answerBytesMax: ANSWER_BYTES_MAX,
};

export type CallerSettings = {
  /** `Orderhook/<version>`. */
  readonly userAgent: string;
  /** Those that are left out are as in CALL_LIMITS. */
  readonly limits?: Partial<CallLimits> | undefined;
  readonly resolve?: Resolve | undefined;
  /** `http://host:port`. */
  readonly egressProxy?: string | undefined;
  /** PEM: certificates of authorities to trust beside the usual ones. */
  readonly extraCa?: string | undefined;
  /** Milliseconds that only ever grow. */
  readonly now?: (() => number) | undefined;
  /** For tests: see `ConnectionSettings.connect`. */
  readonly connect?: ConnectionSettings['connect'];
};

export type CallPermission = {
  /** The proxy opening's. */
  readonly allowPrivate: boolean;
};

/** How often limits of time are looked at: a call may last this much longer than it is allowed to. */
const SWEEP_MS = 100;
/** An idle connection is closed after this, before most callees would: Node.js and Apache wait 5 s. */
const IDLE_CONNECTION_MS = 4_000;
/** As long as a callee that promises to wait longer is taken at its word. */
const IDLE_CONNECTION_MS_MAX = 60_000;
const IDLE_POOL_MS = 60_000;
/** Pools that are kept although idle. Those with calls in flight are bounded by whoever makes the calls. */
const POOLS_MAX = 1_000;
const ANSWER_HEAD_BYTES_MAX = 16 * 1024;

/**
 * The headers of a request, in the order in which they are sent: for preview, the call log, and the caller itself. There
 * are no others. A POST without a payload tells that its body is empty, without which some servers answer 411.
 */
export function headersSent(request: CallRequest, userAgent: string): Record<string, string> {
  const { method, body = '' } = request;
  return {
    Host: hostOf(request.url),
    'User-Agent': userAgent,
    Accept: '*/*',
    ...(body === '' ? {} : { 'Content-Type': 'application/json' }),
    ...(method === 'GET' ? {} : { 'Content-Length': String(Buffer.byteLength(body)) }),
  };
}

function hostOf(url: string): string {
  return url.slice(url.indexOf('//') + 2, pathStart(url));
}

/** A serialised URL has no user info, no default port, and always a path. */
function pathStart(url: string): number {
  return url.indexOf('/', 'https://'.length);
}

/** `Host` and `Content-Length` are undici's to write; they come out as `headersSent` says. */
function headersForUndici(userAgent: string, hasBody: boolean): string[] {
  const request: CallRequest = { method: 'POST', url: 'http://-/', ...(hasBody ? { body: '{}' } : {}) };
  const { Host: _host, 'Content-Length': _length, ...others } = headersSent(request, userAgent);
  return Object.entries(others).flat();
}

export type Caller = {
  /**
   * Sends `request` and calls `onOutcome` once; before `call` returns only when `request` is no request at all. How many
   * run at once is for the asker to bound. `request.url` is serialised, as `compileTemplate` fills it.
   */
  call(request: CallRequest, permission: CallPermission, onOutcome: (outcome: Outcome) => void): void;
  /** Connections that are open or on their way. */
  readonly openConnections: number;
  /** Calls without an outcome yet. */
  readonly callsInFlight: number;
  /** Waits for the calls in flight, then closes every connection. */
  close(): Promise<void>;
  /**
   * Closes every connection at once. Calls in flight get no outcome any more: like after a crash, nobody knows whether
   * their callees had them.
   */
  destroy(): Promise<void>;
};

export function createCaller(settings: CallerSettings): Caller {
  return new HttpCaller(settings);
}

/** The connections to one origin under one permission. */
type Line = {
  readonly key: string;
  readonly pool: Pool;
  readonly lines: Map<string, Line>;
  running: number;
  idleSince: number;
  /** Of the latest answer. Outcomes wait for their commit, and most of them can wait with this one object. */
  headers: Answer['headers'];
};

class HttpCaller implements Caller {
  readonly #limits: CallLimits;
  readonly #now: () => number;
  readonly #headers: string[];
  readonly #headersWithBody: string[];
  readonly #connection: Omit<ConnectionSettings, 'allowPrivate'>;
  readonly #wires: Wires = { lastWritten: undefined };
  readonly #sockets = new Set<Socket>();
  readonly #publicLines = new Map<string, Line>();
  readonly #privateLines = new Map<string, Line>();
  /** Taken out of use, with calls that still run. */
  readonly #closingPools = new Set<Pool>();
  readonly #calls = new Set<Call>();
  #sweeping: NodeJS.Timeout | undefined;
  #tidying: NodeJS.Timeout | undefined;
  #onEmpty: (() => void) | undefined;
  readonly #closing = new AbortController();
  #isClosed = false;

  constructor(settings: CallerSettings) {
    const { userAgent, resolve = resolveBySystem, egressProxy, extraCa, connect } = settings;
    const limits = { ...CALL_LIMITS, ...settings.limits };
    this.#limits = limits;
    this.#now = settings.now ?? (() => performance.now());
    this.#headers = headersForUndici(userAgent, false);
    this.#headersWithBody = headersForUndici(userAgent, true);
    this.#connection = {
      connectMs: limits.connectMs,
      resolve: shareLookups(resolve),
      egressProxy: egressProxy === undefined ? undefined : parseProxy(egressProxy),
      secureContext:
        extraCa === undefined
          ? undefined
          : createSecureContext({ ca: [...getCACertificates('default'), extraCa] }),
      signal: this.#closing.signal,
      onSocket: (socket) => {
        this.#sockets.add(socket);
        socket.once('close', () => this.#sockets.delete(socket));
      },
      onConnection: (socket) => shapeWire(socket, this.#wires),
      connect,
    };
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  get callsInFlight(): number {
    return this.#calls.size;
  }

  call(request: CallRequest, { allowPrivate }: CallPermission, onOutcome: (outcome: Outcome) => void): void {
    if (this.#isClosed) throw new Error('A call was asked for after the caller was closed');
    const call = new Call(this, request, onOutcome, this.#now());
    this.#calls.add(call);
    this.#sweeping ??= setInterval(() => this.#sweep(), SWEEP_MS).unref();
    this.#dispatch(call, allowPrivate ? this.#privateLines : this.#publicLines);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#calls.size > 0) {
      await new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
      });
    }
    await this.destroy();
  }

  async destroy(): Promise<void> {
    this.#isClosed = true;
    this.#closing.abort();
    clearInterval(this.#sweeping);
    clearInterval(this.#tidying);
    for (const call of this.#calls) call.forget();
    this.#calls.clear();
    const lines = [...this.#publicLines.values(), ...this.#privateLines.values()];
    const pools = [...lines.map(({ pool }) => pool), ...this.#closingPools];
    this.#publicLines.clear();
    this.#privateLines.clear();
    await Promise.all(pools.map((pool) => pool.destroy()));
    // A connection on its way belongs to no pool yet.
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(
      [...this.#sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve))),
    );
    this.#onEmpty?.();
  }

  // --------------------------------------------------------------------------------------------- for the calls alone

  now(): number {
    return this.#now();
  }

  get wires(): Wires {
    return this.#wires;
  }

  get limits(): CallLimits {
    return this.#limits;
  }

  get hasEgressProxy(): boolean {
    return this.#connection.egressProxy !== undefined;
  }

  /** Sends a call again that was not sent: on a connection that did not exist before. */
  dispatchAfresh(call: Call, line: Line): void {
    // What became of one idle connection may have become of the others that are as old.
    if (line.lines.get(line.key) === line) this.#retire(line);
    line.running--;
    this.#dispatch(call, line.lines);
  }

  /** False for a call that nobody waits for any more. */
  end(call: Call, line: Line): boolean {
    if (!this.#calls.delete(call)) return false;
    line.running--;
    if (line.running === 0) line.idleSince = this.#now();
    if (this.#calls.size === 0) this.#onEmpty?.();
    return true;
  }

  // -------------------------------------------------------------------------------------------------------- lines

  #dispatch(call: Call, lines: Map<string, Line>): void {
    const { method, url, body } = call.request;
    const start = pathStart(url);
    const origin = url.slice(0, start);
    const line = lines.get(origin) ?? this.#openLine(origin, lines);
    line.running++;
    call.line = line;
    const fragment = url.indexOf('#', start);
    const isProxied = this.hasEgressProxy && url.startsWith('http:');
    const path = url.slice(isProxied ? 0 : start, fragment === -1 ? undefined : fragment);
    if (body === undefined || body === '') {
      line.pool.dispatch({ method, path, headers: this.#headers }, call);
    } else {
      line.pool.dispatch({ method, path, body, headers: this.#headersWithBody }, call);
    }
  }

  #openLine(origin: string, lines: Map<string, Line>): Line {
    if (this.#publicLines.size + this.#privateLines.size >= POOLS_MAX) this.#retireLongestIdle();
    const pool = new Pool(origin, {
      connect: createConnector({ ...this.#connection, allowPrivate: lines === this.#privateLines }),
      // One request at a time on a connection: an answer that is late or wrong spoils no other call.
      pipelining: 1,
      connections: null,
      allowH2: false,
      // Limits of time are ours, for all calls at once; undici's would be two timers for each.
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: IDLE_CONNECTION_MS,
      keepAliveMaxTimeout: IDLE_CONNECTION_MS_MAX,
      maxHeaderSize: ANSWER_HEAD_BYTES_MAX,
    });
    const line: Line = { key: origin, pool, lines, running: 0, idleSince: this.#now(), headers: {} };
    lines.set(origin, line);
    this.#tidying ??= setInterval(() => this.#tidy(), IDLE_POOL_MS / 4).unref();
    return line;
  }

  #retire(line: Line): void {
    line.lines.delete(line.key);
    this.#closingPools.add(line.pool);
    line.pool.close(() => this.#closingPools.delete(line.pool));
  }

  #tidy(): void {
    const idleBefore = this.#now() - IDLE_POOL_MS;
    for (const line of this.#lines()) {
      if (line.running === 0 && line.idleSince < idleBefore) this.#retire(line);
    }
  }

  #retireLongestIdle(): void {
    let longestIdle: Line | undefined;
    for (const line of this.#lines()) {
      if (line.running === 0 && (longestIdle === undefined || line.idleSince < longestIdle.idleSince)) {
        longestIdle = line;
      }
    }
    if (longestIdle !== undefined) this.#retire(longestIdle);
  }

  *#lines(): Iterable<Line> {
    yield* this.#publicLines.values();
    yield* this.#privateLines.values();
  }

  // ------------------------------------------------------------------------------------------------ limits of time

  /** One timer for all calls, and none when there are no calls. */
  #sweep(): void {
    const now = this.#now();
    for (const call of this.#calls) call.checkLimits(now);
    if (this.#calls.size > 0) return;
    clearInterval(this.#sweeping);
    this.#sweeping = undefined;
  }
}

/** One call: what undici tells of, and what its limits say. */
class Call implements Dispatcher.DispatchHandler {
  readonly request: CallRequest;
  /** Set as soon as the call is dispatched. */
  line!: Line;
  readonly #caller: HttpCaller;
  readonly #onOutcome: (outcome: Outcome) => void;
  readonly #startedAt: number;
  #isSettled = false;
  #controller: Dispatcher.DispatchController | undefined;
  #socket: Socket | undefined;
  #sentAt: number | undefined;
  #isAnswerBegun = false;
  /** The kernel took no byte of the request. */
  #isUnsent = false;
  #isSecondTry = false;
  #status = 0;
  #headers: Answer['headers'] = {};
  #bodyStart: BodyStart | undefined;
  #decoder: BodyDecoder | undefined;

  constructor(
    caller: HttpCaller,
    request: CallRequest,
    onOutcome: (outcome: Outcome) => void,
    startedAt: number,
  ) {
    this.#caller = caller;
    this.request = request;
    this.#onOutcome = onOutcome;
    this.#startedAt = startedAt;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It ran out of time before there was a connection: nothing may be sent any more.
    if (this.#isSettled) controller.abort(new Error('The call is over'));
  }

  onRequestSent(): void {
    this.#sentAt = this.#caller.now();
    this.#socket = this.#caller.wires.lastWritten;
    // A write that the kernel refuses at its first byte fails at once, and only such a write does: what it took in part
    // is written on later, and fails later. Over TLS nothing fails at once.
    this.#isUnsent = this.#socket?.errored != null;
  }

  onResponseStarted(): void {
    this.#isAnswerBegun = true;
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (status < 200) return;
    this.#status = status;
    const joined = joinHeaders(headers);
    if (!haveSameHeaders(joined, this.line.headers)) this.line.headers = joined;
    this.#headers = this.line.headers;
    if (
      this.#caller.hasEgressProxy &&
      this.request.url.startsWith('http:') &&
      isProxyAnswer(status, this.#headers)
    ) {
      this.#status = 0;
      this.#fail(describeProxyAnswer(status, this.#headers['x-squid-error']));
      this.#drop();
      return;
    }
    const make = decoderFor(this.#headers['content-encoding']);
    if (make !== undefined) {
      this.#bodyStart = new BodyStart(this.#caller.limits.answerBytesMax);
      this.#decoder = new BodyDecoder(make, this.#bodyStart, () => this.#hasEnough());
    }
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#isSettled) return;
    this.#bodyStart ??= new BodyStart(this.#caller.limits.answerBytesMax);
    if (this.#decoder !== undefined) this.#decoder.add(chunk);
    else if (!this.#bodyStart.add(chunk)) this.#hasEnough();
  }

  onResponseEnd(): void {
    // undici takes a reset for the end of a body whose length nobody told.
    const broken = this.#socket?.errored;
    if (broken != null) this.onResponseError(this.#controller, broken);
    else if (this.#decoder !== undefined) this.#decoder.end(() => this.#complete());
    else this.#complete();
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    if (this.#isSettled) return;
    if (this.#isUnsent && !this.#isSecondTry) {
      this.#isSecondTry = true;
      this.#isUnsent = false;
      this.#controller = undefined;
      this.#sentAt = undefined;
      this.#caller.dispatchAfresh(this, this.line);
      return;
    }
    this.#fail(describeExchangeError(error, this.#isAnswerBegun));
  }

  checkLimits(now: number): void {
    if (this.#isSettled) return;
    const { firstByteMs, exchangeMs } = this.#caller.limits;
    if (now - this.#startedAt > exchangeMs) {
      const detail =
        this.#sentAt === undefined
          ? `No connection within ${exchangeMs} ms`
          : `The answer was not whole within ${exchangeMs} ms`;
      this.#fail({ reason: this.#sentAt === undefined ? 'timeout_connect' : 'timeout_response', detail });
    } else if (this.#sentAt !== undefined && !this.#isAnswerBegun && now - this.#sentAt > firstByteMs) {
      this.#fail({ reason: 'timeout_response', detail: `No answer within ${firstByteMs} ms` });
    } else return;
    this.#drop();
  }

  /** No outcome any more. */
  forget(): void {
    this.#isSettled = true;
    this.#decoder?.destroy();
  }

  #hasEnough(): void {
    if (this.#isSettled) return;
    this.#complete();
    this.#drop();
  }

  /** Ends the connection: what else comes over it is of no interest. */
  #drop(): void {
    this.#controller?.abort(new Error('The call is over'));
  }

  #complete(): void {
    if (this.#status >= 200 && this.#status <= 299) {
      this.#settle({ delivered: true, answer: this.#answer(), durationMs: this.#durationMs() });
    } else {
      this.#failWithStatus();
    }
  }

  /** A status that is not 2xx says all there is to say, however its answer ends. */
  #fail(failure: Failure): void {
    if (this.#status > 299) this.#failWithStatus();
    else {
      this.#settle({
        delivered: false,
        ...failure,
        ...(this.#status === 0 ? {} : { answer: this.#answer() }),
        durationMs: this.#durationMs(),
      });
    }
  }

  #failWithStatus(): void {
    this.#settle({
      delivered: false,
      reason: 'status',
      detail: `The callee answered ${this.#status}`,
      answer: this.#answer(),
      durationMs: this.#durationMs(),
    });
  }

  #answer(): Answer {
    return { status: this.#status, headers: this.#headers, bodyStart: this.#bodyStart?.text() ?? '' };
  }

  #durationMs(): number {
    return Math.round(this.#caller.now() - this.#startedAt);
  }

  #settle(outcome: Outcome): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    this.#decoder?.destroy();
    // Not before undici is done with the connection, which it is in its own next `setImmediate`: whoever makes the next
    // call when this one is over would otherwise get a second connection while the first is about to be free.
    queueMicrotask(() => setImmediate(tell, this, outcome));
  }

  tell(outcome: Outcome): void {
    if (this.#caller.end(this, this.line)) this.#onOutcome(outcome);
  }
}

function tell(call: Call, outcome: Outcome): void {
  call.tell(outcome);
}

function joinHeaders(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  for (const name in headers) {
    const value = headers[name];
    if (typeof value !== 'string') headers[name] = value?.join(', ') ?? '';
  }
  return headers as Record<string, string>;
}

/** Many connections to one name that are begun together need one answer; none is kept after it came. */
function shareLookups(resolve: Resolve): Resolve {
  const asked = new Map<string, ReturnType<Resolve>>();
  return (host) => {
    const running = asked.get(host);
    if (running !== undefined) return running;
    const answer = resolve(host).finally(() => asked.delete(host));
    asked.set(host, answer);
    return answer;
  };
}

/** @throws Error for a setting that is no `http://host:port`. */
function parseProxy(text: string): { host: string; port: number } {
  const url = URL.parse(text);
  if (url === null || url.protocol !== 'http:' || `http://${url.host}/` !== url.href) {
    throw new Error(`The egress proxy is not http://host:port: ${JSON.stringify(text)}`);
  }
  return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(url.port || 80) };
}
