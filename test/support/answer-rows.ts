/** Answers as data (`test/data/answers.json`), and what the reader makes of bytes, wherever they are cut. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type AnswerHead, ProtocolError } from '../../src/caller/answer-head.ts';
import { AnswerReader, type KnownHead, noKnownHead } from '../../src/caller/answer-reader.ts';

/** One character a byte. A part with a number is repeated so many times. */
export type Notation = string | readonly (string | readonly [text: string, times: number])[];

export type Expected =
  /** It is whole. `beyond`: bytes that are left behind it. `headers`: some of those that it has. */
  | {
      readonly status: number;
      readonly body: Notation;
      readonly keepsAlive: boolean;
      readonly beyond?: number;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** It is refused at its last byte. What came of it before is told by its status and body. */
  | { readonly protocol: string; readonly status?: number; readonly body?: Notation }
  /** It is not whole yet. */
  | { readonly waits: true; readonly status?: number; readonly body?: Notation }
  /** More came than is read. */
  | { readonly enough: true; readonly status: number; readonly bodyBytes: number };

export type AnswerRow = {
  readonly what: string;
  readonly bytes: Notation;
  /** The callee ends the connection behind these bytes. */
  readonly closes?: true;
  readonly expect: Expected;
  /** Where it is written: sections of RFC 9112 and RFC 9110, or the contract. */
  readonly why: string;
  /** Why Node's own client makes something else of it. */
  readonly nodeDiffers?: string;
};

export type AnswerGroup = { readonly title: string; readonly rows: readonly AnswerRow[] };

export function readAnswerGroups(): readonly AnswerGroup[] {
  return JSON.parse(readFileSync(join(import.meta.dirname, '../data/answers.json'), 'utf8')).groups;
}

export function bytesOf(notation: Notation): Buffer {
  const parts = typeof notation === 'string' ? [notation] : notation;
  return Buffer.from(
    parts.map((part) => (typeof part === 'string' ? part : part[0].repeat(part[1]))).join(''),
    'latin1',
  );
}

export type ReadResult = {
  head: AnswerHead | undefined;
  body: Buffer;
  end: 'whole' | 'waits' | 'until_close' | 'enough' | 'protocol';
  /** Without what is quoted behind it: that depends on what came together. */
  refusal: string | undefined;
  /** How long the connection may be kept, by 1,000 ms at most. */
  idleMs: number;
  /** Whether bytes were left behind the answer. */
  hasBeyond: boolean;
  /** The end of the piece with which the answer was over, or refused. */
  overAt: number | undefined;
  sinkCalls: number;
  heldBytesMax: number;
};

/** Lies behind each piece while it is read. It is no part of it, and must not be looked at or changed. */
const FILL = Buffer.from('HTTP/1.1 200 spare\r\n\r\n');
/** Where pieces lie while they are read. */
const piece = Buffer.alloc(1024 * 1024);

/**
 * Reads `bytes` in the pieces that end at `cuts`, as sockets hand them out: each is overwritten after it was read.
 * @param cuts ascending
 * @param answerEnd where the answer is known to end: what is behind it must not be changed
 */
export function readAnswer(
  bytes: Buffer,
  cuts: Iterable<number> = [],
  { known = noKnownHead(), answerEnd = bytes.length }: { known?: KnownHead; answerEnd?: number } = {},
): ReadResult {
  const reader = new AnswerReader(known);
  const parts: Buffer[] = [];
  const result: ReadResult = {
    head: undefined,
    body: Buffer.alloc(0),
    end: 'waits',
    refusal: undefined,
    idleMs: 0,
    hasBeyond: false,
    overAt: undefined,
    sinkCalls: 0,
    heldBytesMax: 0,
  };
  const sink = {
    onHead(head: AnswerHead) {
      assert.equal(result.head, undefined, 'a second head was told');
      result.sinkCalls += 1;
      result.head = head;
    },
    onBody(part: Buffer) {
      assert.ok(result.head !== undefined, 'a body before its head');
      assert.ok(part.length > 0, 'a part of a body without bytes');
      result.sinkCalls += 1;
      parts.push(Buffer.from(part));
    },
    onEnough() {
      assert.notEqual(result.end, 'enough', 'told twice that it is enough');
      assert.ok(reader.isOver);
      result.sinkCalls += 1;
      result.end = 'enough';
    },
  };
  reader.begin();
  let from = 0;
  let readTo = 0;
  let lengthBefore = -1;
  const feed = (to: number) => {
    const length = to - from;
    if (length === 1) piece[0] = bytes[from] as number;
    else piece.set(bytes.subarray(from, to));
    if (length !== lengthBefore) piece.set(FILL, length);
    lengthBefore = length;
    readTo = to;
    const wasOver = reader.isOver;
    const isAll = reader.read(piece, length, sink);
    result.hasBeyond ||= !isAll;
    result.heldBytesMax = Math.max(result.heldBytesMax, reader.heldBytes);
    if (reader.isOver) result.overAt ??= to;
    if (wasOver && isAll && length > 0) assert.fail('read on behind the end');
    const untouched = Math.max(from, answerEnd);
    if (untouched < to && bytes.compare(piece, untouched - from, length, untouched, to) !== 0)
      assert.fail('changed what is behind the end');
    if (piece.compare(FILL, 0, FILL.length, length, length + FILL.length) !== 0)
      assert.fail('changed what it was not given');
    from = to;
  };
  try {
    for (const cut of cuts) feed(cut);
    feed(bytes.length);
    if (reader.endsWithConnection) result.end = 'until_close';
    else if (reader.isOver && result.end !== 'enough') result.end = 'whole';
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    result.end = 'protocol';
    result.overAt = readTo;
    result.refusal = error.message.split(': "')[0];
  }
  result.idleMs = reader.isOver && result.end !== 'protocol' ? reader.idleMs(1_000) : 0;
  result.body = Buffer.concat(parts);
  return result;
}

/** What must be the same wherever the bytes are cut. */
export function readingOf({ head, body, end, refusal, idleMs, hasBeyond }: ReadResult) {
  return { head, body: body.toString('latin1'), end, refusal, idleMs, hasBeyond };
}

export function* everyByte(length: number): Generator<number> {
  for (let at = 1; at < length; at += 1) yield at;
}
