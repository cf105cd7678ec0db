/**
 * URL and payload templates (contract, sections 2.1 and 2.2).
 *
 * Hides how a text with `${orderId}` in it becomes the request of one order. Promises that a template which `checkTemplate`
 * finds no problem in can be filled with every order id, and that what is filled differs from the serialised template
 * in the placeholder only. Never touches the network, never throws for what somebody typed.
 */
import { PAYLOAD_BYTES_MAX, URL_CHARACTERS_MAX } from '../model/limits.ts';
import { jsonSyntaxProblem } from '../model/lossless-json.ts';
import type { CallRequest } from '../model/outcome.ts';
import type { Problem, Warning } from '../model/problem.ts';

/** [V1] The only placeholder there is; replaced by the order id in decimal digits. */
export const PLACEHOLDER = '${orderId}';

export type Template = {
  /** As typed. */
  readonly url: string;
  readonly method: CallRequest['method'];
  /** As typed; undefined and the empty text both mean that there is none. */
  readonly payload?: string | undefined;
};

export type TemplateCheck = { readonly problems: Problem[]; readonly warnings: Warning[] };

/** Where every call of a template goes: no placeholder can stand in these parts. */
export type TemplateDestination = {
  readonly protocol: 'http:' | 'https:';
  /** WHATWG-serialised: lower case, IDN as punycode, IPv4 as dotted quad, IPv6 without its brackets. */
  readonly host: string;
  readonly port: number;
};

export type CompiledTemplate = {
  readonly destination: TemplateDestination;
  /** `orderId` is decimal digits, 1 to 9223372036854775807. */
  fill(orderId: string): CallRequest;
};

export function checkTemplate(template: Template): TemplateCheck {
  const problems = [...checkUrl(template.url, template.method), ...checkPayload(template)];
  return { problems, warnings: problems.length === 0 ? findWarnings(template) : [] };
}

/** @throws Error when `checkTemplate` finds a problem in the URL: saving such a template is our bug. */
export function compileTemplate({ url, method, payload = '' }: Template): CompiledTemplate {
  const serialised = serialiseAround(url);
  if (serialised === undefined) throw new Error(`A template that was never checked: ${JSON.stringify(url)}`);
  const { parsed, pieces } = serialised;
  const destination: TemplateDestination = {
    protocol: parsed.protocol === 'https:' ? 'https:' : 'http:',
    host: parsed.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: parsed.port === '' ? DEFAULT_PORTS[parsed.protocol as 'http:' | 'https:'] : Number(parsed.port),
  };
  const fillUrl = filler(pieces);
  if (method === 'GET' || payload === '') {
    return { destination, fill: (orderId) => ({ method, url: fillUrl(orderId) }) };
  }
  const fillPayload = filler(payload.split(PLACEHOLDER));
  return {
    destination,
    fill: (orderId) => ({ method, url: fillUrl(orderId), body: fillPayload(orderId) }),
  };
}

const DEFAULT_PORTS = { 'http:': 80, 'https:': 443 } as const;

function filler(pieces: readonly string[]): (orderId: string) => string {
  const [before = '', after] = pieces;
  if (after === undefined) return () => before;
  if (pieces.length === 2) return (orderId) => before + orderId + after;
  return (orderId) => pieces.join(orderId);
}

/**
 * The serialised URL, cut at its placeholders. The parser must not see the placeholder itself, whose `$`, `{` and `}` it
 * escapes in a path and not in a query, so a stand-in takes its place. Upper-case letters and digits come out of the
 * parser as they went in, and nothing that the parser writes by itself (punycode is lower case, escapes end at F)
 * can look like the stand-in. Its first and last character are different from all its others, so it cannot be found
 * shifted where template text touches it.
 */
function serialiseAround(url: string): { parsed: URL; pieces: string[] } | undefined {
  let standIn = 'QZ';
  for (let n = 0; url.includes(standIn); n++) standIn = `Q${n}Z`;
  const parsed = URL.parse(url.replaceAll(PLACEHOLDER, standIn));
  return parsed === null ? undefined : { parsed, pieces: parsed.href.split(standIn) };
}

// ---------------------------------------------------------------------------------------------------------------- URL

function checkUrl(url: string, method: Template['method']): Problem[] {
  const unreadable = checkCharacters(url);
  if (unreadable !== undefined) return [unreadable];
  const misspelt = findMisspeltPlaceholders(url).map(({ code, position, message }) =>
    urlProblem(code, message, position),
  );
  const problems = [...misspelt, ...checkStructure(url)];
  if (problems.length > 0) return problems;
  if (method === 'GET' && !url.includes(PLACEHOLDER)) {
    return [
      urlProblem(
        'url_placeholder_missing',
        `A GET call can tell the order id in its URL only: write ${PLACEHOLDER} where the id belongs, such as https://example.com/orders/${PLACEHOLDER}`,
      ),
    ];
  }
  return [];
}

function urlProblem(code: string, message: string, position?: number): Problem {
  return position === undefined ? { path: 'url', code, message } : { path: 'url', code, message, position };
}

/** What the URL parser would drop, cut or replace without a word. */
function checkCharacters(url: string): Problem | undefined {
  if (url.length > URL_CHARACTERS_MAX) {
    return urlProblem(
      'url_too_long',
      `The URL has ${url.length} characters: write at most ${URL_CHARACTERS_MAX}`,
      URL_CHARACTERS_MAX,
    );
  }
  const control = url.search(/[\u0000-\u001f\u007f-\u009f]/);
  if (control !== -1) {
    return urlProblem(
      'url_control_character',
      `There is a control character (${codePointName(url, control)}): remove it, or write it percent-encoded`,
      control,
    );
  }
  const surrogate = url.search(/\p{Surrogate}/u);
  if (surrogate !== -1) {
    return urlProblem(
      'url_not_unicode',
      `There is half a character (${codePointName(url, surrogate)}): write the whole character, or its percent-encoded UTF-8`,
      surrogate,
    );
  }
  return undefined;
}

function codePointName(text: string, position: number): string {
  return `U+${text.charCodeAt(position).toString(16).toUpperCase().padStart(4, '0')}`;
}

type Misspelling = { code: string; position: number; message: string };

/** `${…}` with another name, and what only looks like the placeholder. */
function findMisspeltPlaceholders(text: string): Misspelling[] {
  const found: Misspelling[] = [];
  for (let at = text.indexOf('${'); at !== -1; at = text.indexOf('${', at + 2)) {
    const end = text.indexOf('}', at);
    if (end === -1) {
      found.push({
        code: 'url_placeholder_unclosed',
        position: at,
        message: `The placeholder has no closing brace: write ${PLACEHOLDER}`,
      });
      break;
    }
    const name = text.slice(at + 2, end);
    if (name !== 'orderId') {
      found.push({
        code: 'url_placeholder_name',
        position: at,
        message: isLikeOrderId(name)
          ? `The name in \${${name}} is not exactly orderId: write ${PLACEHOLDER}`
          : `There is no placeholder \${${name}}, the order id is the only one: write ${PLACEHOLDER}`,
      });
    }
  }
  for (const { 0: like, 1: name = '', index } of text.matchAll(/(?<!\$|%24)\{([^{}]*)\}/gi)) {
    if (!isLikeOrderId(name)) continue;
    found.push({
      code: 'url_placeholder_dollar',
      position: index,
      message: `The $ is missing in front of ${like}: write ${PLACEHOLDER}`,
    });
  }
  for (const { 0: like, 1: name = '', index } of text.matchAll(
    /(?:\$|%24)?(?:\{|%7b)([^{}%]*)(?:\}|%7d)/gi,
  )) {
    if (!like.includes('%') || !isLikeOrderId(name)) continue;
    found.push({
      code: 'url_placeholder_encoded',
      position: index,
      message: `A placeholder is not percent-encoded: write ${PLACEHOLDER} instead of ${like}`,
    });
  }
  return found;
}

function isLikeOrderId(name: string): boolean {
  return name.toLowerCase().replace(/[^a-z]/g, '') === 'orderid';
}

/** The parts of the URL, and what may not stand in each of them. */
function checkStructure(url: string): Problem[] {
  const scheme = /^ *https?:\/\/(?=[^/\\])/i.exec(url);
  if (scheme === null) return [checkStart(url)];

  const authorityStart = scheme[0].length;
  const authorityEnd = authorityStart + (url.slice(authorityStart).match(/^[^/?#]*/)?.[0].length ?? 0);
  const backslash = url.slice(0, url.match(/[?#]/)?.index).indexOf('\\');
  if (backslash !== -1) {
    return [
      urlProblem(
        'url_backslash',
        'There is a backslash: write / or, for the character itself, %5C',
        backslash,
      ),
    ];
  }

  const authority = url.slice(authorityStart, authorityEnd);
  const problems = [
    ...checkAuthority(authority, authorityStart),
    ...checkPlaceholdersAfter(url, authorityEnd),
  ];
  if (problems.length > 0) return problems;

  const serialised = serialiseAround(url);
  if (serialised === undefined) return [describeUnparsable(authority, authorityStart)];
  if (serialised.parsed.port === '0') {
    return [
      urlProblem(
        'url_port',
        'Nobody can be called on port 0: write a port from 1 to 65535',
        authorityStart + authority.lastIndexOf(':') + 1,
      ),
    ];
  }
  if (serialised.pieces.length !== url.split(PLACEHOLDER).length) {
    return [
      urlProblem(
        'url_placeholder_removed',
        `A “..” further on in the path takes ${PLACEHOLDER} away again: write the path that it comes to`,
        url.indexOf(PLACEHOLDER),
      ),
    ];
  }
  return [];
}

/** Why a text does not start with `http://host` or `https://host`. */
function checkStart(url: string): Problem {
  const placeholder = url.indexOf(PLACEHOLDER);
  const separator = url.indexOf('://');
  if (placeholder !== -1 && placeholder < separator) {
    return urlProblem(
      'url_placeholder_scheme',
      `The scheme is the same for every order: write http:// or https:// and ${PLACEHOLDER} in the path or the query`,
      placeholder,
    );
  }
  const scheme = /^ *([a-z][a-z0-9+.-]*):/i.exec(url)?.[1];
  if (scheme !== undefined && /^https?$/i.test(scheme)) {
    return urlProblem(
      'url_host',
      `There is no host after ${scheme}: write ${scheme}://, the host and the path, such as ${scheme}://example.com/orders`,
      url.indexOf(':') + 1,
    );
  }
  // `example.com:8080/path` has, to a parser, the scheme `example.com:`.
  const looksLikeHostAndPort = /^ *[^/?#:]+:\d+(?:[/?#]|$)/.test(url);
  if (scheme !== undefined && !looksLikeHostAndPort) {
    return urlProblem(
      'url_scheme',
      `The scheme ${scheme}: cannot be called: write http:// or https:// instead`,
      url.search(/[^ ]/),
    );
  }
  if (looksLikeHostAndPort) {
    return urlProblem('url_relative', 'The URL has no scheme: write http:// or https:// in front of it', 0);
  }
  return urlProblem(
    'url_relative',
    `The URL is not whole: write it with scheme and host, such as https://example.com/orders/${PLACEHOLDER}`,
    0,
  );
}

/** `user:password@host:port`; `start` is where it stands in the URL. */
function checkAuthority(authority: string, start: number): Problem[] {
  const problems: Problem[] = [];
  const hostStart = authority.lastIndexOf('@') + 1;
  if (hostStart > 0) {
    problems.push(
      urlProblem(
        'url_credentials',
        'A call carries no user name and no password: write the URL without the part up to the @',
        start,
      ),
    );
  }
  const portStart = hostStart + (/:[^\]]*$/.exec(authority.slice(hostStart))?.index ?? Infinity);
  for (const at of placeholdersIn(authority)) {
    const [code, part] =
      at < hostStart
        ? ['url_placeholder_user', 'user name and password']
        : at > portStart
          ? ['url_placeholder_port', 'port']
          : ['url_placeholder_host', 'host'];
    problems.push(
      urlProblem(
        code as string,
        `The order id cannot be part of the ${part}, the destination is the same for every order: write ${PLACEHOLDER} in the path or the query`,
        start + at,
      ),
    );
  }
  return problems;
}

function checkPlaceholdersAfter(url: string, authorityEnd: number): Problem[] {
  const problems: Problem[] = [];
  const fragmentStart = url.includes('#') ? url.indexOf('#') : Infinity;
  for (const at of placeholdersIn(url)) {
    if (at < authorityEnd) continue;
    if (at > fragmentStart) {
      problems.push(
        urlProblem(
          'url_placeholder_fragment',
          `What follows # is never sent: write ${PLACEHOLDER} in the path or the query`,
          at,
        ),
      );
      continue;
    }
    const percent = /%[0-9a-f]?$/i.exec(url.slice(at - 2, at));
    if (percent !== null) {
      // The callee would read the first digits of the id as the end of an escape: %${orderId} with 41… is an A.
      problems.push(
        urlProblem(
          'url_placeholder_percent',
          `The % in front of ${PLACEHOLDER} would make an escape of the first digits: write %25 for a percent sign`,
          at - percent[0].length,
        ),
      );
    }
  }
  return problems;
}

function placeholdersIn(text: string): number[] {
  const positions: number[] = [];
  for (let at = text.indexOf(PLACEHOLDER); at !== -1; at = text.indexOf(PLACEHOLDER, at + 1))
    positions.push(at);
  return positions;
}

/** With a scheme and neither placeholder nor user in the authority, only the host or the port can be wrong. */
function describeUnparsable(authority: string, start: number): Problem {
  const [, host = authority, port] = /^(\[[^\]]*\]|[^:]*):([^:]*)$/.exec(authority) ?? [];
  if (port !== undefined && URL.canParse(`http://${host}/`)) {
    return urlProblem(
      'url_port',
      `The port ${JSON.stringify(port)} is wrong: write a number from 1 to 65535`,
      start + host.length + 1,
    );
  }
  return urlProblem(
    'url_host',
    host === ''
      ? 'There is no host: write a name such as example.com, an IPv4 address, or an IPv6 address in brackets'
      : `The host ${JSON.stringify(host)} is wrong: write a name such as example.com, an IPv4 address, or an IPv6 address in brackets`,
    start,
  );
}

// ------------------------------------------------------------------------------------------------------------ payload

function checkPayload({ method, payload = '' }: Template): Problem[] {
  if (payload === '') return [];
  if (method === 'GET') {
    return [
      payloadProblem(
        'payload_with_get',
        'A GET call carries no payload: remove the payload, or write POST as the method',
      ),
    ];
  }
  const bytes = Buffer.byteLength(payload);
  if (bytes > PAYLOAD_BYTES_MAX) {
    return [
      payloadProblem(
        'payload_too_large',
        `The payload has ${bytes} bytes: write at most ${PAYLOAD_BYTES_MAX} (64 KiB)`,
      ),
    ];
  }
  const surrogate = payload.search(/\p{Surrogate}/u);
  if (surrogate !== -1) {
    return [
      payloadProblem(
        'payload_not_unicode',
        `There is half a character (${codePointName(payload, surrogate)}): write the whole character, or its \\u escapes`,
        surrogate,
      ),
    ];
  }
  const wrong = checkJson(payload);
  return wrong === undefined ? [] : [wrong];
}

function payloadProblem(code: string, message: string, position?: number): Problem {
  return position === undefined
    ? { path: 'payload', code, message }
    : { path: 'payload', code, message, position };
}

/** One digit stands for the id: what is JSON with one digit is JSON with more, `\u` escapes aside. */
const DIGIT = '1';

function checkJson(payload: string): Problem | undefined {
  const wrong = jsonSyntaxProblem(payload.replaceAll(PLACEHOLDER, DIGIT));
  if (wrong !== undefined) {
    const position = positionAsTyped(payload, wrong.position);
    const { line, column } = lineAndColumn(payload, position);
    const misspelt = findMisspeltInPayload(payload)[0];
    const hint = misspelt === undefined ? '' : `. ${misspelt.message}`;
    return payloadProblem(
      'payload_not_json',
      `The payload is not JSON at line ${line}, column ${column}: ${wrong.message}${hint}`,
      position,
    );
  }
  // Inside a string `\u004${orderId}` would lose the first digit of every id to the escape.
  for (const at of placeholdersIn(payload)) {
    const cut = /\\u[0-9a-f]{0,3}$/i.exec(payload.slice(Math.max(0, at - 5), at))?.[0];
    if (cut === undefined || isEscaped(payload, at - cut.length)) continue;
    return payloadProblem(
      'payload_placeholder_in_escape',
      `The escape ${cut} in front of ${PLACEHOLDER} is not whole: write all four hexadecimal digits of it`,
      at - cut.length,
    );
  }
  return undefined;
}

/** Whether the backslash at `position` is itself the second half of `\\\\`. */
function isEscaped(text: string, position: number): boolean {
  let backslashes = 0;
  while (text[position - backslashes - 1] === '\\') backslashes++;
  return backslashes % 2 === 1;
}

/** The place in the template of a place in the text whose placeholders were replaced by one digit each. */
function positionAsTyped(payload: string, position: number): number {
  let shift = 0;
  for (const at of placeholdersIn(payload)) {
    if (at - shift >= position) break;
    shift += PLACEHOLDER.length - DIGIT.length;
  }
  return Math.min(position + shift, payload.length);
}

function lineAndColumn(text: string, position: number): { line: number; column: number } {
  const lines = text.slice(0, position).split('\n');
  return { line: lines.length, column: (lines[lines.length - 1] as string).length + 1 };
}

/** In JSON text a brace is at home, so only what is very probably meant as the placeholder is found. */
function findMisspeltInPayload(payload: string): Misspelling[] {
  const found: Misspelling[] = [];
  for (const { 0: like, 1: dollar = '', 2: name = '', index } of payload.matchAll(
    /(\$?)\{([^{}"]{1,40})\}/g,
  )) {
    if (like === PLACEHOLDER || (dollar === '' && !isLikeOrderId(name))) continue;
    found.push({
      code: 'payload_placeholder',
      position: index,
      message: `${like} is not the placeholder and is sent as it stands: write ${PLACEHOLDER} for the order id`,
    });
  }
  return found;
}

// ----------------------------------------------------------------------------------------------------------- warnings

function findWarnings({ url, method, payload = '' }: Template): Warning[] {
  const warnings: Warning[] = findMisspeltInPayload(payload).map(({ message, position }) => ({
    path: 'payload',
    message,
    position,
  }));
  if (method === 'POST' && !url.includes(PLACEHOLDER) && !payload.includes(PLACEHOLDER)) {
    warnings.push({
      path: 'payload',
      message: `Neither the URL nor the payload has a placeholder, so the callee cannot tell which order was closed: write ${PLACEHOLDER} into one of them, such as {"id": ${PLACEHOLDER}}`,
    });
  }
  const fragment = url.indexOf('#');
  if (fragment !== -1) {
    warnings.push({ path: 'url', message: 'What follows # is never sent', position: fragment });
  }
  return warnings;
}
