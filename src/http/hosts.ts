/**
 * For which host a request is, and whether that is ours; and whether it came through a proxy.
 *
 * A page of a stranger's can make a browser on this machine connect to us, by a name of its own that leads here (DNS
 * rebinding). What such a request cannot do is name our host.
 */
import type { IncomingMessage } from 'node:http';
import { AppError } from '../model/app-error.ts';
import { hostOf, hostOfAddress } from '../model/host.ts';

/** A request that is not as RFC 9112 has it: answered with 400. */
export class UnreadableRequest extends Error {
  readonly statusCode = 400;
}

/**
 * There is one Host header at most, and a target that names a host names the same (RFC 9112, section 3.2): somebody before
 * us may have looked at the other one.
 * @throws UnreadableRequest
 */
export function refuseSeveralHosts({
  rawHeaders,
  url = '',
}: Pick<IncomingMessage, 'rawHeaders' | 'url'>): void {
  let host: string | undefined;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    if (name.length !== 4 || name.toLowerCase() !== 'host') continue;
    if (host !== undefined) throw new UnreadableRequest('there are several Host headers');
    host = rawHeaders[index + 1] as string;
  }
  if (url.startsWith('/') || url === '*') return;
  const target = URL.parse(url);
  if (!target || target.host !== URL.parse(`http://${host}`)?.host) {
    throw new UnreadableRequest('the target and the Host header name different hosts');
  }
}

export class OwnHosts {
  readonly #hosts: ReadonlySet<string>;

  /** `hosts`: beside `localhost` and the address that a connection came in on. Names, addresses, addresses in brackets. */
  constructor(hosts: readonly string[]) {
    const known = hosts.map((host) => hostOf(host) ?? hostOfAddress(host));
    this.#hosts = new Set(['localhost', ...known.filter((host) => host !== undefined)]);
  }

  /** @throws AppError `wrong_host` */
  refuseOthers({ headers, socket }: Pick<IncomingMessage, 'headers' | 'socket'>): void {
    const host = hostOf(headers.host ?? '');
    if (host !== undefined && (this.#hosts.has(host) || host === hostOfAddress(socket.localAddress ?? ''))) {
      return;
    }
    throw new AppError(
      'wrong_host',
      'This service does not know the host of the request as its own: use its address, or add the name to ORDERHOOK_HOSTS.',
    );
  }
}

/**
 * Headers that nobody but a proxy adds: the standard ones, the family of X-Forwarded, and whatever hands on the address of
 * the client under some name.
 */
const PROXY_HEADER =
  /^(?:via|forwarded|x-(?:forwarded|original|envoy|arr|proxy)(?:-.*)?|(?:cf|wl-proxy|proxy-client)-.*|.*-(?:ip|ipv4|ipv6|clientip|remote-addr|remote-address|external-address)|x-remote-.*)$/;

/** From this very machine, and not through a proxy on it, behind which everybody is. */
export function isFromThisMachine({
  headers,
  httpVersion,
  socket,
}: Pick<IncomingMessage, 'headers' | 'httpVersion' | 'socket'>): boolean {
  // nginx adds nothing unless it is told to; but it speaks as nobody else does any more.
  if (httpVersion === '1.0') return false;
  if (!/^(?:::ffff:)?127\.|^::1$/.test(socket.remoteAddress ?? '')) return false;
  return !Object.keys(headers).some((name) => PROXY_HEADER.test(name));
}
