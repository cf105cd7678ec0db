import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Route } from '../src/http/route.ts';
import { routeTable } from '../src/http/server.ts';
import { createSetupLink } from '../src/http/setup.ts';
import type { Role } from '../src/model/entities.ts';
import { startServer, type TestServer } from './support/http-server.ts';

const RANK: Record<Role, number> = { SOURCE: 1, OPERATOR: 2, ADMINISTRATOR: 3 };

function isRole(role: Route['role']): role is Role {
  return role in RANK;
}

/** The path with an existing institution and ids that nothing has. */
function pathOf({ path }: Route): string {
  return path.replace(':code', 'MYVENUE').replace(/:\w+/g, '999999');
}

function bodyFor(route: Route): { body?: string; type?: string } {
  if (route.body === undefined) return {};
  if (route.body === 'ndjson') return { body: '', type: 'application/x-ndjson' };
  return { body: '{}' };
}

describe('the route table', () => {
  let server: TestServer;
  let routes: readonly Route[];
  const keys: Partial<Record<Role, string>> = {};
  let stranger: string;

  before(async () => {
    server = await startServer({ setup: createSetupLink() });
    routes = routeTable(server.parts, new AbortController().signal).routes;
    await server.createVenue();
    await server.createVenue('OTHER');
    keys.SOURCE = await server.createKey('SOURCE', 'MYVENUE');
    keys.OPERATOR = await server.createKey('OPERATOR', 'MYVENUE');
    keys.ADMINISTRATOR = await server.createKey('ADMINISTRATOR');
    stranger = await server.createKey('OPERATOR', 'OTHER');
  });
  after(() => server.close());

  it('lets each role do what the row says and nothing more', async () => {
    for (const route of routes) {
      const { role } = route;
      if (!isRole(role)) continue;
      for (const [name, rank] of Object.entries(RANK) as [Role, number][]) {
        const key = keys[name] as string;
        const { status } = await server.send(route.method, pathOf(route), { key, ...bodyFor(route) });
        const told = `${name} asks ${route.method} ${route.path}: ${status}`;
        if (rank < RANK[role]) assert.equal(status, 403, told);
        else assert.ok(status !== 401 && status !== 403 && status !== 500, told);
      }
    }
  });

  it('asks for a key wherever a role is needed', async () => {
    for (const route of routes) {
      const sent = { key: null, from: '203.0.113.9', ...bodyFor(route) };
      const { status, headers } = await server.send(route.method, pathOf(route), sent);
      const told = `${route.method} ${route.path}: ${status}`;
      // The auth call has its credentials in the body, and so the same answer for wrong ones.
      if (route.role === 'ANYONE') assert.notEqual(status, 401, told);
      else {
        assert.equal(status, 401, told);
        assert.equal(headers['www-authenticate'], 'Bearer realm="Orderhook"');
      }
    }
  });

  it('gives to administrators alone what the contract says', () => {
    const administrators = routes.filter(({ role }) => role === 'ADMINISTRATOR');
    assert.deepEqual(administrators.map(({ method, path }) => `${method} ${path}`).sort(), [
      'DELETE /api/v1/api-keys/:keyId',
      'GET /api/v1/api-keys',
      'GET /api/v1/institutions',
      'POST /api/v1/api-keys',
      'POST /api/v1/institutions',
      'POST /api/v1/institutions/:code/proxy-openings/:openingId/open',
      'POST /api/v1/institutions/:code/proxy-openings/:openingId/refuse',
      'POST /api/v1/institutions/:code/proxy-openings/:openingId/revoke',
    ]);
  });

  it('gives to sources nothing but orders in, and to strangers nothing of an institution', () => {
    const list = (role: Route['role']) =>
      routes.filter((route) => route.role === role).map(({ method, path }) => `${method} ${path}`);
    assert.deepEqual(list('SOURCE').sort(), [
      'POST /api/v1/institutions/:code/orders/:orderId/close',
      'POST /api/v1/institutions/:code/orders/import',
      'PUT /api/v1/institutions/:code/orders/:orderId',
    ]);
    assert.deepEqual(list('ANYONE').sort(), [
      'GET /',
      'GET /healthz',
      'GET /readyz',
      'GET /setup',
      'POST /setup',
      'POST /tnai/backend-apis/v1/auth',
    ]);
  });

  it('shows an institution to its own people only: for all others it does not exist', async () => {
    for (const route of routes.filter(({ path }) => path.includes(':code'))) {
      for (const [key, code] of [
        [stranger, 'MYVENUE'],
        [server.parts.adminKey as string, 'NOWHERE'],
      ] as const) {
        if (isRole(route.role) && route.role === 'ADMINISTRATOR' && key === stranger) continue;
        const path = pathOf(route).replace('MYVENUE', code);
        const { status, json } = await server.send(route.method, path, { key, ...bodyFor(route) });
        assert.equal(status, 404, `${route.method} ${route.path}`);
        assert.equal(json.detail, `There is no institution ${code}.`);
      }
    }
  });

  it('answers 404 with the name of the thing for ids that nothing has, and for what is no id', async () => {
    const names: Record<string, string> = {
      orderId: 'order',
      interfaceId: 'interface',
      scheduleId: 'schedule',
      executionId: 'execution',
      openingId: 'proxy opening',
      partnerId: 'partner',
      keyId: 'API key',
    };
    const bodies: Record<string, object> = {
      schedules: { name: 'x', launch: 'MANUAL' },
      preview: { orderId: '1' },
      'test-call': { orderId: '1' },
      resend: { abandoned: true },
    };
    for (const route of routes) {
      const parameter = /:(\w+)(?:\/[\w-]+)?$/.exec(route.path)?.[1] ?? '';
      const name = names[parameter];
      if (name === undefined || route.method === 'PUT') continue;
      for (const id of ['999999', '0', '-1', 'abc', '1.5', '9'.repeat(40)]) {
        const path = pathOf(route).replace('999999', id);
        const body = bodies[route.path.split('/').at(-1) as string] ?? {};
        const sent = route.body === undefined ? {} : { body };
        const { status, json } = await server.send(route.method, path, sent);
        assert.equal(status, 404, `${route.method} ${path}`);
        assert.equal(json.detail, `There is no ${name} ${id}.`, `${route.method} ${path}`);
      }
    }
  });

  it('is in the OpenAPI document, row by row', async () => {
    const { text } = await server.get('/openapi.json', { key: null });
    const document: Document = JSON.parse(text);
    assert.equal(document.openapi, '3.1.0');
    const seen = new Set<string>();
    for (const route of routes) {
      const path = route.path.replace(/:(\w+)/g, '{$1}');
      const operation = document.paths[path]?.[route.method.toLowerCase()];
      assert.ok(operation, `${route.method} ${path}`);
      assert.equal(operation.summary, route.summary);
      assert.ok(!seen.has(operation.operationId), `${operation.operationId} twice`);
      seen.add(operation.operationId);
      assert.deepEqual(operation.security, securityOf(route.role), path);
      assert.equal(operation.requestBody !== undefined, route.body !== undefined, path);
      for (const status of Object.keys(route.answers))
        assert.ok(operation.responses[status], `${path} ${status}`);
      const problem = operation.responses['500']?.content['application/problem+json'];
      assert.deepEqual(problem?.schema, { $ref: '#/components/schemas/Problem' });
      if (isRole(route.role)) {
        assert.ok(operation.responses['401'] && operation.responses['403'], path);
        assert.match(operation.description, new RegExp(route.role));
      }
      for (const name of Object.keys(route.query?.properties ?? {})) {
        assert.ok(
          operation.parameters?.some((parameter) => parameter.in === 'query' && parameter.name === name),
          `${path} ${name}`,
        );
      }
    }
    const told = Object.values(document.paths).flatMap((path) => Object.keys(path));
    assert.equal(told.length, routes.length);
    assert.ok(document.components.schemas.Problem);
  });
});

type Operation = {
  summary: string;
  description: string;
  operationId: string;
  security: object[];
  requestBody?: object;
  parameters?: { in: string; name: string }[];
  responses: Record<string, { content: Record<string, { schema: object }> }>;
};
type Document = {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object> };
};

function securityOf(role: Route['role']): object[] {
  if (role === 'ANYONE') return [];
  if (role === 'PARTNER') return [{ partnerToken: [] }];
  if (role === 'KEY_OR_LOOPBACK') return [{ apiKey: [] }, {}];
  return [{ apiKey: [] }];
}
