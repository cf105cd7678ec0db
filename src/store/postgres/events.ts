/** What happens between this process and the server without any call of the store being rejected for it: for the log. */
export const DATABASE_EVENT_KINDS = [
  /** Other nodes are not heard: closings are found by looking, and all else is looked at when they are heard again. */
  'listen_lost',
  'listen_restored',
  /** Other nodes were not told, for now. */
  'notify_failed',
  /** Looking for what nobody told of. */
  'look_failed',
  /** A connection that nobody used at the moment. */
  'connection_lost',
  /** It did not answer, or takes no writes: another one of the URL is tried. */
  'server_left',
  'statement_repeated',
] as const;
export type DatabaseEventKind = (typeof DATABASE_EVENT_KINDS)[number];

export type DatabaseEvent = {
  readonly kind: DatabaseEventKind;
  /** `host:port`; never with user or password. */
  readonly server?: string;
  readonly cause?: unknown;
};
