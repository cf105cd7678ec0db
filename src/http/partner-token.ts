/**
 * The tokens with which partners read orders back [V1]: JWT, HS256, signed with the partner's secret. `sub` is the
 * institution's code, `aud` the operator, `iss` the partner.
 *
 * What a refusal tells is what the sender of the token knows already: whether a partner exists, or whether only the
 * signature is wrong, it does not tell.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { compactVerify, decodeJwt, decodeProtectedHeader, errors, SignJWT } from 'jose';
import { AppError } from '../model/app-error.ts';
import type { Institution, Partner } from '../model/entities.ts';
import { TOKEN_LIFETIME_SECONDS, TOKEN_LIFETIME_SECONDS_MAX } from '../model/limits.ts';
import { isKeepable } from '../model/text.ts';
import type { Store } from '../store/store.ts';
import type { Vault } from './vault.ts';

/** Between the clocks of the partner and ours. */
export const CLOCK_TOLERANCE_SECONDS = 5;
const ALGORITHM = 'HS256';
/** The tokens of unknown partners are checked too, with this: time does not tell them apart from wrong signatures. */
const DECOY_SECRET = randomBytes(32);

/** `iat` and `exp` in milliseconds are read too [WS]; no token of now has seconds as great as this. */
const MILLISECONDS_FROM = 100_000_000_000;

/** Times in seconds since 1970, whatever the token has. */
type Claims = {
  readonly sub: string;
  readonly aud: string;
  readonly iss: string;
  readonly iat: number;
  readonly exp: number;
  readonly nbf: number | undefined;
};

export type Credentials = { readonly operator: string; readonly partner: string; readonly secret: string };

export class PartnerTokens {
  readonly #store: Pick<Store, 'partnersNamed' | 'institutionById'>;
  readonly #findInstitution: (code: string) => Promise<Institution | undefined>;
  readonly #vault: Vault;
  readonly #clock: () => number;

  constructor(given: {
    store: Pick<Store, 'partnersNamed' | 'institutionById'>;
    findInstitution: (code: string) => Promise<Institution | undefined>;
    vault: Vault;
    clock: () => number;
  }) {
    this.#store = given.store;
    this.#findInstitution = given.findInstitution;
    this.#vault = given.vault;
    this.#clock = given.clock;
  }

  /** @throws AppError `unauthenticated` */
  async verify(token: string): Promise<{ partner: Partner; institution: Institution }> {
    const claims = readClaims(token);
    const institution = await this.#findInstitution(claims.sub);
    const namesakes = await this.#store.partnersNamed(claims.iss, claims.aud);
    const partner = namesakes.find(({ institutionId }) => institutionId === institution?.id);
    const secret = partner ? Buffer.from(this.#vault.open(partner.sealedSecret), 'utf8') : DECOY_SECRET;
    try {
      await compactVerify(token, secret, { algorithms: [ALGORITHM] });
    } catch (error) {
      throw error instanceof errors.JOSEError ? wrongSignature() : error;
    }
    if (!partner || !institution) throw wrongSignature();
    checkTimes(claims, this.#clock() / 1_000);
    return { partner, institution };
  }

  /** @throws AppError `unauthenticated` */
  async issue({ operator, partner, secret }: Credentials): Promise<string> {
    // No partner has such a name, and no database takes it.
    const canExist = isKeepable(partner) && isKeepable(operator);
    const namesakes = canExist ? await this.#store.partnersNamed(partner, operator) : [];
    const secrets = namesakes.map(({ sealedSecret }) => this.#vault.open(sealedSecret));
    const matches = secrets.map((one) => isSameSecret(one, secret));
    const index = matches.indexOf(true);
    const institutionId = namesakes[index]?.institutionId;
    const institution =
      institutionId === undefined ? undefined : await this.#store.institutionById(institutionId);
    if (!institution) throw refuse('The operator, the partner or the secret is wrong.');
    const now = Math.floor(this.#clock() / 1000);
    return new SignJWT()
      .setProtectedHeader({ alg: ALGORITHM, typ: 'JWT' })
      .setSubject(institution.code)
      .setAudience(operator)
      .setIssuer(partner)
      .setIssuedAt(now)
      .setExpirationTime(now + TOKEN_LIFETIME_SECONDS)
      .sign(Buffer.from(secret, 'utf8'));
  }
}

function isSameSecret(one: string, other: string): boolean {
  return timingSafeEqual(hash('sha256', one, 'buffer'), hash('sha256', other, 'buffer'));
}

/** Of a token that nobody has checked yet. */
function readClaims(token: string): Claims {
  let header: ReturnType<typeof decodeProtectedHeader>;
  let claims: ReturnType<typeof decodeJwt>;
  try {
    header = decodeProtectedHeader(token);
    claims = decodeJwt(token);
  } catch {
    throw refuse('The token is no JWT.');
  }
  if (header.alg !== ALGORITHM) throw refuse(`The token must be signed with ${ALGORITHM}.`);
  const { sub, iss } = claims;
  const aud = audience(claims.aud);
  const texts = { sub, aud, iss };
  const times = { iat: seconds(claims.iat), exp: seconds(claims.exp) };
  const missing = [
    ...Object.entries(texts).filter(([, text]) => typeof text !== 'string' || text === ''),
    ...Object.entries(times).filter(([, time]) => time === undefined),
  ].map(([name]) => name);
  if (missing.length > 0) {
    throw refuse(
      `The token lacks ${missing.join(', ')}: sub is the institution's code, aud the operator, iss the partner, ` +
        'iat and exp are seconds since 1970, or milliseconds.',
    );
  }
  if (claims.nbf !== undefined && seconds(claims.nbf) === undefined) {
    throw refuse("The token's nbf must be seconds since 1970, or milliseconds; it may be left out.");
  }
  const known = { ...texts, ...times, nbf: seconds(claims.nbf) } as Claims;
  if (![known.sub, known.aud, known.iss].every(isKeepable)) throw wrongSignature();
  if (known.exp - known.iat > TOKEN_LIFETIME_SECONDS_MAX) {
    throw refuse(`The token's exp is more than ${TOKEN_LIFETIME_SECONDS_MAX} seconds after its iat.`);
  }
  return known;
}

/**
 * RFC 7519 lets `aud` be a list; libraries exist that always write one.
 * @throws AppError `unauthenticated` for a list of several: a partner signs for one operator
 */
function audience(aud: string | string[] | undefined): string | undefined {
  if (!Array.isArray(aud)) return aud;
  if (aud.length > 1) {
    throw refuse(`The token's aud is a list of ${aud.length}: put the operator alone into it, as text.`);
  }
  return aud[0];
}

function seconds(time: unknown): number | undefined {
  if (typeof time !== 'number') return undefined;
  return time > MILLISECONDS_FROM ? time / 1_000 : time;
}

/** Only of a token whose signature is good: its times are nobody else's business. */
function checkTimes({ iat, exp, nbf }: Claims, now: number): void {
  const agoSeconds = now - exp;
  if (agoSeconds >= CLOCK_TOLERANCE_SECONDS) {
    throw refuse(
      `The token has expired ${Math.round(agoSeconds)} s ago: make one for each call or keep it for less long, and check the clock of ` +
        'the machine that signs.',
    );
  }
  for (const [name, time] of Object.entries({ iat, nbf })) {
    if (time === undefined || time <= now + CLOCK_TOLERANCE_SECONDS) continue;
    throw refuse(`The token's ${name} lies in the future: check the clock of the machine that signs.`);
  }
}

function wrongSignature(): AppError {
  return refuse(
    'No partner with the iss, aud and sub of this token has signed it: check the three and the secret.',
  );
}

function refuse(message: string): AppError {
  return new AppError('unauthenticated', message);
}
