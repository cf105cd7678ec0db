/** The proxy that all calls go through (contract, section 6), as its setting names it. */

export type EgressProxy = {
  /** A name, or an address without brackets. */
  readonly host: string;
  readonly port: number;
  /** The value of `Proxy-Authorization` (RFC 9110, 11.7.1); absent: the proxy asks for nothing. */
  readonly authorization?: string;
};

const EXPECTED = 'must be http://host:port or http://user:password@host:port';

/** @throws Error that says what is expected, and never what was given: it may hold a password */
export function parseEgressProxy(text: string): EgressProxy {
  const url = URL.parse(text);
  if (url === null || url.protocol !== 'http:' || url.host === '') throw new Error(EXPECTED);
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') throw new Error(EXPECTED);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = Number(url.port || 80);
  if (url.username === '' && url.password === '') return { host, port };
  return { host, port, authorization: basicAuthorization(decoded(url.username), decoded(url.password)) };
}

/** RFC 7617: the user ends at the first colon, and neither part holds a control character. */
function basicAuthorization(user: string, password: string): string {
  if (user.includes(':')) throw new Error('must not have a colon in the name of its user: RFC 7617');
  if (/[\x00-\x1f\x7f]/.test(user + password)) {
    throw new Error('must not have a control character in its user or password: RFC 7617');
  }
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Error('must have each % of its user and password written as %25');
  }
}
