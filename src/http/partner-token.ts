/**
 * The tokens with which partners read orders back [V1]: JWT, HS256, signed with the partner's secret. `sub` is the
 * institution's code, `aud` the operator, `iss` the partner.
 *
 * What a refusal tells is what the sender of the token knows already: whether a partner exists, or whether only the
 * signature is wrong, it does not tell.
 */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, errors, jwtVerify, SignJWT } from 'jose';
import { AppError } from '../model/app-error.ts';
import type { Institution, Partner } from '../model/entities.ts';
import { TOKEN_LIFETIME_SECONDS, TOKEN_LIFETIME_SECONDS_MAX } from '../model/limits.ts';
import { isKeepable } from '../model/text.ts';
import type { Store } from '../store/store.ts';
import type { Vault } from './vault.ts';

/** Between the clocks of the partner and ours. */
const CLOCK_TOLERANCE_SECONDS = 5;
const ALGORITHM = 'HS256';
/** The tokens of unknown partners are checked too, with this: time does not tell them apart from wrong signatures. */
const DECOY_SECRET = randomBytes(32);

type Claims = { sub: string; aud: string; iss: string; iat: number; exp: number };

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
    const now = this.#clock();
    try {
      await jwtVerify(token, secret, {
        algorithms: [ALGORITHM],
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        currentDate: new Date(now),
      });
    } catch (error) {
      throw refusalOf(error);
    }
    if (!partner || !institution) throw wrongSignature();
    if (claims.iat > now / 1000 + CLOCK_TOLERANCE_SECONDS) {
      throw refuse("The token's iat lies in the future: check the clock of the machine that signs.");
    }
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
  const missing = [
    ...(['sub', 'aud', 'iss'] as const).filter(
      (name) => typeof claims[name] !== 'string' || claims[name] === '',
    ),
    ...(['iat', 'exp'] as const).filter((name) => typeof claims[name] !== 'number'),
  ];
  if (missing.length > 0) {
    throw refuse(
      `The token lacks ${missing.join(', ')}: sub is the institution's code, aud the operator, iss the partner, ` +
        'iat and exp are seconds since 1970.',
    );
  }
  const known = claims as Claims;
  if (![known.sub, known.aud, known.iss].every(isKeepable)) throw wrongSignature();
  if (known.exp - known.iat > TOKEN_LIFETIME_SECONDS_MAX) {
    throw refuse(`The token's exp is more than ${TOKEN_LIFETIME_SECONDS_MAX} seconds after its iat.`);
  }
  return known;
}

function refusalOf(error: unknown): unknown {
  if (error instanceof errors.JWTExpired) return refuse('The token has expired.');
  if (error instanceof errors.JWTClaimValidationFailed) {
    return refuse(`The token is not good now: see its claim ${error.claim}.`);
  }
  return error instanceof errors.JOSEError ? wrongSignature() : error;
}

function wrongSignature(): AppError {
  return refuse(
    'No partner with the iss, aud and sub of this token has signed it: check the three and the secret.',
  );
}

function refuse(message: string): AppError {
  return new AppError('unauthenticated', message);
}
