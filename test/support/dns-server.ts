/**
 * A DNS server for tests: answers from a table over UDP (RFC 1035), counts what it is asked, and stays silent for the
 * names that the table says. A name that is not in the table does not exist.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';

export type DnsRecord = {
  readonly a?: readonly string[];
  /** Each of eight groups written out, or with one `::`. */
  readonly aaaa?: readonly string[];
  /** Seconds; 60 by default. */
  readonly ttl?: number;
  /** Instead of an answer. */
  readonly fails?: 'SERVFAIL' | 'REFUSED';
  /** To the questions for this family, or to both, there is no answer at all. */
  readonly silent?: 'A' | 'AAAA' | 'both';
  readonly delayMs?: number;
};

export type DnsQuery = { readonly name: string; readonly type: 'A' | 'AAAA'; readonly fromPort: number };

const TYPES: ReadonlyMap<number, DnsQuery['type']> = new Map([
  [1, 'A'],
  [28, 'AAAA'],
]);
const CODES = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const;
const HEAD_BYTES = 12;
const TTL_SECONDS_DEFAULT = 60;

export class DnsServer {
  /** By name in lower case; a test may change it at any time. */
  readonly zone: Map<string, DnsRecord>;
  readonly queries: DnsQuery[] = [];
  /** As `nameserver` in resolv.conf, with a port. */
  readonly address: string;
  /** While true, nobody gets an answer. */
  isSilent = false;
  readonly #socket: Socket;
  readonly #timers = new Set<NodeJS.Timeout>();

  private constructor(socket: Socket, zone: Record<string, DnsRecord>) {
    this.#socket = socket;
    this.zone = new Map(Object.entries(zone));
    const { address, port } = socket.address();
    this.address = `${address}:${port}`;
    socket.on('message', (message, from) => this.#receive(message, from));
  }

  static async start(
    zone: Record<string, DnsRecord> = {},
    { host = '127.0.0.1', port = 0 } = {},
  ): Promise<DnsServer> {
    const socket = createSocket('udp4');
    socket.bind(port, host);
    await once(socket, 'listening');
    return new DnsServer(socket, zone);
  }

  /** How often a name was asked for, in one family or in both. */
  asked(name: string, type?: DnsQuery['type']): number {
    return this.queries.filter((query) => query.name === name && (type ?? query.type) === query.type).length;
  }

  async close(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#socket.close();
    await once(this.#socket, 'close');
  }

  #receive(message: Buffer, from: RemoteInfo): void {
    const { name, end } = readName(message);
    const type = TYPES.get(message.readUInt16BE(end));
    if (type === undefined) return;
    this.queries.push({ name, type, fromPort: from.port });
    const record = this.zone.get(name);
    if (this.isSilent || record?.silent === 'both' || record?.silent === type) return;
    const answer = answerTo(message.subarray(0, end + 4), type, record);
    if (record?.delayMs === undefined) return this.#send(answer, from);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#send(answer, from);
    }, record.delayMs);
    this.#timers.add(timer);
  }

  #send(answer: Buffer, { port, address }: RemoteInfo): void {
    this.#socket.send(answer, port, address);
  }
}

/** The name of the only question of a query, without its last dot, and where it ends. */
function readName(message: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = HEAD_BYTES;
  for (let length = message[at] as number; length > 0; length = message[at] as number) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: at + 1 };
}

function answerTo(query: Buffer, type: DnsQuery['type'], record: DnsRecord | undefined): Buffer {
  const addresses = (type === 'A' ? record?.a : record?.aaaa) ?? [];
  const code = record === undefined ? CODES.NXDOMAIN : CODES[record.fails ?? 'NOERROR'];
  const answers = code === CODES.NOERROR ? addresses : [];
  const head = Buffer.from(query.subarray(0, HEAD_BYTES));
  // An answer, recursion wanted and available; then the counts of questions, answers, authorities, others.
  head.writeUInt16BE(0x8180 | code, 2);
  for (const [index, count] of [1, answers.length, 0, 0].entries()) head.writeUInt16BE(count, 4 + 2 * index);
  const rows = answers.map((address) => {
    const value = type === 'A' ? ipv4Bytes(address) : ipv6Bytes(address);
    const row = Buffer.alloc(12);
    row.writeUInt16BE(0xc000 | HEAD_BYTES, 0); // the name that was asked for
    row.writeUInt16BE(type === 'A' ? 1 : 28, 2);
    row.writeUInt16BE(1, 4);
    row.writeUInt32BE(record?.ttl ?? TTL_SECONDS_DEFAULT, 6);
    row.writeUInt16BE(value.length, 10);
    return Buffer.concat([row, value]);
  });
  return Buffer.concat([head, query.subarray(HEAD_BYTES), ...rows]);
}

function ipv4Bytes(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

function ipv6Bytes(address: string): Buffer {
  const [before = '', after] = address.split('::');
  const groups = (text: string) => (text === '' ? [] : text.split(':'));
  const [first, last] = [groups(before), groups(after ?? '')];
  const middle = Array<string>(8 - first.length - last.length).fill('0');
  const bytes = Buffer.alloc(16);
  for (const [index, group] of [...first, ...middle, ...last].entries()) {
    bytes.writeUInt16BE(Number.parseInt(group, 16), 2 * index);
  }
  return bytes;
}
