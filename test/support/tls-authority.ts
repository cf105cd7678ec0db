/**
 * A certificate authority for tests, made on the spot: no program to install, no certificate in the repository that runs
 * out one day. Writes just enough X.509 (RFC 5280) for a TLS client to verify a server by.
 */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIP } from 'node:net';

export type Certificate = { readonly certificate: string; readonly key: string };

export type Authority = {
  /** PEM, to be trusted. */
  readonly certificate: string;
  /** A server certificate for names and addresses; valid from yesterday until tomorrow if nothing else is said. */
  issue(names: readonly string[], validity?: { from: Date; to: Date }): Certificate;
};

const DAY_MS = 24 * 60 * 60 * 1000;
const aroundNow = () => ({ from: new Date(Date.now() - DAY_MS), to: new Date(Date.now() + DAY_MS) });
export const expired = () => ({ from: new Date(Date.now() - 2 * DAY_MS), to: new Date(Date.now() - DAY_MS) });

export function createAuthority(name = 'Test Authority'): Authority {
  const keys = newKeys();
  const issue: Authority['issue'] = (names, validity = aroundNow()) => {
    const own = newKeys();
    const certificate = signCertificate({
      subject: names[0] as string,
      issuer: name,
      names,
      validity,
      publicKey: own.publicKey,
      issuerKey: keys.privateKey,
    });
    return { certificate, key: own.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
  };
  const certificate = signCertificate({
    subject: name,
    issuer: name,
    names: [],
    validity: aroundNow(),
    publicKey: keys.publicKey,
    issuerKey: keys.privateKey,
  });
  return { certificate, issue };
}

/** A server certificate that nobody else signed. */
export function createSelfSigned(names: readonly string[]): Certificate {
  const { publicKey, privateKey } = newKeys();
  const subject = names[0] as string;
  const certificate = signCertificate({
    subject,
    issuer: subject,
    names,
    validity: aroundNow(),
    publicKey,
    issuerKey: privateKey,
  });
  return { certificate, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
}

function newKeys(): { publicKey: KeyObject; privateKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

// DER (X.690): a tag, a length, contents.
function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const body = Buffer.concat(contents);
  const length =
    body.length < 128
      ? [body.length]
      : body.length < 256
        ? [0x81, body.length]
        : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

const sequence = (...contents: Uint8Array[]) => der(0x30, ...contents);
const octets = (contents: Uint8Array) => der(0x04, contents);
const bits = (contents: Uint8Array) => der(0x03, Buffer.from([0]), contents);
const oid = (hex: string) => der(0x06, Buffer.from(hex, 'hex'));
const time = (date: Date) =>
  der(0x18, Buffer.from(`${date.toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`));
const TRUE = der(0x01, Buffer.from([0xff]));

const ECDSA_WITH_SHA256 = sequence(oid('2a8648ce3d040302'));
const COMMON_NAME = oid('550403');
const SUBJECT_ALT_NAME = oid('551d11');
const BASIC_CONSTRAINTS = oid('551d13');

const distinguishedName = (name: string) =>
  sequence(der(0x31, sequence(COMMON_NAME, der(0x0c, Buffer.from(name)))));

function signCertificate(of: {
  subject: string;
  issuer: string;
  /** None: an authority. */
  names: readonly string[];
  validity: { from: Date; to: Date };
  publicKey: KeyObject;
  issuerKey: KeyObject;
}): string {
  const alternativeNames = of.names.map((name) =>
    isIP(name) === 0 ? der(0x82, Buffer.from(name)) : der(0x87, addressBytes(name)),
  );
  const extension =
    of.names.length === 0
      ? sequence(BASIC_CONSTRAINTS, TRUE, octets(sequence(TRUE)))
      : sequence(SUBJECT_ALT_NAME, octets(sequence(...alternativeNames)));
  const unsigned = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1]), randomBytes(8)),
    ECDSA_WITH_SHA256,
    distinguishedName(of.issuer),
    sequence(time(of.validity.from), time(of.validity.to)),
    distinguishedName(of.subject),
    of.publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(extension)),
  );
  const signed = sequence(unsigned, ECDSA_WITH_SHA256, bits(sign('sha256', unsigned, of.issuerKey)));
  const lines = signed.toString('base64').match(/.{1,64}/g) as string[];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}

/** Enough for `127.0.0.1` and `::1`. */
function addressBytes(address: string): Buffer {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  if (address === '::1') return Buffer.from([...Array<number>(15).fill(0), 1]);
  throw new Error(`Not written for ${address}`);
}
