/** What Node's own HTTP client makes of bytes that a callee sends over a real connection. */
import { Agent, get } from 'node:http';
import type { Socket } from 'node:net';
import { startCallee } from './scripted-callee.ts';

export type NodeReading =
  | { readonly end: 'whole'; readonly status: number; readonly body: string }
  | { readonly end: 'error' }
  /** It has all the bytes, and wants more. */
  | { readonly end: 'waits' };

type Said = { readonly bytes: Buffer; readonly closes: boolean };

/** Turns of the event loop in which the client may come to a result once it has all bytes. */
const TURNS = 10;

export async function startNodeClient(): Promise<{
  read(said: Said): Promise<NodeReading>;
  close(): Promise<void>;
}> {
  let said: Said = { bytes: Buffer.alloc(0), closes: true };
  const callee = await startCallee((socket: Socket) => {
    if (said.closes) socket.end(said.bytes);
    else socket.write(said.bytes);
  });
  return {
    async read(next) {
      said = next;
      const agent = new Agent({ keepAlive: true });
      try {
        return await ask(callee.port, agent, next);
      } finally {
        agent.destroy();
      }
    },
    close: () => callee.close(),
  };
}

function ask(port: number, agent: Agent, { bytes, closes }: Said): Promise<NodeReading> {
  return new Promise((resolve) => {
    let isSettled = false;
    const settle = (reading: NodeReading) => {
      isSettled = true;
      resolve(reading);
    };
    const fail = () => settle({ end: 'error' });
    const request = get({ host: '127.0.0.1', port, agent, insecureHTTPParser: false }, (response) => {
      const parts: Buffer[] = [];
      response
        .on('data', (part: Buffer) => parts.push(part))
        .on('error', fail)
        .on('end', () =>
          settle({
            end: 'whole',
            status: response.statusCode as number,
            body: Buffer.concat(parts).toString('latin1'),
          }),
        );
    });
    request.on('error', fail).on('close', fail);
    if (closes) return;
    let turns = 0;
    const look = () => {
      if ((request.socket?.bytesRead ?? 0) >= bytes.length && request.socket?.connecting === false)
        turns += 1;
      if (turns > TURNS) settle({ end: 'waits' });
      else if (!isSettled) setImmediate(look);
    };
    look();
  });
}
