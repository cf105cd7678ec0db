/**
 * Makes one HTTP request and says what it came to (contract, sections 2.2, 2.3 and 6).
 *
 * Hides connections, limits of time and size, redirects that are not followed, and the egress proxy. Promises exactly one
 * outcome per call, whatever the callee does; that each connection goes to an address that was checked; that a connection is
 * used again only after the event loop could see that the callee ended it or said more; and that a request is sent a second
 * time, once and on a fresh connection, only when the one before had carried other calls and ended before the first byte of
 * an answer. Never throws for what a callee does, never reads more of an answer than it must, never retries anything else.
 *
 * ```
 *   call ──> waiting for a connection ──> sent ──> answered ──> outcome
 *                    connectMs             firstByteMs
 *                       ^                   │ a used connection ended without a word: once
 *                       └───────────────────┘
 *            └──────────────────── exchangeMs ────────────────┘
 * ```
 */
import type { Socket } from 'node:net';
import { createSecureContext, getCACertificates } from 'node:tls';
import { Bag } from '../model/bag.ts';
import { ANSWER_BYTES_MAX } from '../model/limits.ts';
import type { CallRequest, Outcome } from '../model/outcome.ts';
import { Decoding } from './answer-body.ts';
import { Call, type CallLimits, type CallSettings } from './call.ts';
import type { Resolve } from './destination.ts';
import type { EgressProxy } from './egress-proxy.ts';
import { Line, type Manners } from './line.ts';
import { createNames, type Names } from './names.ts';
import type { ConnectionSettings } from './opening.ts';
import { ProxyRefusals } from './proxy-refusals.ts';
import { describeInvalid, originOf, RequestWriter } from './request-text.ts';
import { Rests } from './rests.ts';

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
  /** By default the caller has names of its own (`createNames`), with the time that connecting has. */
  readonly resolve?: Resolve | undefined;
  readonly egressProxy?: EgressProxy | undefined;
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
/** Destinations whose connections are kept although idle. Calls in flight are bounded by whoever makes them. */
const LINES_MAX = 1_000;
/** So many are closed together when there are more: to look for the longest idle costs as much as for these. */
const LINES_CLOSED_AT_ONCE = 50;
/** Origins of which it is remembered how they treat connections; with one more all are learned anew. */
const MANNERS_MAX = 10_000;

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

class HttpCaller implements Caller {
  readonly #settings: CallSettings;
  readonly #userAgent: string;
  readonly #connection: Omit<ConnectionSettings, 'allowPrivate'>;
  readonly #names: Names | undefined;
  readonly #sockets = new Set<Socket>();
  readonly #publicLines = new Map<string, Line>();
  readonly #privateLines = new Map<string, Line>();
  /** With so many lines it is looked for idle ones. */
  #linesMax = LINES_MAX;
  readonly #calls = new Bag<Call>();
  readonly #rests = new Rests();
  /** By origin. */
  readonly #manners = new Map<string, Manners>();
  #sweeping: NodeJS.Timeout | undefined;
  #onEmpty: (() => void) | undefined;
  readonly #closing = new AbortController();
  #isClosed = false;

  constructor(settings: CallerSettings) {
    const { userAgent, egressProxy, extraCa, connect } = settings;
    const limits = { ...CALL_LIMITS, ...settings.limits };
    const now = settings.now ?? (() => performance.now());
    const hasEgressProxy = egressProxy !== undefined;
    const proxyRefusals = hasEgressProxy ? new ProxyRefusals() : undefined;
    this.#settings = { limits, now, proxyRefusals, decoding: new Decoding(now) };
    this.#userAgent = userAgent;
    const names = settings.resolve ?? createNames({ limitMs: limits.connectMs });
    this.#names = typeof names === 'function' ? undefined : names;
    this.#connection = {
      connectMs: limits.connectMs,
      resolve: typeof names === 'function' ? names : names.resolve,
      egressProxy,
      secureContext:
        extraCa === undefined
          ? undefined
          : createSecureContext({ ca: [...getCACertificates('default'), extraCa] }),
      signal: this.#closing.signal,
      onSocket: (socket) => {
        this.#sockets.add(socket);
        socket.once('close', () => this.#sockets.delete(socket));
      },
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
    const invalid = describeInvalid(request);
    if (invalid !== undefined) {
      onOutcome({ delivered: false, reason: 'protocol', detail: invalid, durationMs: 0 });
      return;
    }
    const origin = originOf(request.url);
    const lines = allowPrivate ? this.#privateLines : this.#publicLines;
    const line = lines.get(origin) ?? this.#openLine(origin, lines);
    line.running += 1;
    const call = new Call(request, this.#settings, (outcome) => {
      if (this.#end(call, line)) onOutcome(outcome);
    });
    this.#calls.add(call);
    this.#sweeping ??= setInterval(() => this.#sweep(), SWEEP_MS).unref();
    line.send(call);
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
    this.#names?.close();
    clearInterval(this.#sweeping);
    this.#rests.stop();
    for (const call of this.#calls.items()) call.forget();
    this.#calls.clear();
    this.#publicLines.clear();
    this.#privateLines.clear();
    const closed = [...this.#sockets].map(
      (socket) => new Promise((resolve) => socket.once('close', resolve).destroy()),
    );
    await Promise.all(closed);
    this.#onEmpty?.();
  }

  /** False for a call that nobody waits for any more. */
  #end(call: Call, line: Line): boolean {
    if (!this.#calls.delete(call)) return false;
    line.running -= 1;
    if (line.running === 0) line.idleSince = this.#settings.now();
    if (this.#calls.size === 0) this.#onEmpty?.();
    return true;
  }

  #openLine(origin: string, lines: Map<string, Line>): Line {
    if (this.#publicLines.size + this.#privateLines.size >= this.#linesMax) this.#closeLongestIdle();
    const { hostname, port, protocol } = new URL(origin);
    const isTls = protocol === 'https:';
    const line = new Line({
      target: { host: hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(port) || (isTls ? 443 : 80), isTls },
      connection: { ...this.#connection, allowPrivate: lines === this.#privateLines },
      writer: new RequestWriter(origin, this.#userAgent, isTls ? undefined : this.#connection.egressProxy),
      rests: this.#rests,
      manners: this.#mannersOf(origin),
      now: this.#settings.now,
    });
    lines.set(origin, line);
    return line;
  }

  #mannersOf(origin: string): Manners {
    const known = this.#manners.get(origin);
    if (known !== undefined) return known;
    if (this.#manners.size >= MANNERS_MAX) this.#manners.clear();
    const manners: Manners = { leavesOpen: undefined };
    this.#manners.set(origin, manners);
    return manners;
  }

  #closeLongestIdle(): void {
    const idle: { origin: string; line: Line; lines: Map<string, Line> }[] = [];
    for (const lines of [this.#publicLines, this.#privateLines]) {
      for (const [origin, line] of lines) if (line.running === 0) idle.push({ origin, line, lines });
    }
    idle.sort((one, other) => one.line.idleSince - other.line.idleSince);
    for (const { origin, line, lines } of idle.slice(0, LINES_CLOSED_AT_ONCE)) {
      line.close();
      lines.delete(origin);
    }
    // While all are in use, nobody looks again at each new one.
    this.#linesMax = Math.max(
      LINES_MAX,
      this.#publicLines.size + this.#privateLines.size + LINES_CLOSED_AT_ONCE,
    );
  }

  /** One timer for all calls and all idle connections, and none when there are neither. */
  #sweep(): void {
    const now = this.#settings.now();
    this.#linesMax = LINES_MAX;
    for (const call of this.#calls.items()) call.checkLimits(now);
    for (const lines of [this.#publicLines, this.#privateLines]) {
      for (const [origin, line] of lines) {
        line.closeIdle(now);
        if (line.running === 0 && !line.hasConnections) lines.delete(origin);
      }
    }
    if (this.#publicLines.size + this.#privateLines.size > 0) return;
    clearInterval(this.#sweeping);
    this.#sweeping = undefined;
  }
}
