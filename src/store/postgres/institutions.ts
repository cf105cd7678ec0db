/** Institutions, partners and API keys: who there is and who may do what. */
import type { ApiKey, Role } from '../../model/entities.ts';
import { cursorNumber, FROM_NEWEST, optional, type Row, toInstitution, toPage, toPartner } from '../rows.ts';
import type { ApiKeyStore, InstitutionStore, PartnerStore } from '../store.ts';
import { type Database, orConflict } from './database.ts';
import { isUniqueViolation } from './trouble.ts';

export function institutionStore(db: Database): InstitutionStore {
  const insert = db.writing(
    'INSERT INTO orderhook.institutions (code, name, time_zone, created_at) VALUES ($1, $2, $3, $4) RETURNING *',
  );
  const page = db.reading(
    'SELECT * FROM orderhook.institutions WHERE institution_id > $1 ORDER BY institution_id LIMIT $2',
  );
  const byCode = db.reading('SELECT * FROM orderhook.institutions WHERE code = $1');
  const byId = db.reading('SELECT * FROM orderhook.institutions WHERE institution_id = $1');
  return {
    async createInstitution({ code, name, timeZone, createdAt }) {
      return orConflict(`The code ${code} is taken by another institution.`, isUniqueViolation, async () =>
        toInstitution((await insert.row(code, name, timeZone, createdAt)) as Row),
      );
    },
    async institutions({ limit, cursor }) {
      const rows = await page.rows(cursorNumber(cursor, 0), limit + 1);
      return toPage(rows.map(toInstitution), limit, ({ id }) => id);
    },
    async institutionByCode(code) {
      const row = await byCode.row(code);
      return row && toInstitution(row);
    },
    async institutionById(id) {
      const row = await byId.row(id);
      return row && toInstitution(row);
    },
  };
}

export function partnerStore(db: Database): PartnerStore {
  const insert = db.writing(
    `INSERT INTO orderhook.partners (institution_id, partner, operator, sealed_secret, created_at)
     VALUES ($1, $2, $3, $4, $5) RETURNING *`,
  );
  const page = db.reading(
    'SELECT * FROM orderhook.partners WHERE institution_id = $1 AND partner_id > $2 ORDER BY partner_id LIMIT $3',
  );
  const named = db.reading(
    'SELECT * FROM orderhook.partners WHERE partner = $1 AND operator = $2 ORDER BY institution_id',
  );
  const anySealed = db.reading(
    'SELECT sealed_secret FROM orderhook.partners WHERE institution_id > 0 ORDER BY institution_id, partner_id LIMIT 1',
  );
  const remove = db.writing('DELETE FROM orderhook.partners WHERE institution_id = $1 AND partner_id = $2');
  return {
    async createPartner({ institutionId, partner, operator, sealedSecret, createdAt }) {
      const message = `The institution has the partner ${partner} with the operator ${operator} already.`;
      return orConflict(message, isUniqueViolation, async () =>
        toPartner((await insert.row(institutionId, partner, operator, sealedSecret, createdAt)) as Row),
      );
    },
    async partners(institutionId, { limit, cursor }) {
      const rows = await page.rows(institutionId, cursorNumber(cursor, 0), limit + 1);
      return toPage(rows.map(toPartner), limit, ({ id }) => id);
    },
    async partnersNamed(partner, operator) {
      return (await named.rows(partner, operator)).map(toPartner);
    },
    async anySealedSecret() {
      return (await anySealed.row())?.sealed_secret as string | undefined;
    },

    async deletePartner(institutionId, id) {
      return (await remove.count(institutionId, id)) === 1;
    },
  };
}

/** Under this the table has the keys that belong to no institution. */
const NO_INSTITUTION = 0;

export function apiKeyStore(db: Database): ApiKeyStore {
  const insert = db.writing(
    `INSERT INTO orderhook.api_keys (key_hash, name, role, institution_id, created_at, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6) RETURNING *`,
  );
  const page = db.reading(
    'SELECT * FROM orderhook.api_keys WHERE api_key_id < $1 ORDER BY api_key_id DESC LIMIT $2',
  );
  const byHash = db.reading('SELECT * FROM orderhook.api_keys WHERE key_hash = $1');
  const remove = db.writing('DELETE FROM orderhook.api_keys WHERE api_key_id = $1');
  const administrator = db.reading(
    "SELECT 1 FROM orderhook.api_keys WHERE institution_id = $1 AND role = 'ADMINISTRATOR' LIMIT 1",
  );
  return {
    async createApiKey({ keyHash, name, role, institutionId, createdAt, expiresAt }) {
      const hash = Buffer.from(keyHash);
      const owner = institutionId ?? NO_INSTITUTION;
      return toApiKey((await insert.row(hash, name, role, owner, createdAt, expiresAt ?? null)) as Row);
    },
    async apiKeys({ limit, cursor }) {
      const rows = await page.rows(cursorNumber(cursor, FROM_NEWEST), limit + 1);
      return toPage(rows.map(toApiKey), limit, ({ id }) => id);
    },
    async apiKeyByHash(keyHash) {
      const row = await byHash.row(Buffer.from(keyHash));
      return row && toApiKey(row);
    },
    async deleteApiKey(id) {
      return (await remove.count(id)) === 1;
    },
    async hasAdministrator() {
      return (await administrator.row(NO_INSTITUTION)) !== undefined;
    },
  };
}

function toApiKey(row: Row): ApiKey {
  const institutionId = row.institution_id === NO_INSTITUTION ? undefined : (row.institution_id as number);
  return {
    id: row.api_key_id as number,
    name: row.name as string,
    role: row.role as Role,
    ...optional('institutionId', institutionId),
    createdAt: row.created_at as number,
    ...optional('expiresAt', row.expires_at as number | null),
  };
}
