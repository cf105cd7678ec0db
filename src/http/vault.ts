/**
 * Seals secrets that must be read again, such as those that partners sign with, so that a copy of the database alone
 * gives none away: AES-256-GCM with a key that is kept elsewhere.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

export type Vault = {
  /** A text for the database; another one each time. */
  seal(secret: string): string;
  /** @throws Error when the text was sealed with another key, or was changed */
  open(sealed: string): string;
};

const KEY_BYTES = 32;
/** NIST SP 800-38D: 96 bits of nonce, 128 bits of tag. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const ALGORITHM = 'aes-256-gcm';
/** `v1.` and base64url of nonce, tag and ciphertext. Another algorithm or key will be another version. */
const VERSION = 'v1';

export function createVault(key: Uint8Array): Vault {
  if (key.length !== KEY_BYTES) throw new Error(`A vault's key has ${KEY_BYTES} bytes, not ${key.length}.`);
  return {
    seal(secret) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv(ALGORITHM, key, nonce, { authTagLength: TAG_BYTES });
      const ciphertext = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()]);
      return `${VERSION}.${Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]).toString('base64url')}`;
    },
    open(sealed) {
      const [version, text] = sealed.split('.');
      const bytes = Buffer.from(text ?? '', 'base64url');
      if (version !== VERSION || bytes.length < NONCE_BYTES + TAG_BYTES) {
        throw new Error('A sealed secret is not in the form that this version knows.');
      }
      const decipher = createDecipheriv(ALGORITHM, key, bytes.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
      try {
        return (
          decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES), undefined, 'utf8') + decipher.final('utf8')
        );
      } catch (cause) {
        throw new Error('A sealed secret cannot be opened: it was sealed with another key, or changed.', {
          cause,
        });
      }
    },
  };
}
