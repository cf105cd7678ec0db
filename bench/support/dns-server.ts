/**
 * A DNS server on loopback (RFC 1035, over UDP): some names live at 127.0.0.1, of some it says nothing, not even that it
 * does not know, and there are no others.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';

export const DNS_PORT = 53;
/** Seconds. */
const TIME_TO_LIVE = 1;
const HEADER_BYTES = 12;
const [TYPE_A, CLASS_IN] = [1, 1];
/** Flags: a response, recursion desired and available; with the code for no error, or for no such name. */
const [NO_ERROR, NO_SUCH_NAME] = [0x8180, 0x8183];
const POINTER_TO_QUESTION = 0xc00c;

export class DnsServer implements AsyncDisposable {
  /** Names below `dead` get no answer; else one that there is no such name. */
  isSilent = true;
  readonly #socket: Socket;
  readonly #asked = new Set<string>();

  private constructor(socket: Socket, given: { live: string; dead: string }) {
    this.#socket = socket;
    socket.on('message', (message, { port, address }) => {
      const { name, type, end } = readQuestion(message);
      this.#asked.add(name);
      if (name.endsWith(`.${given.dead}`) && this.isSilent) return;
      const isLive = name.endsWith(`.${given.live}`);
      const answers = isLive && type === TYPE_A ? [addressRecord()] : [];
      const head = Buffer.alloc(HEADER_BYTES);
      head.writeUInt16BE(message.readUInt16BE(0), 0);
      head.writeUInt16BE(isLive ? NO_ERROR : NO_SUCH_NAME, 2);
      head.writeUInt16BE(1, 4);
      head.writeUInt16BE(answers.length, 6);
      socket.send(Buffer.concat([head, message.subarray(HEADER_BYTES, end), ...answers]), port, address);
    });
  }

  /** `live` and `dead` are domains; the names are those below them. */
  static async start(given: { live: string; dead: string }): Promise<DnsServer> {
    const socket = createSocket('udp4');
    socket.bind(DNS_PORT, '127.0.0.1');
    await once(socket, 'listening');
    return new DnsServer(socket, given);
  }

  /** Different names below this domain that it was asked for. */
  namesAsked(domain: string): number {
    return [...this.#asked].filter((name) => name.endsWith(`.${domain}`)).length;
  }

  forget(): void {
    this.#asked.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#socket, 'close');
    this.#socket.close();
    await closed;
  }
}

/** `end`: where it ends in the message. */
function readQuestion(message: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = message.readUInt8(at); length > 0; length = message.readUInt8(at)) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length).toLowerCase());
    at += 1 + length;
  }
  return { name: labels.join('.'), type: message.readUInt16BE(at + 1), end: at + 5 };
}

function addressRecord(): Buffer {
  const record = Buffer.alloc(16);
  record.writeUInt16BE(POINTER_TO_QUESTION, 0);
  record.writeUInt16BE(TYPE_A, 2);
  record.writeUInt16BE(CLASS_IN, 4);
  record.writeUInt32BE(TIME_TO_LIVE, 6);
  record.writeUInt16BE(4, 10);
  record.set([127, 0, 0, 1], 12);
  return record;
}
