/**
 * Decodes the start of a body in gzip, zlib or bare deflate (RFC 1952, 1950, 1951), of which the call log keeps a kilobyte.
 * Pure.
 *
 * zlib decodes in a thread, later, and gives out nothing before it has a window of 32 KiB for each body. This decodes at
 * once, needs no memory but what is kept, and does a bounded amount of work whatever it is given. It promises what zlib
 * would make of the same bytes as far as they go; it checks no checksums, because what they are for comes behind the start.
 */

export type InflatedStart = {
  /** The first decoded bytes, at most as many as were asked for. */
  readonly kept: Buffer;
  /** Decoded bytes, as far as they were counted. */
  readonly bytes: number;
  /** The encoded bytes are not of this encoding, from some place on. */
  readonly isBroken: boolean;
};

export type InflateLimits = {
  /** Decoded bytes that are kept. */
  readonly keptMax: number;
  /** With one decoded byte more it is over. */
  readonly bytesMax: number;
};

/** A block may begin with tables that take longer to read than what follows them; an honest start has one or two. */
const BLOCKS_MAX = 64;
const GZIP_ID = 0x1f8b;
const DEFLATED = 8;

/** `encoded` may be cut anywhere. */
export function gunzipStart(encoded: Buffer, limits: InflateLimits): InflatedStart {
  return new Inflater(encoded, limits).run('gzip');
}

/** Callees that say `deflate` send zlib's format, as the standard says, or the bare one; the first byte tells which. */
export function inflateStart(encoded: Buffer, limits: InflateLimits): InflatedStart {
  return new Inflater(encoded, limits).run(((encoded[0] ?? 0) & 0x0f) === DEFLATED ? 'zlib' : 'bare');
}

/** Carries the end of the work through the levels of it. */
class Stop extends Error {
  readonly isBroken: boolean;

  constructor(isBroken: boolean) {
    super('stop');
    this.isBroken = isBroken;
  }
}

const CUT = new Stop(false);
const BROKEN = new Stop(true);

/** A canonical Huffman code: how many symbols have each length, and the symbols in the order of their codes. */
type Code = { readonly counts: Uint16Array; readonly symbols: Uint16Array };

const CODE_BITS_MAX = 15;
const LENGTH_BASES = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
  227, 258,
];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASES = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097,
  6145, 8193, 12289, 16385, 24577,
];
/** The order in which the lengths of the code of code lengths are written. */
const CODE_LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const END_OF_BLOCK = 256;

const FIXED_LENGTHS = Uint8Array.from({ length: 288 }, (_, symbol) =>
  symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8,
);
const FIXED_LITERALS = codeOf(FIXED_LENGTHS);
// The last two are written by nobody and mean nothing (RFC 1951, 3.2.6).
const FIXED_DISTANCES = codeOf(new Uint8Array(32).fill(5));

class Inflater {
  readonly #encoded: Buffer;
  readonly #limits: InflateLimits;
  readonly #kept: Buffer;
  #at = 0;
  /** Bits of bytes that are read already, the next one lowest. */
  #bits = 0;
  #bitCount = 0;
  #bytes = 0;
  /** Where the window of this stream begins in what was decoded. */
  #windowStart = 0;
  #blocks = 0;

  constructor(encoded: Buffer, limits: InflateLimits) {
    this.#encoded = encoded;
    this.#limits = limits;
    this.#kept = Buffer.allocUnsafe(limits.keptMax);
  }

  run(format: 'gzip' | 'zlib' | 'bare'): InflatedStart {
    let isBroken = false;
    try {
      if (format === 'gzip') this.#gzip();
      else {
        if (format === 'zlib') this.#zlibHead();
        this.#blocksOfOneStream();
      }
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      isBroken = error.isBroken;
    }
    const kept = this.#kept.subarray(0, Math.min(this.#bytes, this.#limits.keptMax));
    return { kept, bytes: this.#bytes, isBroken };
  }

  /** Members, one behind the other; what is behind the last and is none is nobody's. */
  #gzip(): void {
    for (let member = 0; ; member++) {
      const left = this.#encoded.length - this.#at;
      if (left === 0) return;
      const id = left === 1 ? (this.#encoded[this.#at] as number) << 8 : this.#encoded.readUInt16BE(this.#at);
      if (left === 1 ? id !== (GZIP_ID & 0xff00) : id !== GZIP_ID) {
        if (member > 0) return;
        throw BROKEN;
      }
      this.#gzipHead();
      this.#windowStart = this.#bytes;
      this.#blocksOfOneStream();
      // Checksum and length.
      this.#skip(8);
    }
  }

  #gzipHead(): void {
    this.#skip(2);
    if (this.#byte() !== DEFLATED) throw BROKEN;
    const flags = this.#byte();
    if ((flags & 0xe0) !== 0) throw BROKEN;
    this.#skip(6);
    if ((flags & 4) !== 0) this.#skip(this.#byte() | (this.#byte() << 8));
    for (const flag of [8, 16]) {
      if ((flags & flag) === 0) continue;
      while (this.#byte() !== 0);
    }
    if ((flags & 2) !== 0) this.#skip(2);
  }

  #zlibHead(): void {
    const [first, second] = [this.#byte(), this.#byte()];
    const isKnown = first >> 4 <= 7 && ((first << 8) | second) % 31 === 0 && (second & 0x20) === 0;
    if (!isKnown) throw BROKEN;
  }

  #blocksOfOneStream(): void {
    this.#bits = 0;
    this.#bitCount = 0;
    for (let isLast = false; !isLast; ) {
      this.#blocks += 1;
      if (this.#blocks > BLOCKS_MAX) throw CUT;
      isLast = this.#take(1) === 1;
      switch (this.#take(2)) {
        case 0:
          this.#stored();
          break;
        case 1:
          this.#compressed(FIXED_LITERALS, FIXED_DISTANCES);
          break;
        case 2:
          this.#compressed(...this.#codes());
          break;
        default:
          throw BROKEN;
      }
    }
  }

  #stored(): void {
    this.#bits = 0;
    this.#bitCount = 0;
    const length = this.#byte() | (this.#byte() << 8);
    if (((this.#byte() | (this.#byte() << 8)) ^ 0xffff) !== length) throw BROKEN;
    const end = Math.min(this.#at + length, this.#encoded.length);
    const wanted = Math.max(0, this.#limits.keptMax - this.#bytes);
    this.#encoded.copy(this.#kept, this.#bytes, this.#at, Math.min(end, this.#at + wanted));
    this.#count(end - this.#at);
    if (end - this.#at < length) throw CUT;
    this.#at = end;
  }

  #compressed(literals: Code, distances: Code): void {
    const { keptMax } = this.#limits;
    for (;;) {
      const symbol = this.#symbol(literals);
      if (symbol < END_OF_BLOCK) {
        if (this.#bytes < keptMax) this.#kept[this.#bytes] = symbol;
        this.#count(1);
        continue;
      }
      if (symbol === END_OF_BLOCK) return;
      const place = symbol - END_OF_BLOCK - 1;
      const base = LENGTH_BASES[place];
      if (base === undefined) throw BROKEN;
      const length = base + this.#take(LENGTH_BITS[place] as number);
      const distancePlace = this.#symbol(distances);
      const distanceBase = DISTANCE_BASES[distancePlace];
      if (distanceBase === undefined) throw BROKEN;
      const distance = distanceBase + this.#take(Math.max(0, (distancePlace >> 1) - 1));
      if (distance > this.#bytes - this.#windowStart) throw BROKEN;
      // Behind what is kept only the length counts: all that is copied into it comes from it.
      const end = Math.min(this.#bytes + length, keptMax);
      for (let to = this.#bytes; to < end; to++) this.#kept[to] = this.#kept[to - distance] as number;
      this.#count(length);
    }
  }

  /** The codes of a block that brings its own (RFC 1951, 3.2.7). */
  #codes(): [literals: Code, distances: Code] {
    const literalCount = this.#take(5) + 257;
    const distanceCount = this.#take(5) + 1;
    const lengthCount = this.#take(4) + 4;
    if (literalCount > 286 || distanceCount > 30) throw BROKEN;
    const lengths = new Uint8Array(literalCount + distanceCount);
    const own = new Uint8Array(CODE_LENGTH_ORDER.length);
    for (const symbol of CODE_LENGTH_ORDER.slice(0, lengthCount)) own[symbol] = this.#take(3);
    const code = checkedCode(own, false);
    for (let at = 0; at < lengths.length; ) {
      const symbol = this.#symbol(code);
      if (symbol < 16) {
        lengths[at] = symbol;
        at += 1;
        continue;
      }
      if (symbol === 16 && at === 0) throw BROKEN;
      const value = symbol === 16 ? (lengths[at - 1] as number) : 0;
      const times =
        symbol === 16 ? 3 + this.#take(2) : symbol === 17 ? 3 + this.#take(3) : 11 + this.#take(7);
      if (at + times > lengths.length) throw BROKEN;
      lengths.fill(value, at, at + times);
      at += times;
    }
    if (lengths[END_OF_BLOCK] === 0) throw BROKEN;
    return [
      checkedCode(lengths.subarray(0, literalCount), true),
      checkedCode(lengths.subarray(literalCount), true),
    ];
  }

  /** Bit by bit: a table to look codes up in would take longer to make than the start of a body takes to read. */
  #symbol({ counts, symbols }: Code): number {
    let bits = this.#bits;
    let bitCount = this.#bitCount;
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= CODE_BITS_MAX; length++) {
      if (bitCount === 0) {
        bits = this.#byte();
        bitCount = 8;
      }
      code |= bits & 1;
      bits >>>= 1;
      bitCount -= 1;
      const count = counts[length] as number;
      if (code - count < first) {
        this.#bits = bits;
        this.#bitCount = bitCount;
        return symbols[index + (code - first)] as number;
      }
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw BROKEN;
  }

  #take(count: number): number {
    while (this.#bitCount < count) {
      this.#bits |= this.#byte() << this.#bitCount;
      this.#bitCount += 8;
    }
    const taken = this.#bits & ((1 << count) - 1);
    this.#bits >>>= count;
    this.#bitCount -= count;
    return taken;
  }

  #byte(): number {
    const byte = this.#encoded[this.#at];
    if (byte === undefined) throw CUT;
    this.#at += 1;
    return byte;
  }

  #skip(count: number): void {
    this.#at += count;
    if (this.#at <= this.#encoded.length) return;
    this.#at = this.#encoded.length;
    throw CUT;
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#limits.bytesMax) throw CUT;
  }
}

function codeOf(lengths: Uint8Array): Code {
  const counts = new Uint16Array(CODE_BITS_MAX + 1);
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    const length = lengths[symbol] as number;
    counts[length] = (counts[length] as number) + 1;
  }
  counts[0] = 0;
  const places = new Uint16Array(CODE_BITS_MAX + 1);
  for (let bits = 1; bits < CODE_BITS_MAX; bits++) {
    places[bits + 1] = (places[bits] as number) + (counts[bits] as number);
  }
  const symbols = new Uint16Array(lengths.length);
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    const length = lengths[symbol] as number;
    if (length === 0) continue;
    const place = places[length] as number;
    symbols[place] = symbol;
    places[length] = place + 1;
  }
  return { counts, symbols };
}

/** A code with too many codes is none; one with too few is one if it has a single code of one bit, or, for distances, none. */
function checkedCode(lengths: Uint8Array, mayBeIncomplete: boolean): Code {
  const code = codeOf(lengths);
  let left = 1;
  let used = 0;
  for (let bits = 1; bits <= CODE_BITS_MAX; bits++) {
    const count = code.counts[bits] as number;
    left = (left << 1) - count;
    used += count;
    if (left < 0) throw BROKEN;
  }
  const isSingle = used === code.counts[1] && used <= 1;
  if (left > 0 && !(mayBeIncomplete && isSingle)) throw BROKEN;
  return code;
}
