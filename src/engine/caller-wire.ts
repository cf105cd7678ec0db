/**
 * What undici writes to and reads from a connection, put right in two places where it offers no setting:
 *
 * - It always writes `connection: keep-alive`. The contract (section 2.2) sends nothing that it does not list, and in
 *   HTTP/1.1 a connection is kept alive without being asked. The line is taken out.
 * - It drops the connection at `100 Continue`. A client must be able to take one that it did not ask for
 *   (RFC 9110, 15.2), so it is skipped and the answer behind it is read.
 *
 * It also tells a call which connection its request was written to: undici's handlers do not learn that.
 * `test/caller.test.ts` compares every byte, so that another undici cannot change this unnoticed.
 */
import type { Socket } from 'node:net';

export type Wires = {
  /** The connection of the latest write: undici calls `onRequestSent` in the same turn, right after it. */
  lastWritten: Socket | undefined;
};

const CONNECTION_LINE = 'connection: keep-alive\r\n';
const HEAD_END = '\r\n\r\n';
/** What tells a 100 from other answers: `HTTP/1.1 100`. */
const STATUS_END = 12;
/** A 100 with more headers than this is handed to the parser, which refuses it. */
const SKIPPED_BYTES_MAX = 16 * 1024;

export function shapeWire(socket: Socket, wires: Wires): void {
  const write = socket.write as (chunk: string | Uint8Array, ...rest: unknown[]) => boolean;
  const read = socket.read;
  let answerAwaited = false;
  let held: Buffer | undefined;

  socket.write = ((chunk: string | Uint8Array, ...rest: unknown[]) => {
    wires.lastWritten = socket;
    answerAwaited = true;
    // Heads are written as text, bodies as bytes.
    return write.call(socket, typeof chunk === 'string' ? withoutConnectionLine(chunk) : chunk, ...rest);
  }) as Socket['write'];

  socket.read = (size?: number) => {
    const chunk = read.call(socket, size) as Buffer | null;
    if (!answerAwaited || chunk === null || size === 0) return chunk;
    if (held === undefined && !mayBeContinue(chunk)) {
      answerAwaited = false;
      return chunk;
    }
    held = skipContinues(held === undefined ? chunk : Buffer.concat([held, chunk]));
    if (held !== undefined && mayBeContinue(held) && held.length < SKIPPED_BYTES_MAX) return null;
    const rest = held ?? null;
    held = undefined;
    if (rest !== null) answerAwaited = false;
    return rest;
  };
}

function withoutConnectionLine(head: string): string {
  const at = head.indexOf(CONNECTION_LINE);
  return at === -1 ? head : head.slice(0, at) + head.slice(at + CONNECTION_LINE.length);
}

/** What is left behind all whole 100s at the start; undefined when nothing is. */
function skipContinues(bytes: Buffer): Buffer | undefined {
  let rest = bytes;
  while (rest.length >= STATUS_END && mayBeContinue(rest)) {
    const end = rest.indexOf(HEAD_END);
    if (end === -1) break;
    rest = rest.subarray(end + HEAD_END.length);
  }
  return rest.length === 0 ? undefined : rest;
}

/** Whether bytes are the start of a 100, or too few to tell. */
function mayBeContinue(bytes: Buffer): boolean {
  if (bytes.length >= STATUS_END) {
    return (
      bytes[9] === 0x31 && bytes.toString('latin1', 0, STATUS_END).replace('1.0', '1.1') === 'HTTP/1.1 100'
    );
  }
  const start = bytes.toString('latin1');
  return 'HTTP/1.1 100'.startsWith(start) || 'HTTP/1.0 100'.startsWith(start);
}
