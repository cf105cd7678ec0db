/**
 * NDJSON of orders, from a stream to the store, in constant memory: a batch is stored while the next one is read, and
 * the stream is not read further than that.
 *
 * A bad line rejects itself only. Batches are stored in the order of the lines, so when the store goes away in the middle,
 * everything up to a line is stored and nothing after it.
 */
import { AppError } from '../model/app-error.ts';
import type { InstitutionId } from '../model/entities.ts';
import { ORDER_BYTES_MAX } from '../model/limits.ts';
import { readOrderDetails } from '../model/order.ts';
import type { OrderPut, Store } from '../store/store.ts';
import { readUtf8, refuseEndlessNesting } from './json-text.ts';
import { type Line, LineSplitter } from './line-splitter.ts';

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

type Batch = { readonly puts: OrderPut[]; characters: number; lastLine: number };

/** @throws AppError `store_unavailable`, whose message says how much is stored */
export async function importOrders(
  chunks: AsyncIterable<Buffer>,
  given: {
    institutionId: InstitutionId;
    store: Pick<Store, 'putOrders'>;
    clock: () => number;
    /** Ends the import after the batch that is being stored. */
    stopping: AbortSignal;
  },
): Promise<ImportResult> {
  const rejected: RejectedLine[] = [];
  let [received, stored, closed, rejectedCount, lineNumber, storedUpTo] = [0, 0, 0, 0, 0, 0];
  let batch = emptyBatch();
  /** The commit under way; its failure is seen where it is awaited. */
  let commit: Promise<void> = Promise.resolve();

  function take(line: Line): void {
    lineNumber += 1;
    if (isBlank(line)) return;
    received += 1;
    try {
      const details = readUtf8(withinLimit(line));
      const order = refuseEndlessNesting(() => readOrderDetails(details));
      batch.puts.push({ ...order, institutionId: given.institutionId });
      batch.characters += details.length;
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      rejectedCount += 1;
      if (rejected.length < REJECTED_LINES_TOLD_MAX) {
        rejected.push({ line: lineNumber, message: error.message });
      }
    }
    batch.lastLine = lineNumber;
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
    if (given.stopping.aborted) throw new AppError('store_unavailable', 'The service is stopping.');
    commit = store(batch);
    commit.catch(() => {});
    batch = emptyBatch();
  }

  async function takeAll(lines: Iterable<Line>): Promise<void> {
    for (const line of lines) {
      take(line);
      if (batch.puts.length >= BATCH_ORDERS_MAX || batch.characters >= BATCH_CHARACTERS_MAX)
        await storeBatch();
    }
  }

  try {
    const splitter = new LineSplitter(ORDER_BYTES_MAX);
    for await (const chunk of chunks) await takeAll(splitter.split(chunk));
    await takeAll(splitter.end());
    await storeBatch();
    await commit;
  } catch (error) {
    // Settled before anybody is told how much is stored.
    await commit.catch(() => {});
    if (!(error instanceof AppError) || error.code !== 'store_unavailable') throw error;
    throw new AppError(
      'store_unavailable',
      `${error.message} Of the lines up to ${storedUpTo}, ${stored} orders are stored; of those after it, none. ` +
        'Importing the same lines again changes nothing that is stored.',
      { cause: error, ...(error.retryAfterSeconds ? { retryAfterSeconds: error.retryAfterSeconds } : {}) },
    );
  }
  return { received, stored, closed, rejected, rejectedCount };
}

function emptyBatch(): Batch {
  return { puts: [], characters: 0, lastLine: 0 };
}

function withinLimit(line: Line): Buffer {
  if (line !== 'too_long') return line;
  throw new AppError('body_too_large', `The line is longer than ${ORDER_BYTES_MAX} bytes.`);
}

/** Blanks of JSON only (RFC 8259, section 2). */
function isBlank(line: Line): boolean {
  if (line === 'too_long') return false;
  for (const byte of line) if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0d) return false;
  return true;
}
