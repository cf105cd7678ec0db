/** Institutions, partners and API keys: who there is and who may do what. */
import { AppError } from '../../model/app-error.ts';
import type { ApiKey, Role } from '../../model/entities.ts';
import { cursorNumber, optional, toInstitution, toPage, toPartner } from '../rows.ts';
import type { ApiKeyStore, InstitutionStore, PartnerStore } from '../store.ts';
import { type Database, isUniqueViolation, type Row } from './database.ts';

const FROM_NEWEST = Number.MAX_SAFE_INTEGER;

export function institutionStore(db: Database): InstitutionStore {
  const insert = db.prepare(
    'INSERT INTO institutions (code, name, time_zone, created_at) VALUES (?, ?, ?, ?) RETURNING *',
  );
  const page = db.prepare(
    'SELECT * FROM institutions WHERE institution_id > ? ORDER BY institution_id LIMIT ?',
  );
  const byCode = db.prepare('SELECT * FROM institutions WHERE code = ?');
  const byId = db.prepare('SELECT * FROM institutions WHERE institution_id = ?');
  return {
    async createInstitution({ code, name, timeZone, createdAt }) {
      return db.write(() =>
        orConflict(`The code ${code} is taken by another institution.`, () =>
          toInstitution(insert.get(code, name, timeZone, createdAt) as Row),
        ),
      );
    },
    async institutions({ limit, cursor }) {
      const rows = db.read(() => page.all(cursorNumber(cursor, 0), limit + 1));
      return toPage(rows.map(toInstitution), limit, ({ id }) => id);
    },
    async institutionByCode(code) {
      const row = db.read(() => byCode.get(code));
      return row && toInstitution(row);
    },
    async institutionById(id) {
      const row = db.read(() => byId.get(id));
      return row && toInstitution(row);
    },
  };
}

export function partnerStore(db: Database): PartnerStore {
  const insert = db.prepare(
    `INSERT INTO partners (institution_id, partner, operator, sealed_secret, created_at)
     VALUES (?, ?, ?, ?, ?) RETURNING *`,
  );
  const page = db.prepare(
    'SELECT * FROM partners WHERE institution_id = ? AND partner_id > ? ORDER BY partner_id LIMIT ?',
  );
  const named = db.prepare('SELECT * FROM partners WHERE partner = ? AND operator = ?');
  const remove = db.prepare('DELETE FROM partners WHERE institution_id = ? AND partner_id = ?');
  const anySealed = db.prepare(
    'SELECT sealed_secret FROM partners WHERE institution_id > 0 ORDER BY institution_id, partner_id LIMIT 1',
  );
  return {
    async createPartner({ institutionId, partner, operator, sealedSecret, createdAt }) {
      return db.write(() =>
        orConflict(`The institution has the partner ${partner} with the operator ${operator} already.`, () =>
          toPartner(insert.get(institutionId, partner, operator, sealedSecret, createdAt) as Row),
        ),
      );
    },
    async partners(institutionId, { limit, cursor }) {
      const rows = db.read(() => page.all(institutionId, cursorNumber(cursor, 0), limit + 1));
      return toPage(rows.map(toPartner), limit, ({ id }) => id);
    },
    async partnersNamed(partner, operator) {
      return db.read(() => named.all(partner, operator)).map(toPartner);
    },
    async anySealedSecret() {
      return db.read(() => anySealed.get())?.sealed_secret as string | undefined;
    },

    async deletePartner(institutionId, id) {
      return db.write(() => remove.run(institutionId, id).changes === 1);
    },
  };
}

export function apiKeyStore(db: Database): ApiKeyStore {
  const insert = db.prepare(
    `INSERT INTO api_keys (key_hash, name, role, institution_id, created_at, expires_at)
     VALUES (?, ?, ?, ?, ?, ?) RETURNING *`,
  );
  const page = db.prepare('SELECT * FROM api_keys WHERE api_key_id < ? ORDER BY api_key_id DESC LIMIT ?');
  const byHash = db.prepare('SELECT * FROM api_keys WHERE key_hash = ?');
  const remove = db.prepare('DELETE FROM api_keys WHERE api_key_id = ?');
  const administrator = db.prepare("SELECT 1 FROM api_keys WHERE role = 'ADMINISTRATOR' LIMIT 1");
  return {
    async createApiKey({ keyHash, name, role, institutionId, createdAt, expiresAt }) {
      return db.write(() =>
        toApiKey(insert.get(keyHash, name, role, institutionId ?? null, createdAt, expiresAt ?? null) as Row),
      );
    },
    async apiKeys({ limit, cursor }) {
      const rows = db.read(() => page.all(cursorNumber(cursor, FROM_NEWEST), limit + 1));
      return toPage(rows.map(toApiKey), limit, ({ id }) => id);
    },
    async apiKeyByHash(keyHash) {
      const row = db.read(() => byHash.get(keyHash));
      return row && toApiKey(row);
    },
    async deleteApiKey(id) {
      return db.write(() => remove.run(id).changes === 1);
    },
    async hasAdministrator() {
      return db.read(() => administrator.get()) !== undefined;
    },
  };
}

function toApiKey(row: Row): ApiKey {
  return {
    id: row.api_key_id as number,
    name: row.name as string,
    role: row.role as Role,
    ...optional('institutionId', row.institution_id as number | null),
    createdAt: row.created_at as number,
    ...optional('expiresAt', row.expires_at as number | null),
  };
}

function orConflict<T>(message: string, insert: () => T): T {
  try {
    return insert();
  } catch (error) {
    throw isUniqueViolation(error) ? new AppError('conflict', message) : error;
  }
}
