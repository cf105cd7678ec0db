/**
 * A file of the system's, read and kept until it changes. Whether it changed is looked at once a second at most, when
 * somebody asks: no timer, no watcher (those lose a file that is replaced by a rename, as editors and containers do).
 *
 * The look is one `stat` made in place, some microseconds: libuv's threads may be busy with work of others, and no name
 * may wait for that. The file itself, which may be large, is read by them; only whoever asks after a change waits for it.
 */
import { statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Clock } from '../model/clock.ts';

const LOOK_AGAIN_MS = 1_000;
/** A file that is not there, or not for us, says nothing. All other errors are trouble that passes. */
const MISSING_CODES = new Set(['ENOENT', 'ENOTDIR', 'EISDIR', 'EACCES', 'EPERM']);

export type WatchedFileParts<T> = {
  readonly path: string;
  /** Whole lines beyond this are not read. */
  readonly bytesMax: number;
  /** What is said by a file with this text, which is empty for a file that is missing. */
  readonly parse: (text: string) => T | Promise<T>;
  /** Called after another version was read, not after the first one. */
  readonly onChange: () => void;
  readonly clock: Pick<Clock, 'now'>;
};

export class WatchedFile<T> {
  readonly #parts: WatchedFileParts<T>;
  #kept: { readonly version: string; readonly value: T } | undefined;
  #reading: Promise<T> | undefined;
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(parts: WatchedFileParts<T>) {
    this.#parts = parts;
  }

  /** What the file says, at most a second old. @throws the system's error when it could never be read for want of means */
  async current(): Promise<T> {
    if (this.#reading !== undefined) return this.#reading;
    const now = this.#parts.clock.now();
    if (this.#kept !== undefined && now - this.#lookedAt < LOOK_AGAIN_MS) return this.#kept.value;
    this.#lookedAt = now;
    const version = versionOf(this.#parts.path);
    if (this.#kept?.version === version) return this.#kept.value;
    this.#reading = this.#read(version).finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(version: string): Promise<T> {
    const { path, bytesMax, parse, onChange } = this.#parts;
    const before = this.#kept;
    try {
      const value = await parse(version === MISSING ? '' : await readStart(path, bytesMax));
      this.#kept = { version, value };
    } catch (error) {
      // What was known is better than nothing, and the next look tries again.
      if (before === undefined) throw error;
      return before.value;
    }
    if (before !== undefined) onChange();
    return this.#kept.value;
  }
}

const MISSING = 'missing';

/** Two versions that are equal are of the same file with the same content. */
function versionOf(path: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch {
    return MISSING;
  }
}

/** Whole lines of a file, `bytesMax` at most. */
async function readStart(path: string, bytesMax: number): Promise<string> {
  try {
    await using file = await open(path);
    // One byte more than may be read shows that there is more.
    const { size } = await file.stat();
    const buffer = Buffer.alloc(Math.min(size, bytesMax) + 1);
    let length = 0;
    while (length < buffer.length) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length);
      if (bytesRead === 0) return buffer.toString('utf8', 0, length);
      length += bytesRead;
    }
    const lastLineEnd = buffer.lastIndexOf(0x0a, bytesMax);
    return buffer.toString('utf8', 0, lastLineEnd + 1);
  } catch (error) {
    if (MISSING_CODES.has((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}
