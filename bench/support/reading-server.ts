/** The ceiling of all that takes orders in: a server of its own process that reads every body and answers 200, nothing more. */
import { createServer } from 'node:http';
import { join } from 'node:path';
import { freePort } from '../../test/support/postgres-server.ts';
import { OwnProcess } from './owned.ts';

export class ReadingServer implements AsyncDisposable {
  readonly address: string;
  readonly #process: OwnProcess;

  private constructor(process: OwnProcess, address: string) {
    this.#process = process;
    this.address = address;
  }

  static async start(): Promise<ReadingServer> {
    const port = await freePort();
    const address = `http://127.0.0.1:${port}`;
    const child = new OwnProcess(process.execPath, [
      join(import.meta.dirname, 'reading-server.ts'),
      String(port),
    ]);
    try {
      await child.until('it answers', async () => (await fetch(address).catch(() => undefined))?.ok === true);
      return new ReadingServer(child, address);
    } catch (error) {
      await child.stop();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
  }
}

if (import.meta.main) {
  createServer({ requestTimeout: 0 }, (request, response) => {
    request.resume();
    request.once('end', () => response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}'));
  }).listen(Number(process.argv[2]), '127.0.0.1');
}
