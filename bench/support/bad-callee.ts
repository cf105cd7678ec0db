/**
 * A callee that behaves badly, in a process of its own, and cheaply: what it sends is made once. How, the first part of a
 * call's path says; while it is told to behave, it answers every call by 200.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { constants, createBrotliCompress, createDeflate, createGzip, createZstdCompress } from 'node:zlib';
import { atExit } from './owned.ts';

export type BadBehaviour =
  /** Takes the call and says nothing. */
  | 'silent'
  /** Interim heads without end. */
  | 'heads'
  /** The same, but every fourth call is answered as it should be, so that no execution stops for want of answers. */
  | 'mostlyHeads'
  /** Chunks of one byte without end, each with an extension of 16 KB. */
  | 'extensions'
  /** Chunks of one byte without end. */
  | 'chunks'
  | Encoding;
/** A body of zeros that was compressed by a window as large as the encoding allows or decoders take. */
export type Encoding = 'gzip' | 'deflate' | 'br' | 'zstd';

type Order = 'misbehave' | 'behave' | 'tell';
type State = {
  /** Calls since it was told how to behave. */
  readonly calls: number;
  /** Connections on which it is misbehaving now. */
  readonly busy: number;
};

const START_MS = 20_000;
const LOOK_EVERY_MS = 10;

export class BadCallee implements AsyncDisposable {
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #forget: () => void;

  private constructor(child: ChildProcess, port: number, forget: () => void) {
    this.#child = child;
    this.url = `http://127.0.0.1:${port}`;
    this.#forget = forget;
  }

  static async start(): Promise<BadCallee> {
    const child = fork(import.meta.filename);
    const forget = atExit(() => child.kill('SIGKILL'));
    const [port] = (await once(child, 'message', { signal: AbortSignal.timeout(START_MS) })) as [number];
    return new BadCallee(child, port, forget);
  }

  get host(): string {
    return new URL(this.url).host;
  }

  async misbehave(): Promise<void> {
    await this.#ask('misbehave');
  }

  /** Calls that wait get an answer, floods are cut off. */
  async behave(): Promise<void> {
    await this.#ask('behave');
  }

  async state(): Promise<State> {
    return this.#ask('tell');
  }

  async untilCalled(count: number, withinMs: number): Promise<void> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const { calls } = await this.state();
      if (calls >= count) return;
      if (performance.now() > deadline) {
        throw new Error(`The neighbour's callee was called ${calls} times in ${withinMs} ms, not ${count}`);
      }
      await wait(LOOK_EVERY_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
    this.#forget();
  }

  async #ask(order: Order): Promise<State> {
    const answered = once(this.#child, 'message');
    this.#child.send(order);
    const [state] = (await answered) as [State];
    return state;
  }
}

const GOOD = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';
/** Handed to the kernel at once. */
const PORTION_BYTES = 64 * 1024;
/** A line with it is just short enough for readers that take 16 KiB. */
const EXTENSION_BYTES = 16_000;
/** Zeros in a body: several of the largest Brotli windows, and in gzip no more than comes over the wire in one go. */
const BODY_BYTES = 64 * 1024 * 1024;
/** Decoders refuse larger windows unless they are told otherwise (`ZSTD_WINDOWLOG_LIMIT_DEFAULT`). */
const ZSTD_WINDOW_LOG_MAX = 27;
const ZEROS = Buffer.alloc(1024 * 1024);

async function serve(): Promise<void> {
  const head = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
  const heads = repeated('HTTP/1.1 100 Continue\r\n\r\n');
  const floods = new Map<string, { readonly before: string; readonly portion: Buffer }>([
    ['heads', { before: '', portion: heads }],
    ['mostlyHeads', { before: '', portion: heads }],
    ['extensions', { before: head, portion: repeated(`1;${'x'.repeat(EXTENSION_BYTES)}\r\nx\r\n`) }],
    ['chunks', { before: head, portion: repeated('1\r\nx\r\n') }],
  ]);
  const answers = new Map<string, Buffer>();
  for (const encoding of ['gzip', 'deflate', 'br', 'zstd'] as const) {
    const body = await compressedZeros(encoding);
    const lines = `HTTP/1.1 200 OK\r\nContent-Encoding: ${encoding}\r\nContent-Length: ${body.length}\r\n\r\n`;
    answers.set(encoding, Buffer.concat([Buffer.from(lines), body]));
  }

  const silent = new Set<Socket>();
  const flooding = new Set<Socket>();
  let isGood = true;
  let calls = 0;

  function answer(socket: Socket, request: string): void {
    calls += 1;
    const behaviour = /^GET \/(\w+)\//.exec(request)?.[1] ?? '';
    const flood = floods.get(behaviour);
    if (isGood || (behaviour === 'mostlyHeads' && calls % 4 === 0)) socket.write(GOOD);
    else if (flood !== undefined) {
      flooding.add(socket);
      socket.write(flood.before);
      send(socket, flood.portion);
    } else if (behaviour === 'silent') silent.add(socket);
    else socket.write(answers.get(behaviour) ?? GOOD);
  }

  const server = createServer((socket) => {
    let text = '';
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      if (end === -1) return;
      const request = text;
      text = '';
      answer(socket, request);
    });
    socket.on('error', () => {});
    socket.once('close', () => {
      silent.delete(socket);
      flooding.delete(socket);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');

  process.on('message', (order: Order) => {
    if (order !== 'tell') {
      isGood = order === 'behave';
      calls = 0;
    }
    if (order === 'behave') {
      for (const socket of silent) socket.write(GOOD);
      silent.clear();
      for (const socket of flooding) socket.destroy();
    }
    process.send?.({ calls, busy: silent.size + flooding.size } satisfies State);
  });
  process.once('disconnect', () => process.exit(0));
  process.send?.((server.address() as { port: number }).port);
}

function send(socket: Socket, portion: Buffer): void {
  if (socket.destroyed) return;
  // One portion waits at most, so that whoever reads slowly costs no memory here.
  if (socket.write(portion)) setImmediate(send, socket, portion);
  else socket.once('drain', () => send(socket, portion));
}

function repeated(text: string): Buffer {
  return Buffer.from(text.repeat(Math.ceil(PORTION_BYTES / text.length)));
}

async function compressedZeros(encoding: Encoding): Promise<Buffer> {
  const stream = compressor(encoding);
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  const ended = once(stream, 'end');
  for (let bytes = 0; bytes < BODY_BYTES; bytes += ZEROS.length) {
    if (!stream.write(ZEROS)) await once(stream, 'drain');
  }
  stream.end();
  await ended;
  return Buffer.concat(chunks);
}

function compressor(encoding: Encoding) {
  switch (encoding) {
    case 'gzip':
      return createGzip({ windowBits: constants.Z_MAX_WINDOWBITS });
    case 'deflate':
      return createDeflate({ windowBits: constants.Z_MAX_WINDOWBITS });
    case 'br':
      return createBrotliCompress({
        params: { [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS },
      });
    case 'zstd':
      return createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: ZSTD_WINDOW_LOG_MAX } });
  }
}

if (import.meta.main) await serve();
