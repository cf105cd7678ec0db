/**
 * Every setting, in one table. Each is an environment variable and a flag of the same name (`ORDERHOOK_ADMIN_KEY`,
 * `--admin-key`); a flag wins. Nothing else reads the environment.
 */

import { isIP } from 'node:net';
import { type EgressProxy, parseEgressProxy } from './caller/egress-proxy.ts';
import { StartError } from './model/app-error.ts';
import { MASK, maskCredentials, shownBrokenUrl } from './model/credentials.ts';
import { isHost } from './model/host.ts';
import { ANSWER_BYTES_MAX } from './model/limits.ts';
import { LOG_LEVELS, type LogLevel } from './observe/log.ts';
import { parseDatabaseUrl } from './store/postgres/hosts.ts';

type Setting<T> = {
  readonly env: `ORDERHOOK_${string}`;
  readonly default: T;
  readonly about: string;
  /** It is never shown, neither what is in force nor what does not parse. */
  readonly secret?: true;
  /** It is a URL, and so may hold a password even where it does not parse. */
  readonly isUrl?: true;
  /** What the text means; throws Error with what is expected, and without the text. */
  readonly parse: (text: string) => T;
  /** A value as `config` shows it, without its secrets; by default as a text. */
  show?(value: T): string;
};

const text = (value: string) => value;

function integer(min: number, max: number) {
  return (value: string): number => {
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= min && number <= max) return number;
    throw new Error(`must be a whole number from ${min} to ${max}`);
  };
}

function oneOf<T extends string>(choices: readonly T[]) {
  return (value: string): T => {
    if (choices.includes(value as T)) return value as T;
    throw new Error(`must be one of ${choices.join(', ')}`);
  };
}

/** The address of a service: where its API begins, without anything that would have to be kept secret. */
function serviceAddress(value: string): string {
  const url = URL.parse(value);
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new Error('must be a URL that begins with http:// or https://');
  if (url.username !== '' || url.password !== '') {
    throw new Error('must not hold a user name or a password: the key is a setting of its own');
  }
  if (url.search !== '' || url.hash !== '') throw new Error('must not have a query or a fragment');
  return value;
}

function showProxy(proxy: EgressProxy | undefined): string {
  if (proxy === undefined) return '';
  const { host, port, authorization } = proxy;
  const userInfo = authorization === undefined ? '' : `${MASK}@`;
  return `http://${userInfo}${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** Names and addresses without a port, separated by commas. */
function hostList(value: string): readonly string[] {
  const hosts = value.split(',').map((host) => host.trim());
  if (hosts.every(isHost)) return hosts;
  throw new Error('must be names or addresses without ports, separated by commas');
}

/** Several hosts make it no URL for the platform. */
function databaseUrl(value: string): string {
  parseDatabaseUrl(value);
  return value;
}

const MS_PER_MINUTE = 60_000;

function define<T>(setting: Setting<T>): Setting<T> {
  return setting;
}

export const SETTINGS = {
  host: define({ env: 'ORDERHOOK_HOST', default: '127.0.0.1', about: 'Address to listen on.', parse: text }),
  port: define({
    env: 'ORDERHOOK_PORT',
    default: 8080,
    about: 'Port to listen on; 0 takes any free one.',
    parse: integer(0, 65_535),
  }),
  hosts: define<readonly string[]>({
    env: 'ORDERHOOK_HOSTS',
    default: [],
    about:
      'Names under which clients and reverse proxies reach this service, separated by commas; its addresses and localhost are ' +
      'known.',
    parse: hostList,
  }),
  dataFolder: define({
    env: 'ORDERHOOK_DATA',
    default: './orderhook-data',
    about: 'Folder of the embedded database and of the key that secrets are sealed with.',
    parse: text,
  }),
  databaseUrl: define({
    env: 'ORDERHOOK_DATABASE_URL',
    default: '',
    about:
      'Empty: SQLite in the data folder. `postgres://…`: PostgreSQL; several hosts are separated by commas.',
    secret: true,
    parse: databaseUrl,
  }),
  databaseListen: define({
    env: 'ORDERHOOK_DATABASE_LISTEN',
    default: 'on',
    about: 'PostgreSQL: `off` behind pgbouncer in transaction mode, which has no LISTEN.',
    parse: oneOf(['on', 'off']),
  }),
  adminKey: define({
    env: 'ORDERHOOK_ADMIN_KEY',
    default: '',
    about:
      "An administrator's API key. Empty: the first start prints a link to create the first administrator.",
    secret: true,
    parse: text,
  }),
  encryptionKey: define({
    env: 'ORDERHOOK_ENCRYPTION_KEY',
    default: '',
    about: "32 bytes in hexadecimal that seal partners' secrets. Empty: made once, kept in the data folder.",
    secret: true,
    parse: (value: string) => {
      if (/^[0-9a-f]{64}$/i.test(value)) return value;
      throw new Error('must be 64 hexadecimal digits');
    },
  }),
  egressProxy: define<EgressProxy | undefined>({
    env: 'ORDERHOOK_EGRESS_PROXY',
    default: undefined,
    about: 'Proxy that all calls go through, `http://host:port` or `http://user:password@host:port`.',
    isUrl: true,
    parse: parseEgressProxy,
    show: showProxy,
  }),
  extraCaFile: define({
    env: 'ORDERHOOK_EXTRA_CA_FILE',
    default: '',
    about: 'PEM file with certificates of authorities that callees may have, beside the usual ones.',
    parse: text,
  }),
  logLevel: define<LogLevel>({
    env: 'ORDERHOOK_LOG_LEVEL',
    default: 'info',
    about: `How much is logged to standard error: ${LOG_LEVELS.join(', ')}.`,
    parse: oneOf(LOG_LEVELS),
  }),
  connectTimeoutMs: define({
    env: 'ORDERHOOK_CONNECT_TIMEOUT_MS',
    default: 5_000,
    about: 'Of one attempt: until the callee accepts the connection.',
    parse: integer(1, 10 * MS_PER_MINUTE),
  }),
  responseTimeoutMs: define({
    env: 'ORDERHOOK_RESPONSE_TIMEOUT_MS',
    default: 15_000,
    about: 'Of one attempt: until the first byte of the answer.',
    parse: integer(1, 10 * MS_PER_MINUTE),
  }),
  exchangeTimeoutMs: define({
    env: 'ORDERHOOK_EXCHANGE_TIMEOUT_MS',
    default: 30_000,
    about: 'Of one attempt: until the answer is complete.',
    parse: integer(1, 10 * MS_PER_MINUTE),
  }),
  answerBytesMax: define({
    env: 'ORDERHOOK_ANSWER_BYTES_MAX',
    default: ANSWER_BYTES_MAX,
    about:
      "Bytes of an answer's body that are read, counted after decompression; then the connection is dropped.",
    parse: integer(1_024, 16 * 1024 * 1024),
  }),
  webServiceCallsPerMinute: define({
    env: 'ORDERHOOK_WEB_SERVICE_CALLS_PER_MINUTE',
    default: 3_000,
    about: 'getOrderDetails calls that one partner may make in a minute.',
    parse: integer(1, 1_000_000),
  }),
  webServiceLimitStatus: define({
    env: 'ORDERHOOK_WEB_SERVICE_LIMIT_STATUS',
    default: 429,
    about:
      'Status of the answer to more calls of the web service than that: 429, or 509 as the real service had it.',
    parse: (value) => Number(oneOf(['429', '509'])(value)),
  }),
  retentionDays: define({
    env: 'ORDERHOOK_RETENTION_DAYS',
    default: 365,
    about:
      'Call log, ended executions and closings that every queue has passed are removed when they are older.',
    parse: integer(1, 36_500),
  }),
  orderRetentionDays: define<number | ''>({
    env: 'ORDERHOOK_ORDER_RETENTION_DAYS',
    default: '',
    about:
      'Orders that were last stored longer ago lose their details, unless a delivery waits, is owed or is abandoned. Empty: never.',
    parse: integer(1, 36_500),
  }),
  startWaitS: define({
    env: 'ORDERHOOK_START_WAIT_S',
    default: 60,
    about: 'How many seconds a start waits for a PostgreSQL server that is not up yet.',
    parse: integer(0, 3_600),
  }),
  drainS: define({
    env: 'ORDERHOOK_DRAIN_S',
    default: 0,
    about:
      'How many seconds a stop goes on taking requests, with `/readyz` at 503, for a proxy in front to notice. No call starts meanwhile.',
    parse: integer(0, 600),
  }),
  stopGraceMs: define({
    env: 'ORDERHOOK_STOP_GRACE_MS',
    default: 30_000,
    about: 'How long a stop takes at most, the drain apart: then what still runs is cut.',
    parse: integer(0, 10 * MS_PER_MINUTE),
  }),
  url: define({
    env: 'ORDERHOOK_URL',
    default: '',
    about: 'For commands that talk to a running service: its address. Empty: host and port from above.',
    isUrl: true,
    parse: serviceAddress,
  }),
  key: define({
    env: 'ORDERHOOK_KEY',
    default: '',
    about:
      'For commands that talk to a running service: the API key. Empty: the administrator key from above.',
    secret: true,
    parse: text,
  }),
} as const;

export type SettingName = keyof typeof SETTINGS;
export type Settings = { readonly [K in SettingName]: ReturnType<(typeof SETTINGS)[K]['parse']> };

/** `ORDERHOOK_ADMIN_KEY` is `--admin-key`. */
export function flagOf(name: SettingName): string {
  return `--${SETTINGS[name].env.slice('ORDERHOOK_'.length).toLowerCase().replaceAll('_', '-')}`;
}

/**
 * @param flags texts by setting name
 * @throws StartError that lists every unknown variable and every value that does not parse
 */
export function readSettings(
  environment: Readonly<Record<string, string | undefined>>,
  flags: Partial<Record<SettingName, string>> = {},
): Settings {
  const troubles: string[] = [];
  const known = new Set<string>(Object.values(SETTINGS).map(({ env }) => env));
  const given = Object.entries(environment).filter(
    ([name, value]) => name.startsWith('ORDERHOOK_') && !isInjectedByKubernetes(name, value ?? ''),
  );
  for (const [name] of given) {
    if (!known.has(name)) troubles.push(`${name} is not a setting; \`orderhook config\` lists them all.`);
  }
  const variables = new Map(given);
  const settings = Object.fromEntries(
    Object.entries(SETTINGS).map(([name, setting]) => {
      const flag = flags[name as SettingName];
      const text = flag ?? variables.get(setting.env) ?? '';
      if (text === '') return [name, setting.default];
      try {
        return [name, setting.parse(text)];
      } catch (error) {
        const source = flag === undefined ? setting.env : flagOf(name as SettingName);
        troubles.push(`${source} ${(error as Error).message}, not ${shownRefused(setting, text)}.`);
        return [name, setting.default];
      }
    }),
  );
  if (troubles.length > 0) throw new StartError(troubles.join('\n'));
  return settings as Settings;
}

function shownRefused(setting: { readonly secret?: true; readonly isUrl?: true }, text: string): string {
  const shown = setting.secret ? undefined : setting.isUrl ? shownBrokenUrl(text) : maskCredentials(text);
  return shown === undefined ? 'the value given' : `"${shown}"`;
}

/**
 * For every Service of its namespace Kubernetes gives each container variables in the manner of Docker's links
 * (kubernetes.io, "Service", environment variables). A Service named `orderhook` or `orderhook-api` makes them look like
 * ours, one of them even like our port. They are told by the shape of name and value together, so that a mistyped setting
 * is still noticed.
 */
const INJECTED: readonly (readonly [name: RegExp, value: (text: string) => boolean])[] = [
  [/_SERVICE_HOST$/, isAddress],
  [/_SERVICE_PORT(_[A-Z0-9_]+)?$/, isPort],
  [/_PORT$/, isPortUrl],
  [/_PORT_\d+_(TCP|UDP|SCTP)$/, isPortUrl],
  [/_PORT_\d+_(TCP|UDP|SCTP)_PROTO$/, (text) => /^(tcp|udp|sctp)$/.test(text)],
  [/_PORT_\d+_(TCP|UDP|SCTP)_PORT$/, isPort],
  [/_PORT_\d+_(TCP|UDP|SCTP)_ADDR$/, isAddress],
];

function isInjectedByKubernetes(name: string, value: string): boolean {
  return INJECTED.some(([shape, isShaped]) => shape.test(name) && isShaped(value));
}

function isAddress(text: string): boolean {
  return isIP(text) !== 0;
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text);
}

function isPortUrl(text: string): boolean {
  return /^(tcp|udp|sctp):\/\/[\w.:[\]]+:\d{1,5}$/.test(text);
}

/** From the process. */
export function processSettings(flags?: Partial<Record<SettingName, string>>): Settings {
  return readSettings(process.env, flags);
}

/** `NAME=value` lines with what is in force, secrets masked. */
export function printSettings(settings: Settings): string {
  const lines = Object.entries(SETTINGS).map(([name, setting]) => {
    return `# ${setting.about}\n${setting.env}=${shownInForce(name as SettingName, settings)}\n`;
  });
  return lines.join('\n');
}

function shownInForce(name: SettingName, settings: Settings): string {
  const setting: { readonly secret?: true; show?(value: unknown): string } = SETTINGS[name];
  const shown = setting.show?.(settings[name]) ?? String(settings[name]);
  return setting.secret && shown !== '' ? MASK : shown;
}
