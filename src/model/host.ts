/** Hosts as they stand in a Host header and in settings: names, IPv4 addresses, IPv6 addresses in brackets. */

/** A name or an address, with or without a port. */
const HOST = /^(?<host>[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i;

/** In one way of writing, without the port; undefined when it is no host. */
export function hostOf(text: string): string | undefined {
  const host = HOST.exec(text)?.groups?.host;
  return host === undefined ? undefined : URL.parse(`http://${host}`)?.hostname;
}

/** As `hostOf`, for an IP address without brackets, as sockets have it. */
export function hostOfAddress(address: string): string | undefined {
  const unmapped = address.replace(/^::ffff:(?=\d+\.)/i, '');
  return hostOf(unmapped.includes(':') ? `[${unmapped.replace(/%.*$/, '')}]` : unmapped);
}

/** Whether a text of a setting is a host without a port. */
export function isHost(text: string): boolean {
  return !/:\d+$/.test(text.replace(/^\[.*\]/, '')) && hostOf(text) !== undefined;
}
