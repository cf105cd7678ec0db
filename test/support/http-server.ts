/** The HTTP edge over a real store, by default in a temporary folder, asked through `inject`, with a clock that the test moves. */

import { join } from 'node:path';
import type { InjectOptions, LightMyRequestResponse } from 'fastify';
import { createServer, type ServerParts } from '../../src/http/server.ts';
import { createVault } from '../../src/http/vault.ts';
import { openSqliteStore } from '../../src/store/sqlite/sqlite-store.ts';
import type { Store } from '../../src/store/store.ts';
import { FakeCallee } from './fake-callee.ts';
import { temporaryFolder } from './temporary-folder.ts';

export const ADMIN_KEY = 'the-administrators-key';
export const VENUE = '/api/v1/institutions/MYVENUE';

/** The fields of all answers that tests look into; each answer has some of them. */
export type Body = {
  readonly id: string;
  readonly key: string;
  readonly secret: string;
  readonly token: string;
  readonly code: string;
  readonly status: number | string;
  readonly detail: string;
  readonly requestId: string | number;
  readonly errors: readonly { path: string; code: string; message: string; position?: number }[];
  readonly warnings: readonly { path: string; message: string; position?: number }[];
  readonly items: readonly Body[];
  readonly next: string | null;
  readonly orderId: string;
  readonly executionId: string;
  readonly closing?: { closingId: string; closedAt: string };
  readonly closings: readonly object[];
  readonly request: object;
  readonly response?: object;
  readonly outcome: string;
  readonly reason?: string;
  readonly destination: unknown;
  readonly rejected: readonly { line: number; message: string }[];
  readonly stored: number;
  readonly expectedException: boolean;
};
export type Reply = {
  readonly status: number;
  /** Undefined when the body is no JSON. */
  readonly json: Body;
  readonly text: string;
  readonly headers: LightMyRequestResponse['headers'];
};
export type Sent = {
  /** Null sends none; absent sends the administrator's. */
  readonly key?: string | null;
  readonly body?: object | string | Buffer;
  readonly type?: string;
  readonly headers?: Record<string, string>;
  readonly from?: string;
};

export type TestServer = Awaited<ReturnType<typeof startServer>>;

export async function startServer(
  options: Partial<ServerParts> & { wrapStore?: (store: Store) => Store } = {},
) {
  const { wrapStore = (store: Store) => store, ...parts } = options;
  const folder = temporaryFolder();
  const store = wrapStore(parts.store ?? openSqliteStore({ file: join(folder.path, 'orderhook.sqlite') }));
  const callee = new FakeCallee();
  const time = { now: Date.UTC(2026, 0, 5, 9) };
  const serverParts: ServerParts = {
    caller: callee,
    // No name is asked for outside of the test.
    resolve: async () => [{ address: '8.8.8.8', family: 4 }],
    hasEgressProxy: false,
    clock: () => time.now,
    log: false,
    version: '1.2.3',
    vault: createVault(new Uint8Array(32).fill(7)),
    limits: { webServiceCallsPerMinute: 3_000 },
    metrics: async () => 'orderhook_up 1\n',
    adminKey: ADMIN_KEY,
    ...parts,
    store,
  };
  const app = await createServer(serverParts);

  async function send(method: string, url: string, sent: Sent = {}): Promise<Reply> {
    const { key = ADMIN_KEY, body, type, headers, from } = sent;
    const isPlain = typeof body === 'string' || Buffer.isBuffer(body);
    const answer = await app.inject({
      method: method as NonNullable<InjectOptions['method']>,
      url,
      headers: {
        ...(key !== null && { authorization: `Bearer ${key}` }),
        ...(body !== undefined && { 'content-type': type ?? 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { payload: isPlain ? body : JSON.stringify(body) }),
      ...(from !== undefined && { remoteAddress: from }),
    });
    return {
      status: answer.statusCode,
      json: parse(answer.body),
      text: answer.body,
      headers: answer.headers,
    };
  }

  return {
    app,
    store,
    callee,
    time,
    parts: serverParts,
    send,
    get: (url: string, sent?: Sent) => send('GET', url, sent),
    post: (url: string, body?: object | string, sent?: Sent) =>
      send('POST', url, { ...(body !== undefined && { body }), ...sent }),
    put: (url: string, body: object | string, sent?: Sent) => send('PUT', url, { body, ...sent }),
    patch: (url: string, body: object, sent?: Sent) => send('PATCH', url, { body, ...sent }),
    delete: (url: string, sent?: Sent) => send('DELETE', url, sent),

    /** MYVENUE, which all tests use. */
    async createVenue(code = 'MYVENUE') {
      await this.post('/api/v1/institutions', { code, name: `The ${code}` });
    },
    async createKey(role: string, institution?: string): Promise<string> {
      const { json } = await this.post('/api/v1/api-keys', { name: `a ${role}`, role, institution });
      return json.key;
    },
    async createInterface(changes: object = {}): Promise<string> {
      const { json, text } = await this.post(`${VENUE}/interfaces`, { ...INTERFACE, ...changes });
      if (json.id === undefined) throw new Error(text);
      return json.id;
    },
    async createSchedule(interfaceId: string, changes: object = {}): Promise<string> {
      const body = { name: 'By hand', launch: 'MANUAL', ...changes };
      const { json, text } = await this.post(`${VENUE}/interfaces/${interfaceId}/schedules`, body);
      if (json.id === undefined) throw new Error(text);
      return json.id;
    },
    async openDestination(destination: string, allowPrivate = false): Promise<string> {
      const { json } = await this.post(`${VENUE}/proxy-openings`, { destination });
      await this.post(`${VENUE}/proxy-openings/${json.id}/open`, { allowPrivate });
      return json.id;
    },
    putOrder(orderId: string, orderState = 'CLOSED') {
      return this.put(`${VENUE}/orders/${orderId}`, `{"orderId":${orderId},"orderState":"${orderState}"}`);
    },

    async close() {
      await app.close();
      await store.close();
      folder.remove();
    },
  };
}

export const INTERFACE = {
  name: 'The partner',
  type: 'ORDER_WEBHOOK_V1',
  url: 'https://partner.example/orders/${orderId}',
  method: 'GET',
};

function parse(text: string): Body {
  try {
    return JSON.parse(text);
  } catch {
    return undefined as unknown as Body;
  }
}

/** `path code` of every wrong field. */
export function wrongFields({ json }: Reply): string[] {
  return (json.errors ?? []).map((error) => `${error.path} ${error.code}`);
}
