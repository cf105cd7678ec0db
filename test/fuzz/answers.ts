/**
 * Gives the reader of answers what no row of `test/data/answers.json` says: rows that are bent, cut, spliced and repeated.
 *
 *     node test/fuzz/answers.ts [--seconds 60] [--seed N]
 *
 * Whatever comes, the reader refuses it or reads it, and does so the same way wherever it is cut; it keeps to its limits, and never
 * touches what is behind an answer. The first input that shows otherwise is printed as JSON, and the program ends with code 1.
 */
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { noKnownHead } from '../../src/caller/answer-reader.ts';
import { ANSWER_HEAD_BYTES_MAX, ANSWER_WIRE_BYTES_MAX } from '../../src/model/limits.ts';
import {
  bytesOf,
  everyByte,
  type ReadResult,
  readAnswer,
  readAnswerGroups,
  readingOf,
} from '../support/answer-rows.ts';
import { SeededRandom } from '../support/crash-random.ts';

const SECONDS_DEFAULT = 60;
/** Longer inputs are rare, because they take long. */
const SHORT_BYTES_MAX = 2_000;
const LONG_SHARE = 0.01;
/** Over every limit, and within what `readAnswer` takes. */
const INPUT_BYTES_MAX = 300 * 1024;
/** Whoever needs longer for one input does not end. */
const HANG_MS = 20_000;
/** One look at an input hands on a head, a part of a body, and that it is enough. */
const SINK_CALLS_PER_PIECE_MAX = 3;

const ROWS = readAnswerGroups().flatMap(({ rows }) => rows.map(({ bytes }) => bytesOf(bytes)));
const SHORT_ROWS = ROWS.filter((row) => row.length <= SHORT_BYTES_MAX);
const LONG_ROWS = ROWS.filter((row) => row.length > SHORT_BYTES_MAX);

/** What the reader has an opinion on. */
const WORDS = [
  ...[
    '\r\n',
    '\n',
    '\r',
    '\r\n\r\n',
    ' ',
    '\t',
    '\0',
    '\x0b',
    '\xa0',
    '\x7f',
    ':',
    ';',
    ',',
    '0',
    '1',
    'f',
    'g',
    '-',
    '"',
  ],
  ...[
    'HTTP/1.1 200 OK\r\n',
    'HTTP/1.0 ',
    'HTTP/1.1 100 Continue\r\n\r\n',
    '204',
    '304',
    '101',
    '0\r\n\r\n',
    '1\r\nx\r\n',
  ],
  ...[
    'Content-Length: 2\r\n',
    'Content-Length: 0',
    'Transfer-Encoding: chunked\r\n',
    'chunked',
    'identity',
    'gzip, ',
  ],
  ...[
    'Connection: close\r\n',
    'Connection: keep-alive\r\n',
    '__proto__: y\r\n',
    'ffffffffffff',
    '00000000',
    '99999999',
  ],
].map((word) => Buffer.from(word, 'latin1'));

type Input = { readonly bytes: Buffer; readonly cuts: readonly number[] };

function main(): boolean {
  const { values } = parseArgs({ options: { seconds: { type: 'string' }, seed: { type: 'string' } } });
  const seconds = Number(values.seconds ?? SECONDS_DEFAULT);
  const seed = Number(values.seed ?? Math.floor(Math.random() * 1_000_000_000));
  if (!Number.isFinite(seconds) || !Number.isSafeInteger(seed))
    throw new Error('--seconds and --seed take numbers.');
  console.log(`Seed ${seed}; the same again: npm run fuzz:answers -- --seconds ${seconds} --seed ${seed}`);
  const random = new SeededRandom(seed);
  const watched = watch();
  const until = performance.now() + seconds * 1_000;
  const ends: Record<ReadResult['end'], number> = {
    whole: 0,
    waits: 0,
    until_close: 0,
    enough: 0,
    protocol: 0,
  };
  let passed = 0;
  let bytesRead = 0;
  while (performance.now() < until) {
    const input = makeInput(random);
    watched(input);
    try {
      ends[check(input, random)] += 1;
    } catch (error) {
      console.error(error);
      console.log(describe(input));
      console.log(`${passed} passed, 1 failed`);
      return false;
    }
    passed += 1;
    bytesRead += input.bytes.length;
  }
  console.log(
    Object.entries(ends)
      .map(([end, count]) => `${end} ${count}`)
      .join(', '),
    `of ${bytesRead} bytes`,
  );
  console.log(`${passed} passed, 0 failed`);
  return true;
}

function describe({ bytes, cuts }: Input): string {
  return JSON.stringify({ bytes: bytes.toString('latin1'), cuts });
}

function makeInput(random: SeededRandom): Input {
  const isLong = random.isTrue(LONG_SHARE);
  let bytes = random.pick(isLong ? LONG_ROWS : SHORT_ROWS);
  for (let left = random.integer(0, 4); left > 0; left -= 1) bytes = bend(bytes, random, isLong);
  bytes = bytes.subarray(0, isLong ? INPUT_BYTES_MAX : 2 * SHORT_BYTES_MAX);
  return { bytes, cuts: makeCuts(bytes, random) };
}

function makeCuts({ length }: Buffer, random: SeededRandom): number[] {
  const cuts = Array.from({ length: random.integer(0, 8) }, () => random.integer(0, length));
  return cuts.sort((a, b) => a - b);
}

function bend(bytes: Buffer, random: SeededRandom, isLong: boolean): Buffer {
  const at = random.integer(0, bytes.length);
  const end = Math.min(bytes.length, at + random.integer(1, random.isTrue(0.8) ? 8 : 400));
  const before = bytes.subarray(0, at);
  const part = bytes.subarray(at, end);
  const behind = bytes.subarray(end);
  switch (random.integer(0, 6)) {
    case 0: {
      const bent = Buffer.from(bytes);
      if (at < bent.length) bent[at] = (bent[at] as number) ^ (1 << random.integer(0, 7));
      return bent;
    }
    case 1: {
      const bent = Buffer.from(bytes);
      if (at < bent.length) bent[at] = random.integer(0, 255);
      return bent;
    }
    case 2:
      return Buffer.concat([before, random.pick(WORDS), part, behind]);
    case 3:
      return Buffer.concat([before, random.pick(WORDS), behind]);
    case 4:
      return Buffer.concat([before, behind]);
    case 5: {
      const other = random.pick(isLong && random.isTrue(0.5) ? LONG_ROWS : SHORT_ROWS);
      return Buffer.concat([before, other.subarray(random.integer(0, other.length))]);
    }
    default: {
      const room = (isLong ? INPUT_BYTES_MAX : SHORT_BYTES_MAX) / Math.max(1, part.length);
      const times = random.integer(
        1,
        Math.max(1, Math.floor(random.isTrue(0.8) ? Math.min(room, 20) : room)),
      );
      return Buffer.concat([before, ...Array.from({ length: times }, () => part), behind]);
    }
  }
}

/** @throws Error (of any kind) for a promise that is broken */
function check({ bytes, cuts }: Input, random: SeededRandom): ReadResult['end'] {
  const isShort = bytes.length <= 2 * SHORT_BYTES_MAX;
  const slowly = isShort
    ? [...everyByte(bytes.length)]
    : [...everyByte(bytes.length)].filter((at) => at % 61 === 0);
  const slow = readAnswer(bytes, slowly);
  assertLimits(slow, bytes.length, slowly.length + 1);
  const isOver = slow.overAt !== undefined && slow.end !== 'protocol';
  const answerEnd = isOver && isShort ? slow.overAt : bytes.length;
  const options = answerEnd === undefined ? {} : { answerEnd };
  const known = noKnownHead();
  for (const pieces of [[], cuts, makeCuts(bytes, random)]) {
    const result = readAnswer(bytes, pieces, options);
    assertLimits(result, bytes.length, pieces.length + 1);
    assert.deepEqual(readingOf(result), readingOf(slow), `cut at ${JSON.stringify(pieces)}`);
    // The second time its head is known.
    assert.deepEqual(readingOf(readAnswer(bytes, pieces, { ...options, known })), readingOf(slow), 'known');
  }
  if (isOver && isShort) {
    const alone = readAnswer(bytes.subarray(0, slow.overAt));
    const { hasBeyond: _, ...reading } = readingOf(slow);
    const { hasBeyond, ...readingAlone } = readingOf(alone);
    // A byte too many is what makes it enough, and is not read.
    if (slow.end === 'whole') {
      assert.deepEqual(readingAlone, reading, 'without what is behind it');
      assert.equal(hasBeyond, false);
      assert.equal(readAnswer(bytes.subarray(0, (slow.overAt ?? 0) - 1)).end, 'waits', 'over too late');
    }
  }
  assertSound(slow);
  return slow.end;
}

function assertLimits(
  { end, overAt, sinkCalls, heldBytesMax, body, head }: ReadResult,
  length: number,
  pieces: number,
) {
  assert.ok(heldBytesMax <= ANSWER_HEAD_BYTES_MAX, `${heldBytesMax} bytes are held`);
  assert.ok(sinkCalls <= SINK_CALLS_PER_PIECE_MAX * pieces, `${sinkCalls} calls for ${pieces} pieces`);
  assert.ok(body.length <= Math.min(length, ANSWER_WIRE_BYTES_MAX), 'more body than was read');
  if (end === 'enough') assert.ok(length > ANSWER_WIRE_BYTES_MAX, 'enough too early');
  if (overAt !== undefined) return;
  assert.ok(length <= ANSWER_WIRE_BYTES_MAX, 'read over the limit of an answer');
  if (head === undefined) assert.ok(length <= ANSWER_HEAD_BYTES_MAX, 'read over the limit of a head');
}

/** What everybody behind the reader relies on. */
function assertSound({ head, end, idleMs, body }: ReadResult): void {
  if (end === 'whole' || end === 'enough' || end === 'until_close') assert.ok(head !== undefined);
  if (end !== 'whole') assert.equal(idleMs, 0);
  if (head === undefined) return;
  const { answer, framing } = head;
  assert.ok(answer.status >= 200 && answer.status <= 999, `status ${answer.status}`);
  for (const name in answer.headers) {
    assert.match(name, /^[!#$%&'*+.^_`|~0-9a-z-]+$/);
    assert.match(answer.headers[name] ?? '', /^(?![ \t])[^\0-\x08\n-\x1f\x7f]*$/);
    // A header that came again without a value ends in a comma and a space.
    assert.doesNotMatch(answer.headers[name] ?? '', /(?:^|[^,])[ \t]$/);
  }
  if (framing.kind === 'none') assert.equal(body.length, 0);
  if (framing.kind === 'length') {
    assert.ok(Number.isSafeInteger(framing.bytes) && framing.bytes > 0);
    if (end === 'whole') assert.equal(body.length, framing.bytes);
  }
}

/**
 * Ends the program, and prints the input, when one takes so long that it will not end. Another thread looks, because a loop
 * without end leaves this one no turn.
 */
function watch(): (input: Input) => void {
  const shared = new SharedArrayBuffer(8 + INPUT_BYTES_MAX);
  const numbers = new Int32Array(shared, 0, 2);
  const room = Buffer.from(shared, 8);
  const worker = new Worker(
    `const { workerData: { shared, hangMs } } = require('node:worker_threads');
     const numbers = new Int32Array(shared, 0, 2);
     let seen = -1;
     setInterval(() => {
       if (numbers[0] !== seen) { seen = numbers[0]; return; }
       const bytes = Buffer.from(Buffer.from(shared, 8, numbers[1])).toString('latin1');
       require('node:fs').writeSync(1, JSON.stringify({ bytes }) + '\\nIt does not end.\\n0 passed, 1 failed\\n');
       process.kill(process.pid, 'SIGKILL');
     }, hangMs);`,
    { eval: true, workerData: { shared, hangMs: HANG_MS } },
  );
  worker.unref();
  return ({ bytes }) => {
    bytes.copy(room);
    numbers[1] = bytes.length;
    Atomics.add(numbers, 0, 1);
  };
}

process.exitCode = main() ? 0 : 1;
