/**
 * NDJSON of orders, from a stream to the store, in constant memory: a batch is stored while the next one is read, and
 * the stream is not read further than that.
 *
 * A bad line rejects itself only. Batches are stored in the order of the lines, so when the store goes away in the middle,
 * everything up to a line is stored and nothing after it. Lines are looked at in turns (`WorkTurns`), good ones, bad ones and
 * blank ones alike.
 */
import { AppError } from '../model/app-error.ts';
import type { InstitutionId } from '../model/entities.ts';
import { scanJson } from '../model/json-scan.ts';
import { ORDER_BYTES_MAX } from '../model/limits.ts';
import {
  checkOrderDetails,
  checkScannedOrder,
  ORDER_SCAN,
  type OrderDetails,
  refusedOrder,
} from '../model/order.ts';
import type { OrderPut, Store } from '../store/store.ts';
import { Patience } from './import-patience.ts';
import { notUtf8, utf8Text } from './json-text.ts';
import { checkLargeOrder, LARGE_CHARACTERS, type Turn } from './large-text.ts';
import { type Line, LineSplitter } from './line-splitter.ts';
import type { WorkTurns } from './work-turns.ts';

export type RejectedLine = {
  /** From 1, blank lines included. */
  readonly line: number;
  readonly message: string;
};
export type ImportResult = {
  /** Lines that were not blank. */
  readonly received: number;
  readonly stored: number;
  readonly closed: number;
  /** The first of them. */
  readonly rejected: readonly RejectedLine[];
  readonly rejectedCount: number;
};

/** Of one commit. */
const BATCH_ORDERS_MAX = 500;
const BATCH_CHARACTERS_MAX = 1024 * 1024;
export const REJECTED_LINES_TOLD_MAX = 1_000;
/** A shorter text that is no JSON is found out by a walk much sooner than by the error of `JSON.parse`, which has a stack. */
const SCANNED_CHARACTERS_MAX = 256;

type Batch = { readonly puts: OrderPut[]; characters: number; lastLine: number };

/** @throws AppError `store_unavailable` or `request_too_slow`, whose messages say how much is stored */
export async function importOrders(
  chunks: AsyncIterable<Buffer>,
  given: {
    institutionId: InstitutionId;
    store: Pick<Store, 'putOrders'>;
    clock: () => number;
    turns: WorkTurns;
    /** For how long it waits for the end of a line that is not blank. */
    progressMs: number;
    /** Ends the import after the batch that is being stored. */
    stopping: AbortSignal;
  },
): Promise<ImportResult> {
  const { institutionId, turns, stopping } = given;
  const turn: Turn = { turns, key: institutionId };
  const rejected: RejectedLine[] = [];
  let [received, stored, closed, rejectedCount, lineNumber, storedUpTo] = [0, 0, 0, 0, 0, 0];
  let batch = emptyBatch();
  /** The commit under way; its failure is seen where it is awaited. */
  let commit: Promise<void> = Promise.resolve();

  /** Nothing, or the text of a line that is to be looked at in turns of its own. */
  function take(line: Line): string | undefined {
    lineNumber += 1;
    if (line === 'blank') return undefined;
    received += 1;
    batch.lastLine = lineNumber;
    if (line === 'too_long') reject(tooLong);
    // When no more lines are told, nobody asks what a line is that is no object.
    else if (rejectedCount >= REJECTED_LINES_TOLD_MAX && !looksLikeObject(line)) reject(notUtf8);
    else {
      const details = utf8Text(line);
      if (details === undefined) reject(notUtf8);
      else if (details.length >= LARGE_CHARACTERS) return details;
      else {
        const isTold = rejectedCount < REJECTED_LINES_TOLD_MAX;
        const order =
          isTold || details.length > SCANNED_CHARACTERS_MAX
            ? checkOrderDetails(details)
            : checkScannedOrder(scanJson(details, ORDER_SCAN), details);
        if (typeof order === 'string') reject(() => refusedOrder(order, details));
        else add(order);
      }
    }
    return undefined;
  }

  async function takeLarge(details: string): Promise<void> {
    const order = await checkLargeOrder(details, turn);
    if ('refusal' in order) reject(() => refusedOrder(order.refusal, details, order.position));
    else add(order);
  }

  function add(order: OrderDetails): void {
    batch.puts.push({ ...order, institutionId });
    batch.characters += order.details.length;
  }

  function reject(error: () => AppError): void {
    rejectedCount += 1;
    if (rejected.length < REJECTED_LINES_TOLD_MAX) {
      rejected.push({ line: lineNumber, message: error().message });
    }
  }

  async function store({ puts, lastLine }: Batch): Promise<void> {
    if (puts.length > 0) {
      const answers = await given.store.putOrders(puts, given.clock());
      stored += answers.length;
      for (const { closing } of answers) if (closing) closed += 1;
    }
    storedUpTo = Math.max(storedUpTo, lastLine);
  }

  async function storeBatch(): Promise<void> {
    await commit;
    commit = store(batch);
    commit.catch(() => {});
    batch = emptyBatch();
  }

  /** All the lines that have come. */
  async function takeAll(splitter: LineSplitter): Promise<void> {
    for (let isMore = true; isMore; ) {
      let large: string | undefined;
      isMore = await turns.run(institutionId, (isOver) => {
        do {
          const line = splitter.next();
          if (line === undefined) return false;
          large = take(line);
        } while (large === undefined && !isFull(batch) && !isOver());
        return true;
      });
      if (large !== undefined) await takeLarge(large);
      if (stopping.aborted) throw isStopping();
      if (isFull(batch)) await storeBatch();
    }
  }

  const patience = new Patience({ progressMs: given.progressMs, stopping, isStopping });
  const iterator = chunks[Symbol.asyncIterator]();
  try {
    const splitter = new LineSplitter(ORDER_BYTES_MAX);
    for (;;) {
      const chunk = await patience.wait(iterator.next());
      if (chunk.done) break;
      const before = received;
      splitter.push(chunk.value);
      await takeAll(splitter);
      if (received > before) patience.restart();
    }
    const line = splitter.end();
    const large = line && take(line);
    if (large !== undefined) await takeLarge(large);
    await storeBatch();
    await commit;
  } catch (error) {
    // Not awaited: it waits for the chunk that did not come.
    iterator.return?.().catch(() => {});
    // Settled before anybody is told how much is stored.
    await commit.catch(() => {});
    if (!(error instanceof AppError)) throw error;
    throw new AppError(
      error.code,
      `${error.message} Of the lines up to ${storedUpTo}, ${stored} orders are stored; of those after it, none. ` +
        'Importing the same lines again changes nothing that is stored.',
      { cause: error, ...(error.retryAfterSeconds ? { retryAfterSeconds: error.retryAfterSeconds } : {}) },
    );
  } finally {
    patience.end();
  }
  return { received, stored, closed, rejected, rejectedCount };
}

function emptyBatch(): Batch {
  return { puts: [], characters: 0, lastLine: 0 };
}

function isFull(batch: Batch): boolean {
  return batch.puts.length >= BATCH_ORDERS_MAX || batch.characters >= BATCH_CHARACTERS_MAX;
}

function isStopping(): AppError {
  return new AppError('store_unavailable', 'The service is stopping.');
}

function tooLong(): AppError {
  return new AppError('body_too_large', `The line is longer than ${ORDER_BYTES_MAX} bytes.`);
}

const BYTE_ORDER_MARK_START = 0xef;

/** Whether it begins and ends as an object does, or has a byte order mark; without making anything of it. */
function looksLikeObject(line: Buffer): boolean {
  let start = 0;
  while (isBlank(line[start])) start += 1;
  if (line[start] === BYTE_ORDER_MARK_START) return true;
  let end = line.length - 1;
  while (isBlank(line[end])) end -= 1;
  return line[start] === 0x7b && line[end] === 0x7d;
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0d;
}
