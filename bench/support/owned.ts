/**
 * Folders and processes of a benchmark. Whatever way it ends, they end with it: at the end of their scope (`using`), or when
 * the program exits by a failure, an interrupt or its deadline.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

const STOP_MS = 40_000;
const TMPFS = 0x01021994;

const cleanUps = new Set<() => void>();

process.once('exit', () => {
  for (const cleanUp of [...cleanUps].reverse()) cleanUp();
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));

/** Ends the program with code 1 after this time, so that nothing that hangs goes on for ever. */
export function endAfter(minutes: number): void {
  setTimeout(() => {
    console.error(`Given up after ${minutes} minutes.`);
    process.exit(1);
  }, minutes * 60_000).unref();
}

/** Runs when the program exits, however it does; what is returned takes that back. */
export function atExit(cleanUp: () => void): () => void {
  cleanUps.add(cleanUp);
  return () => cleanUps.delete(cleanUp);
}

/** A new folder. Databases in it are as durable as the disk below: in memory, `fsync` costs nothing and figures are void. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'orderhook-bench-'));
  readonly #remove = () => rmSync(this.path, { recursive: true, force: true });
  readonly #forget = atExit(this.#remove);

  constructor() {
    if (statfsSync(this.path).type === TMPFS) {
      console.warn(`${tmpdir()} is in memory, where nothing is durable: set TMPDIR to a folder on a disk.`);
    }
  }

  [Symbol.dispose](): void {
    this.#remove();
    this.#forget();
  }
}

/** A child process. What it says on standard error is ours to see. */
export class OwnProcess implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly #name: string;
  readonly #forget: () => void;
  readonly #ended: Promise<unknown>;

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.#name = command;
    this.child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'], ...options });
    this.#forget = atExit(() => this.child.kill('SIGKILL'));
    this.#ended = new Promise((resolve) => {
      this.child.once('exit', resolve);
      this.child.once('error', resolve);
    });
  }

  get pid(): number {
    return this.child.pid as number;
  }

  /** Waits for a condition; fails at once when the process ends before. */
  async until(what: string, condition: () => boolean | Promise<boolean>, withinMs = 20_000): Promise<void> {
    let isEnded = false;
    this.#ended.then(() => {
      isEnded = true;
    });
    const deadline = performance.now() + withinMs;
    while (!(await condition())) {
      if (isEnded) throw new Error(`${this.#name} ended before this: ${what}`);
      if (performance.now() > deadline) {
        throw new Error(`${this.#name} did not come to this in ${withinMs} ms: ${what}`);
      }
      await wait(5);
    }
  }

  async stop(): Promise<void> {
    const { child } = this;
    if (child.exitCode === null && child.signalCode === null && child.pid !== undefined) {
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
      child.kill('SIGTERM');
      await once(child, 'exit');
      clearTimeout(late);
    }
    this.#forget();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
