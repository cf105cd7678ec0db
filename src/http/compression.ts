/** Answers that are compressed where the client asks for it (RFC 9110, 12.5.3). */
import { promisify } from 'node:util';
import { deflate, gzip } from 'node:zlib';

/** [WS] Section 4.3: shorter ones are sent as they are. */
export const COMPRESSED_FROM_BYTES = 1_024;

/** Ours first: of those that a client likes as much. */
const ENCODINGS = ['gzip', 'deflate'] as const;
export type Encoding = (typeof ENCODINGS)[number];

const COMPRESS: Readonly<Record<Encoding, (text: string) => Promise<Buffer>>> = {
  gzip: promisify<string, Buffer>(gzip),
  // As RFC 9110 means it: with the header of zlib.
  deflate: promisify<string, Buffer>(deflate),
};

/** In a thread of the platform. */
export function compress(text: string, encoding: Encoding): Promise<Buffer> {
  return COMPRESS[encoding](text);
}

/** What the client likes best of what we can; undefined: as it is. */
export function encodingFor(acceptEncoding: string | undefined): Encoding | undefined {
  if (acceptEncoding === undefined) return undefined;
  const weights = new Map(acceptEncoding.split(',').map(readCoding));
  let best: { encoding: Encoding; weight: number } | undefined;
  for (const encoding of ENCODINGS) {
    const weight =
      weights.get(encoding) ?? (encoding === 'gzip' ? weights.get('x-gzip') : undefined) ?? weights.get('*');
    if (weight !== undefined && weight > (best?.weight ?? 0)) best = { encoding, weight };
  }
  // `identity;q=1, gzip;q=0.5` would rather have it as it is; what is not named is as good as anything.
  const plain = weights.get('identity') ?? 0;
  return best && best.weight >= plain ? best.encoding : undefined;
}

function readCoding(text: string): [coding: string, weight: number] {
  const [coding = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
  // What is no weight is a refusal: it is safer to send what everybody can read.
  return [
    coding,
    weight === undefined ? 1 : /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(weight) ? Number(weight) : 0,
  ];
}
