/** What is at `/` as long as there are no pages: where everything else is. */
import { Type } from 'typebox';
import { type Route, route } from './route.ts';
import { htmlPage, PAGE_HEADERS } from './setup.ts';

/** Each with what it is, in words that a browser shows. */
const PLACES = {
  docs: ['/docs', 'the calls, to read and to try'],
  openapi: ['/openapi.json', 'the same for programs'],
  api: ['/api/v1', 'where the calls of the API begin; they need an API key'],
  health: ['/healthz', 'whether the process lives'],
  readiness: ['/readyz', 'whether it can do its work'],
  metrics: ['/metrics', 'for Prometheus; with an API key, or from this machine'],
} as const;

export function rootRoutes({ version }: { readonly version: string }): Route[] {
  const places = Object.fromEntries(Object.entries(PLACES).map(([name, [path]]) => [name, path]));
  return [
    route({
      method: 'GET',
      path: '/',
      role: 'ANYONE',
      tag: 'System',
      summary: 'Where everything is: as a page for browsers, otherwise as JSON',
      answers: {
        200: Type.Object({
          name: Type.String(),
          version: Type.String(),
          ...Object.fromEntries(Object.keys(PLACES).map((name) => [name, Type.String()])),
        }),
      },
      async handle({ request, reply }) {
        reply.header('vary', 'accept');
        if (!takesHtml(request.headers.accept ?? '')) return { name: 'Orderhook', version, ...places };
        reply.type('text/html; charset=utf-8').headers(PAGE_HEADERS);
        return htmlPage('Orderhook', `<ul>\n${list()}\n</ul>`);
      },
    }),
  ];
}

/** Browsers name the type; programs ask for JSON or for anything. */
function takesHtml(accept: string): boolean {
  return /\btext\/html\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))/i.test(accept);
}

function list(): string {
  return Object.values(PLACES)
    .map(([path, what]) => `<li><a href="${path}"><code>${path}</code></a>: ${what}</li>`)
    .join('\n');
}
