/**
 * The first administrator: a link, good once and for this process only, to a page that creates the first administrator's
 * API key. Whoever reads what the process prints is trusted; nobody else knows the token.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import { notFound, throwProblems } from '../model/app-error.ts';
import type { Store } from '../store/store.ts';
import { FieldsCheck } from './fields.ts';
import { parseBody } from './json-text.ts';
import { ID, NAME } from './pages.ts';
import { createKey } from './principal.ts';
import { countedAddress, type RefusedAttempts } from './refused-attempts.ts';
import { type Route, route } from './route.ts';

export type SetupLink = {
  /** For `/setup?token=…`, to be printed after the address of the server. */
  readonly token: string;
  isGood(token: string): boolean;
  /** Whether the token was good; from here on it is not, unless it is given back. */
  take(token: string): boolean;
  /** After what it was taken for has failed. */
  giveBack(): void;
};

const TOKEN_BYTES = 32;

export function createSetupLink(): SetupLink {
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  let isUsed = false;
  const isGood = (given: string) => timingSafeEqual(sha256(given), sha256(token)) && !isUsed;
  return {
    token,
    isGood,
    take(given) {
      if (!isGood(given)) return false;
      isUsed = true;
      return true;
    },
    giveBack() {
      isUsed = false;
    },
  };
}

function sha256(text: string): Uint8Array {
  return createHash('sha256').update(text).digest();
}

const TAG = 'Setup';
const SETUP_BYTES_MAX = 16 * 1024;
const FIELDS = Type.Object({ name: NAME, token: Type.Optional(Type.String({ maxLength: 200 })) });
const TOKEN_QUERY = Type.Object({ token: Type.Optional(Type.String({ maxLength: 200 })) });

export function setupRoutes(parts: {
  store: Pick<Store, 'createApiKey'>;
  clock: () => number;
  setup: SetupLink;
  attempts: RefusedAttempts;
}): Route[] {
  const { store, clock, setup, attempts } = parts;
  const fields = new FieldsCheck(FIELDS);

  /** @throws AppError `not_found`, `too_many_requests` */
  function checkToken(token: string, address: string): Promise<void> {
    return attempts.watch([countedAddress(address)], () => {
      if (!setup.isGood(token)) throw linkIsDead();
    });
  }

  return [
    route({
      method: 'GET',
      path: '/setup',
      role: 'ANYONE',
      tag: TAG,
      summary: 'The page that creates the first administrator; its link is printed at the first start',
      query: TOKEN_QUERY,
      answers: { 200: Type.String() },
      answerType: 'text/html',
      problems: ['too_many_requests'],
      async handle({ query: { token = '' }, request, reply }) {
        await checkToken(token, request.ip);
        return sendPage(reply, formPage(token));
      },
    }),
    route({
      method: 'POST',
      path: '/setup',
      role: 'ANYONE',
      tag: TAG,
      summary: 'Create the first administrator; answers its API key once',
      description: 'The token of the link goes in the query or in the body.',
      query: TOKEN_QUERY,
      body: 'form',
      bodySchema: FIELDS,
      bodyBytesMax: SETUP_BYTES_MAX,
      problems: ['too_many_requests'],
      answers: {
        201: Type.Object({
          id: ID,
          name: Type.String(),
          role: Type.Enum(['ADMINISTRATOR']),
          key: Type.String(),
        }),
      },
      async handle({ body, query, request, reply }) {
        const isForm =
          request.headers['content-type']?.startsWith('application/x-www-form-urlencoded') ?? false;
        const { problems, sound } = fields.check(
          isForm ? Object.fromEntries(new URLSearchParams(body)) : parseBody(body, JSON.parse),
        );
        // First of all: a stranger learns nothing else.
        const token = sound.token ?? query.token ?? '';
        await checkToken(token, request.ip);
        throwProblems(problems);
        if (!setup.take(token)) throw linkIsDead();
        const { key, keyHash } = createKey();
        const name = sound.name as string;
        try {
          const { id, role } = await store.createApiKey({
            name,
            role: 'ADMINISTRATOR',
            createdAt: clock(),
            keyHash,
          });
          reply.header('cache-control', 'no-store');
          return isForm ? sendPage(reply, keyPage(name, key)) : { id: String(id), name, role, key };
        } catch (error) {
          setup.giveBack();
          throw error;
        }
      },
    }),
  ];
}

function linkIsDead(): Error {
  return notFound('setup link with this token; each is good once, and until the process ends');
}

// -------------------------------------------------------------------------------------------------------------- pages

/** A page that `htmlPage` makes has its style in it, and nothing else. */
export const PAGE_HEADERS = {
  'content-security-policy':
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
};

function sendPage(reply: FastifyReply, page: string): string {
  reply
    .type('text/html; charset=utf-8')
    .headers(PAGE_HEADERS)
    // The address holds the token.
    .header('referrer-policy', 'no-referrer')
    .header('cache-control', 'no-store');
  return page;
}

function formPage(token: string): string {
  return htmlPage(
    'First administrator',
    `<p>This link is good once. It creates the API key of the first administrator.</p>
<form method="post" action="/setup">
<input type="hidden" name="token" value="${escapeHtml(token)}">
<label>Name of the key <input name="name" required maxlength="200" autofocus autocomplete="off"></label>
<button type="submit">Create the key</button>
</form>`,
  );
}

function keyPage(name: string, key: string): string {
  return htmlPage(
    'Administrator created',
    `<p>The API key of <strong>${escapeHtml(name)}</strong>. Copy it now: it is not shown again.</p>
<p><code>${escapeHtml(key)}</code></p>
<p>Send it with every request: <code>Authorization: Bearer …</code>. The calls are described under <a href="/docs">/docs</a>.</p>`,
  );
}

/** `content` is HTML. */
export function htmlPage(title: string, content: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title} · Orderhook</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}
code{background:#eee;color:#111;padding:.2em .4em;overflow-wrap:anywhere}input,button{font:inherit;padding:.3em .6em}</style>
<h1>${title}</h1>
${content}
</html>
`;
}

const HTML_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['&', '&amp;'],
  ['<', '&lt;'],
  ['>', '&gt;'],
  ['"', '&quot;'],
  ["'", '&#39;'],
]);

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => HTML_ESCAPES.get(character) ?? character);
}
