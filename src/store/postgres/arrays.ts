/**
 * Columns of many rows as one parameter each, for `unnest`: arrays in PostgreSQL's binary form. The text form would have
 * every quote and backslash of every order escaped here and read back character by character there.
 *
 *     int32 dimensions (1; 0 when empty), int32 has nulls, int32 type, int32 count, int32 lower bound (1),
 *     then per element int32 bytes (-1: null) and the bytes
 */

const HEADER_BYTES = 20;
const NULL = -1;
const TYPES = { bool: 16, int8: 20, int4: 23, text: 25 } as const;

export function int8Array(values: readonly (number | string | null | undefined)[]): Buffer {
  return fixedArray(TYPES.int8, 8, values, (buffer, value, at) => {
    const number = typeof value === 'number' || value.length <= 15 ? Number(value) : undefined;
    if (number === undefined) {
      buffer.writeBigInt64BE(BigInt(value), at);
      return;
    }
    const high = Math.floor(number / 2 ** 32);
    buffer.writeInt32BE(high, at);
    buffer.writeUInt32BE(number - high * 2 ** 32, at + 4);
  });
}

export function int4Array(values: readonly (number | null | undefined)[]): Buffer {
  return fixedArray(TYPES.int4, 4, values, (buffer, value, at) => buffer.writeInt32BE(value, at));
}

export function boolArray(values: readonly boolean[]): Buffer {
  return fixedArray(TYPES.bool, 1, values, (buffer, value, at) => buffer.writeUInt8(Number(value), at));
}

export function textArray(values: readonly (string | null | undefined)[]): Buffer {
  let size = HEADER_BYTES;
  const lengths = values.map((value) => {
    const length = value === null || value === undefined ? NULL : Buffer.byteLength(value);
    size += 4 + Math.max(length, 0);
    return length;
  });
  const buffer = Buffer.allocUnsafe(size);
  let at = writeHeader(buffer, TYPES.text, values.length, lengths.includes(NULL));
  for (const [index, length] of lengths.entries()) {
    at = buffer.writeInt32BE(length, at);
    if (length > 0) at += buffer.write(values[index] as string, at, 'utf8');
  }
  return trimmed(buffer, values.length);
}

function fixedArray<T>(
  type: number,
  bytes: number,
  values: readonly (T | null | undefined)[],
  write: (buffer: Buffer, value: T, at: number) => void,
): Buffer {
  const buffer = Buffer.allocUnsafe(HEADER_BYTES + values.length * (4 + bytes));
  let hasNulls = false;
  let at = HEADER_BYTES;
  for (const value of values) {
    if (value === null || value === undefined) {
      hasNulls = true;
      at = buffer.writeInt32BE(NULL, at);
    } else {
      at = buffer.writeInt32BE(bytes, at);
      write(buffer, value, at);
      at += bytes;
    }
  }
  writeHeader(buffer, type, values.length, hasNulls);
  return trimmed(buffer.subarray(0, at), values.length);
}

function writeHeader(buffer: Buffer, type: number, count: number, hasNulls: boolean): number {
  buffer.writeInt32BE(count === 0 ? 0 : 1, 0);
  buffer.writeInt32BE(Number(hasNulls), 4);
  buffer.writeInt32BE(type, 8);
  buffer.writeInt32BE(count, 12);
  return buffer.writeInt32BE(1, 16);
}

/** An empty array has no dimension, so its header ends after the type. */
function trimmed(buffer: Buffer, count: number): Buffer {
  return count === 0 ? buffer.subarray(0, 12) : buffer;
}
