/**
 * Opens the connection of a call: resolve, check, TCP, egress proxy, TLS, in this order and within one limit of time.
 *
 * ```
 *   name or literal ──resolveDestination──> addresses ──TCP──> connected address checked ──TLS──> connection
 *                                       │                                                 ↑
 *        through an egress proxy:       └──> name of the proxy resolved ──TCP──CONNECT (https only)
 * ```
 *
 * Promises that no byte goes to an address that was not checked: what DNS says a second time changes nothing, because it
 * is not asked a second time. Through an egress proxy only literal addresses are checked here: names are the proxy's to
 * resolve, so its own rules must guard what they lead to. The address of the proxy is the operator's choice and is not
 * checked. Every failure is a `CallFailure`.
 */
import { connect as connectTcp, isIP, type Socket, type TcpNetConnectOpts } from 'node:net';
import { connect as connectTls, type SecureContext } from 'node:tls';
import type { Answer } from '../model/outcome.ts';
import { ProtocolError } from './answer-head.ts';
import { AnswerReader, type AnswerSink, noKnownHead } from './answer-reader.ts';
import {
  describeAddress,
  isNotPublic,
  type Resolve,
  type ResolvedAddress,
  resolveDestination,
} from './destination.ts';
import type { EgressProxy } from './egress-proxy.ts';
import {
  CallFailure,
  describeConnectError,
  describeProxyAnswer,
  describeTlsError,
  type Failure,
} from './failure.ts';
import { describeNameError } from './name-error.ts';

export type ConnectionSettings = {
  readonly allowPrivate: boolean;
  /** For all steps together. */
  readonly connectMs: number;
  readonly resolve: Resolve;
  readonly egressProxy: EgressProxy | undefined;
  /** With the authorities that callees are trusted by; undefined for the system's. */
  readonly secureContext: SecureContext | undefined;
  /** Aborted when nothing may be opened any more. */
  readonly signal: AbortSignal;
  /** Told of each TCP connection as it is begun, before it stands. */
  readonly onSocket: (socket: Socket) => void;
  /** For tests, which cannot make the system connect to another address than it was told. */
  readonly connect?: ((options: TcpNetConnectOpts) => Socket) | undefined;
};

/** `host`: a name, or an address without brackets. */
export type Target = { readonly host: string; readonly port: number; readonly isTls: boolean };

/**
 * A connection that stands, and who gets its bytes: the first `length` of a buffer that is overwritten after that. When
 * `onBytes` returns false no more is read until the socket is resumed.
 */
export type Wire = { readonly socket: Socket; onBytes(bytes: Buffer, length: number): boolean };

/** As much as is read at once: what one connection may have of one turn of the event loop. */
export const READ_BUFFER_BYTES = 16 * 1024;
/** Of all connections without TLS: each looks at what it read before the next one reads. */
const READ_BUFFER = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);
/** How long the system waits before it asks an idle peer whether it is still there. */
const TCP_KEEP_ALIVE_MS = 60_000;

type OnOpened = (...result: [failure: Failure, wire: undefined] | [failure: undefined, wire: Wire]) => void;

/** `onOpened` is told once, never before this returns. */
export function openConnection(target: Target, settings: ConnectionSettings, onOpened: OnOpened): void {
  new Opening(target, settings, onOpened).start();
}

/** One connection on its way. */
class Opening {
  readonly #target: Target;
  readonly #settings: ConnectionSettings;
  readonly #onOpened: OnOpened;
  readonly #limit: NodeJS.Timeout;
  /** What running out of time would be the failure of. */
  #onTimeout: Failure;
  #socket: Socket | undefined;
  #isSettled = false;

  constructor(target: Target, settings: ConnectionSettings, onOpened: OnOpened) {
    this.#target = target;
    this.#settings = settings;
    this.#onOpened = onOpened;
    this.#onTimeout = {
      reason: 'dns',
      detail: `${target.host} was not resolved within ${settings.connectMs} ms`,
    };
    this.#limit = setTimeout(() => this.#settle(this.#onTimeout, undefined), settings.connectMs).unref();
  }

  start(): void {
    this.#open().then(
      (wire) => this.#settle(undefined, wire),
      (error) => this.#settle(describeConnectError(error), undefined),
    );
  }

  #settle(...result: Parameters<OnOpened>): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    clearTimeout(this.#limit);
    if (result[1] === undefined) this.#socket?.destroy();
    this.#onOpened(...result);
  }

  async #open(): Promise<Wire> {
    const { egressProxy } = this.#settings;
    const addresses = await this.#resolve();
    return egressProxy === undefined ? this.#openDirectly(addresses) : this.#openThroughProxy(egressProxy);
  }

  async #resolve(): Promise<readonly ResolvedAddress[]> {
    const { allowPrivate, resolve, egressProxy } = this.#settings;
    const { host } = this.#target;
    const hasEgressProxy = egressProxy !== undefined;
    const verdict = await resolveDestination({ host, allowPrivate, resolve, hasEgressProxy });
    if (!verdict.allowed) throw new CallFailure(verdict);
    this.#assertWanted();
    return verdict.addresses;
  }

  /** Names may be answered for when nobody waits any more; nothing is connected to then. */
  #assertWanted(): void {
    if (this.#isSettled || this.#settings.signal.aborted) throw new CallFailure(this.#onTimeout);
  }

  async #openDirectly(addresses: readonly ResolvedAddress[]): Promise<Wire> {
    const { host, port, isTls } = this.#target;
    this.#limitIs('timeout_connect', `No connection to ${host}:${port} within`);
    const wire = await this.#connectTcp(oneOf(addresses, host, port));
    this.#checkConnected(wire.socket);
    return isTls ? this.#startTls(wire.socket) : wire;
  }

  /** The last look before the first byte: an address that nobody checked cannot have been connected to, and if it was … */
  #checkConnected(socket: Socket): void {
    if (this.#settings.allowPrivate) return;
    const address = socket.remoteAddress ?? '';
    const verdict = describeAddress(address);
    if (verdict.allowed) return;
    throw new CallFailure({
      reason: 'destination_not_allowed',
      detail: `${this.#target.host} was connected to at ${address}, which ${isNotPublic(verdict.because)}`,
    });
  }

  async #openThroughProxy(proxy: EgressProxy): Promise<Wire> {
    const told = `${proxy.host}:${proxy.port}`;
    this.#limitIs('proxy', `The egress proxy ${told} was not resolved within`);
    const addresses = await this.#resolveProxy(proxy.host);
    this.#limitIs('proxy', `No connection to the egress proxy ${told} within`);
    const wire = await this.#connectTcp(oneOf(addresses, proxy.host, proxy.port)).catch((error) => {
      const { reason, detail } = describeConnectError(error);
      if (reason === 'local') throw new CallFailure({ reason, detail });
      throw new CallFailure({ reason: 'proxy', detail: `The egress proxy ${told} is not there: ${detail}` });
    });
    if (!this.#target.isTls) return wire;
    const { host, port } = this.#target;
    // The proxy is there; what it waits for is the callee.
    this.#limitIs('timeout_connect', `The egress proxy had no connection to ${host}:${port} within`);
    await openTunnel(wire.socket, `${isIP(host) === 6 ? `[${host}]` : host}:${port}`, proxy.authorization);
    return this.#startTls(wire.socket);
  }

  async #resolveProxy(host: string): Promise<readonly ResolvedAddress[]> {
    const family = isIP(host);
    if (family !== 0) return [{ address: host, family }];
    const addresses = await this.#settings.resolve(host).catch((error) => {
      const { reason, detail } = describeNameError(host, error);
      throw new CallFailure({
        reason: reason === 'local' ? reason : 'proxy',
        detail: `The egress proxy is not found: ${detail}`,
      });
    });
    this.#assertWanted();
    return addresses;
  }

  async #connectTcp(options: TcpNetConnectOpts): Promise<Wire> {
    const { connect = connectTcp, onSocket } = this.#settings;
    const socket: Socket = connect({
      ...options,
      // TLS, and the tunnel to it, read for themselves.
      ...(this.#target.isTls
        ? {}
        : { onread: { buffer: READ_BUFFER, callback: (length) => onRead(length) } }),
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
    });
    this.#socket = socket;
    onSocket(socket);
    const wire: Wire = { socket, onBytes: () => true };
    function onRead(length: number): boolean {
      return wire.onBytes(READ_BUFFER, length);
    }
    await standing(socket, 'connect');
    return wire;
  }

  async #startTls(socket: Socket): Promise<Wire> {
    const { host, port } = this.#target;
    const { secureContext } = this.#settings;
    this.#limitIs('timeout_connect', `No TLS with ${host}:${port} within`);
    const secured = connectTls({
      socket,
      // The certificate must be for this name or address.
      host,
      // A name may end in a dot; in TLS it must not (RFC 6066, 3). An address is not told.
      ...(isIP(host) === 0 ? { servername: host.replace(/\.$/, '') } : {}),
      ALPNProtocols: ['http/1.1'],
      // Told, so that NODE_TLS_REJECT_UNAUTHORIZED=0 in some environment cannot switch the check off.
      rejectUnauthorized: true,
      ...(secureContext === undefined ? {} : { secureContext }),
    });
    this.#socket = secured;
    await standing(secured, 'secureConnect').catch((error) => {
      throw new CallFailure(describeTlsError(error));
    });
    const wire: Wire = { socket: secured, onBytes: () => true };
    secured.on('data', (bytes: Buffer) => {
      if (!wire.onBytes(bytes, bytes.length)) secured.pause();
    });
    return wire;
  }

  #limitIs(reason: Failure['reason'], detail: string): void {
    this.#onTimeout = { reason, detail: `${detail} ${this.#settings.connectMs} ms` };
  }
}

/** Connects to one of these and to nothing else: where there are several, the families take turns. */
function oneOf(addresses: readonly ResolvedAddress[], host: string, port: number): TcpNetConnectOpts {
  const [first, second] = addresses;
  if (first !== undefined && second === undefined) return { host: first.address, port };
  return {
    host,
    port,
    autoSelectFamily: true,
    lookup: (_host, _options, callback) => callback(null, [...addresses]),
  };
}

/** Waits until a socket is ready. It keeps an error listener for good: an error after that must not end the process. */
function standing(socket: Socket, event: 'connect' | 'secureConnect'): Promise<void> {
  return new Promise((resolve, reject) => {
    socket
      .once(event, () => resolve())
      .on('error', reject)
      .once('close', () =>
        reject(Object.assign(new Error('The connection was closed'), { code: 'ECONNRESET' })),
      );
  });
}

/**
 * Asks the egress proxy for a tunnel (RFC 9110, 9.3.6). After it the socket carries what the callee says. The proxy's answer is
 * read as a callee's is, but for its body: behind a 2xx there is none, whatever its head says, and that of another is not wanted.
 */
function openTunnel(socket: Socket, authority: string, authorization: string | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (failure: Failure) => finish(() => reject(new CallFailure(failure)));
    const onClose = () =>
      fail({ reason: 'proxy', detail: 'The egress proxy closed the connection without an answer' });
    const reader = new AnswerReader(noKnownHead());
    let answer: Answer | undefined;
    const sink: AnswerSink = {
      onHead(head) {
        answer = head.answer;
        reader.stop();
      },
      onBody() {},
      onEnough() {},
    };
    const onData = (bytes: Buffer) => {
      let isAll: boolean;
      try {
        isAll = reader.read(bytes, bytes.length, sink);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        const detail = `The egress proxy does not answer in HTTP/1.1: ${error.message}`;
        return fail({ reason: 'proxy', detail });
      }
      if (answer === undefined) return;
      const { status, headers } = answer;
      if (status > 299) fail(describeProxyAnswer(status, headers['x-squid-error']));
      // In TLS the callee waits for us, so these bytes are the proxy's.
      else if (!isAll) fail({ reason: 'proxy', detail: 'The egress proxy said more than its answer' });
      else finish(resolve);
    };
    const finish = (then: () => void) => {
      socket.off('data', onData).off('close', onClose).pause();
      then();
    };
    reader.begin();
    socket.on('data', onData).on('close', onClose);
    const asWhom = authorization === undefined ? '' : `Proxy-Authorization: ${authorization}\r\n`;
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${asWhom}\r\n`);
  });
}
