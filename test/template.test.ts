import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ORDER_ID_MAX, PAYLOAD_BYTES_MAX, URL_CHARACTERS_MAX } from '../src/model/limits.ts';
import { checkTemplate, compileTemplate, PLACEHOLDER, type Template } from '../src/template/template.ts';

function problemsOf(template: Template): [code: string, position: number | undefined][] {
  return checkTemplate(template).problems.map(({ code, position }) => [code, position]);
}

function assertRefused(template: Template, code: string, position: number | undefined, says: RegExp): void {
  const { problems } = checkTemplate(template);
  assert.deepEqual(
    problems.map((problem) => [problem.code, problem.position]),
    [[code, position]],
  );
  assert.match(problems[0]!.message, says);
}

describe('the table of URLs in the contract, section 2.1', () => {
  for (const url of [
    'http://dev.environment.com/${orderId}',
    'http://dev.environment.com/path/?data=${orderId}',
    'http://dev.environment.com/path/${orderId}?update=true',
    'https://mydomain.com/a/whatever${orderId}whatever',
  ]) {
    for (const method of ['GET', 'POST'] as const) {
      it(`${url} is valid for ${method}`, () => {
        assert.deepEqual(checkTemplate({ url, method }), { problems: [], warnings: [] });
        assert.equal(
          compileTemplate({ url, method }).fill('10000702652').url,
          url.replace(PLACEHOLDER, '10000702652'),
        );
      });
    }
  }

  for (const method of ['GET', 'POST'] as const) {
    it(`{orderId} is refused for ${method}: the $ is missing`, () => {
      assertRefused(
        { url: 'http://dev.environment.com/?data={orderId}', method },
        'url_placeholder_dollar',
        33,
        /^The \$ is missing in front of \{orderId\}: write \$\{orderId\}$/,
      );
    });

    it(`\${order id} is refused for ${method}: the name is not exactly orderId`, () => {
      assertRefused(
        { url: 'http://dev.environment.com/?data=${order id}', method },
        'url_placeholder_name',
        33,
        /^The name in \$\{order id\} is not exactly orderId: write \$\{orderId\}$/,
      );
    });
  }

  it('a URL without the placeholder is refused for GET', () => {
    assertRefused(
      { url: 'http://dev.environment.com/', method: 'GET' },
      'url_placeholder_missing',
      undefined,
      /GET.*write \$\{orderId\}/,
    );
  });

  it('a URL without the placeholder is valid for POST, with a warning when the payload has none either', () => {
    const url = 'http://dev.environment.com/';
    assert.deepEqual(checkTemplate({ url, method: 'POST', payload: '{"id": ${orderId}}' }), {
      problems: [],
      warnings: [],
    });
    for (const payload of [undefined, '', '{"id": 1}']) {
      const { problems, warnings } = checkTemplate({ url, method: 'POST', payload });
      assert.deepEqual(problems, []);
      assert.equal(warnings.length, 1);
      assert.equal(warnings[0]?.path, 'payload');
      assert.match(warnings[0]?.message ?? '', /^Neither the URL nor the payload has a placeholder/);
    }
  });
});

describe('what a URL may not be', () => {
  const refused: [url: string, code: string, position: number | undefined, says: RegExp][] = [
    ['ftp://example.com/${orderId}', 'url_scheme', 0, /ftp: cannot be called: write http:\/\/ or https:\/\//],
    [' mailto:a@example.com?subject=${orderId}', 'url_scheme', 1, /mailto:/],
    ['javascript:alert(${orderId})', 'url_scheme', 0, /write http:\/\/ or https:\/\//],
    ['${orderId}://example.com/', 'url_placeholder_scheme', 0, /write http:\/\/ or https:\/\//],
    ['http${orderId}://example.com/', 'url_placeholder_scheme', 4, /scheme is the same/],
    ['http://${orderId}.example.com/', 'url_placeholder_host', 7, /part of the host.*path or the query/],
    ['http://${orderId}/', 'url_placeholder_host', 7, /part of the host/],
    ['http://example.com:${orderId}/', 'url_placeholder_port', 19, /part of the port/],
    ['http://[::1]:8${orderId}/', 'url_placeholder_port', 14, /part of the port/],
    ['http://example.com/a#${orderId}', 'url_placeholder_fragment', 21, /never sent/],
    ['http://example.com#?${orderId}', 'url_placeholder_fragment', 20, /never sent/],
    ['http://me@example.com/${orderId}', 'url_credentials', 7, /no user name.*without the part up to the @/],
    ['http://me:secret@example.com/${orderId}', 'url_credentials', 7, /no password/],
    ['http://@example.com/${orderId}', 'url_credentials', 7, /@/],
    ['http://example.com/${shopId}', 'url_placeholder_name', 19, /only one: write \$\{orderId\}/],
    ['http://example.com/${orderid}', 'url_placeholder_name', 19, /not exactly orderId/],
    ['http://example.com/${ orderId }', 'url_placeholder_name', 19, /not exactly orderId/],
    ['http://example.com/${}', 'url_placeholder_name', 19, /write \$\{orderId\}/],
    ['http://example.com/${${orderId}}', 'url_placeholder_name', 19, /write \$\{orderId\}/],
    ['http://example.com/${orderId', 'url_placeholder_unclosed', 19, /no closing brace/],
    ['http://example.com/{ORDER_ID}', 'url_placeholder_dollar', 19, /\$ is missing/],
    ['http://example.com/%24%7BorderId%7D', 'url_placeholder_encoded', 19, /not percent-encoded/],
    ['http://example.com/$%7borderId}', 'url_placeholder_encoded', 19, /instead of \$%7borderId\}/],
    ['http://example.com/%${orderId}', 'url_placeholder_percent', 19, /write %25/],
    ['http://example.com/?a=%4${orderId}', 'url_placeholder_percent', 22, /write %25/],
    ['http://example.com/${orderId}/..', 'url_placeholder_removed', 19, /takes \$\{orderId\} away/],
    ['http://example.com/${orderId}/%2E%2e/x', 'url_placeholder_removed', 19, /path that it comes to/],
    ['/orders/${orderId}', 'url_relative', 0, /write it with scheme and host/],
    ['orders/${orderId}', 'url_relative', 0, /scheme and host/],
    ['//example.com/${orderId}', 'url_relative', 0, /scheme and host/],
    ['?id=${orderId}', 'url_relative', 0, /scheme and host/],
    ['', 'url_relative', 0, /scheme and host/],
    ['example.com/${orderId}', 'url_relative', 0, /scheme and host/],
    ['localhost:8080/${orderId}', 'url_relative', 0, /write http:\/\/ or https:\/\/ in front/],
    ['http:example.com/${orderId}', 'url_host', 5, /write http:\/\/, the host/],
    ['https:/example.com/${orderId}', 'url_host', 6, /write https:\/\//],
    ['http:///${orderId}', 'url_host', 5, /no host/],
    ['http://:80/${orderId}', 'url_host', 7, /no host/],
    ['http://a b/${orderId}', 'url_host', 7, /host "a b" is wrong/],
    ['http://1.2.3.256/${orderId}', 'url_host', 7, /host "1\.2\.3\.256" is wrong/],
    ['http://::1/${orderId}', 'url_host', 7, /IPv6 address in brackets/],
    ['http://[fe80::1%25eth0]/${orderId}', 'url_host', 7, /is wrong/],
    ['http://example.com:65536/${orderId}', 'url_port', 19, /"65536" is wrong.*1 to 65535/],
    ['http://[::1]:http/${orderId}', 'url_port', 13, /"http" is wrong/],
    ['http://example.com:0/${orderId}', 'url_port', 19, /1 to 65535/],
    ['http:\\\\example.com\\${orderId}', 'url_host', 5, /write http:\/\//],
    ['http://example.com\\@evil.example/${orderId}', 'url_backslash', 18, /write \/ or/],
    ['http://example.com/a\\${orderId}', 'url_backslash', 20, /%5C/],
    ['http://example.com/\t${orderId}', 'url_control_character', 19, /U\+0009.*remove it/],
    ['ht\ntp://example.com/${orderId}', 'url_control_character', 2, /U\+000A/],
    ['http://example.com/${orderId}\u0000', 'url_control_character', 29, /U\+0000/],
    ['http://example.com/${orderId}\u0085', 'url_control_character', 29, /U\+0085/],
    ['http://example.com/${orderId}\ud800', 'url_not_unicode', 29, /U\+D800/],
  ];
  for (const [url, code, position, says] of refused) {
    it(`${JSON.stringify(url)} is refused: ${code}`, () => {
      for (const method of ['GET', 'POST'] as const) assertRefused({ url, method }, code, position, says);
    });
  }

  it('a placeholder in the user info is told beside the user info itself', () => {
    assert.deepEqual(problemsOf({ url: 'http://u:${orderId}@example.com/', method: 'POST' }), [
      ['url_credentials', 7],
      ['url_placeholder_user', 9],
    ]);
  });

  it('every wrong placeholder is told at once', () => {
    assert.deepEqual(problemsOf({ url: 'http://${orderId}/${a}/${b}?{orderId}', method: 'GET' }), [
      ['url_placeholder_name', 18],
      ['url_placeholder_name', 23],
      ['url_placeholder_dollar', 28],
      ['url_placeholder_host', 7],
    ]);
  });

  it('a URL has at most 2,048 characters', () => {
    const longest = `http://example.com/${PLACEHOLDER}`.padEnd(URL_CHARACTERS_MAX, 'x');
    assert.deepEqual(problemsOf({ url: longest, method: 'GET' }), []);
    assertRefused(
      { url: `${longest}x`, method: 'GET' },
      'url_too_long',
      2_048,
      /2049 characters.*at most 2048/,
    );
  });
});

describe('what is sent', () => {
  const sent: [url: string, filled: string, host: string, port: number][] = [
    ['HTTP://Example.COM:80/${orderId}', 'http://example.com/7', 'example.com', 80],
    ['https://example.com:443?o=${orderId}', 'https://example.com/?o=7', 'example.com', 443],
    ['http://example.com:443/${orderId}', 'http://example.com:443/7', 'example.com', 443],
    [
      'https://BÜCHER.example/ä b/${orderId}',
      'https://xn--bcher-kva.example/%C3%A4%20b/7',
      'xn--bcher-kva.example',
      443,
    ],
    ['http://0x7f.1/${orderId}', 'http://127.0.0.1/7', '127.0.0.1', 80],
    ['http://[0:0::0:1]:8080/${orderId}', 'http://[::1]:8080/7', '::1', 8080],
    ['http://example.com/a/./b/../${orderId}', 'http://example.com/a/7', 'example.com', 80],
    ['http://example.com/.${orderId}', 'http://example.com/.7', 'example.com', 80],
    [
      'http://example.com/$${orderId}{x}?${orderId}{$}',
      'http://example.com/$7%7Bx%7D?7{$}',
      'example.com',
      80,
    ],
    ['http://example.com/QZ/Q0Z?Q1Z=${orderId}', 'http://example.com/QZ/Q0Z?Q1Z=7', 'example.com', 80],
    ['http://example.com/Q${orderId}Z', 'http://example.com/Q7Z', 'example.com', 80],
    [' http://example.com/${orderId} ', 'http://example.com/7', 'example.com', 80],
    ['http://example.com/${orderId}#top', 'http://example.com/7#top', 'example.com', 80],
  ];
  for (const [url, filled, host, port] of sent) {
    it(`${url} is sent as ${filled}`, () => {
      assert.deepEqual(problemsOf({ url, method: 'GET' }), []);
      const compiled = compileTemplate({ url, method: 'GET' });
      assert.deepEqual(compiled.fill('7'), { method: 'GET', url: filled });
      assert.deepEqual(compiled.destination, { protocol: new URL(filled).protocol, host, port });
    });
  }

  it('warns that a fragment is not sent', () => {
    assert.deepEqual(checkTemplate({ url: 'http://example.com/${orderId}#top', method: 'GET' }).warnings, [
      { path: 'url', message: 'What follows # is never sent', position: 29 },
    ]);
  });

  it('the payload is sent as typed with the id in it, and no payload is no body', () => {
    const url = 'http://example.com/';
    const payload = '{ "id": ${orderId},\n  "text": "Nr. ${orderId}" }';
    assert.deepEqual(compileTemplate({ url, method: 'POST', payload }).fill('9223372036854775807'), {
      method: 'POST',
      url,
      body: '{ "id": 9223372036854775807,\n  "text": "Nr. 9223372036854775807" }',
    });
    assert.deepEqual(compileTemplate({ url, method: 'POST', payload: '' }).fill('1'), {
      method: 'POST',
      url,
    });
  });

  it('a template that was never checked is our bug', () => {
    assert.throws(() => compileTemplate({ url: '/${orderId}', method: 'GET' }), /never checked/);
  });
});

describe('the payload, section 2.2', () => {
  const url = 'http://example.com/${orderId}';
  for (const payload of [
    '{"id": ${orderId}}',
    '{"id": "${orderId}"}',
    '${orderId}',
    '{"${orderId}": [-${orderId}, 1.${orderId}, "\\\\u${orderId}", "\\u0041${orderId}"]}',
  ]) {
    it(`${payload} is valid`, () => {
      assert.deepEqual(checkTemplate({ url, method: 'POST', payload }), { problems: [], warnings: [] });
    });
  }

  const refused: [payload: string, code: string, position: number, says: RegExp][] = [
    ['{"id": ${orderId}', 'payload_not_json', 17, /line 1, column 18/],
    ['{"id": ${orderId}, x}', 'payload_not_json', 19, /line 1, column 20/],
    [
      '{"a": "${orderId}",\n "b": ${orderId},\n "c": ${orderId} "d"}',
      'payload_not_json',
      55,
      /line 3, column 18/,
    ],
    ['x${orderId}', 'payload_not_json', 0, /line 1, column 1/],
    ['{"id": {orderId}}', 'payload_not_json', 8, /\{orderId\} is not the placeholder.*write \$\{orderId\}/],
    ['{"id": ${order id}}', 'payload_not_json', 7, /\$\{order id\} is not the placeholder/],
    ['{"id": 0${orderId}}', 'payload_not_json', 8, /not JSON/],
    ['{"id": "\\${orderId}"}', 'payload_not_json', 9, /not JSON/],
    ['id=${orderId}', 'payload_not_json', 0, /not JSON/],
    [' ', 'payload_not_json', 1, /not JSON/],
    ['"\\u004${orderId}"', 'payload_placeholder_in_escape', 1, /\\u004.*four/],
    ['"\\\\\\u004${orderId}"', 'payload_placeholder_in_escape', 3, /four/],
    ['{"id": "\ud800${orderId}"}', 'payload_not_unicode', 8, /U\+D800/],
  ];
  for (const [payload, code, position, says] of refused) {
    it(`${JSON.stringify(payload)} is refused: ${code}`, () => {
      assertRefused({ url, method: 'POST', payload }, code, position, says);
      assert.equal(checkTemplate({ url, method: 'POST', payload }).problems[0]?.path, 'payload');
    });
  }

  it('an error behind placeholders is told where it was typed, not where it is after filling', () => {
    const property = fc.property(fc.nat(8), fc.nat(3), (placeholders, lines) => {
      const before = `[${'${orderId}, '.repeat(placeholders)}${'\n'.repeat(lines)}`;
      const { problems } = checkTemplate({ url, method: 'POST', payload: `${before}?]` });
      assert.equal(problems[0]?.position, before.length);
      const column = lines === 0 ? before.length + 1 : 1;
      assert.match(problems[0]?.message ?? '', new RegExp(`at line ${lines + 1}, column ${column}:`));
    });
    fc.assert(property);
  });

  it('a payload has at most 64 KiB of UTF-8', () => {
    const fill = (bytes: number) =>
      '{"id": ${orderId}, "a": ""}'.replace('""', `"${'x'.repeat(bytes - 27)}"`);
    const valid = fill(PAYLOAD_BYTES_MAX);
    assert.equal(Buffer.byteLength(valid), PAYLOAD_BYTES_MAX);
    assert.deepEqual(problemsOf({ url, method: 'POST', payload: valid }), []);
    for (const payload of [fill(PAYLOAD_BYTES_MAX + 1), valid.replace('x', 'é')]) {
      assert.deepEqual(problemsOf({ url, method: 'POST', payload }), [['payload_too_large', undefined]]);
    }
  });

  it('a payload with GET is refused beside what is wrong with the URL', () => {
    assert.deepEqual(problemsOf({ url, method: 'GET', payload: '{}' }), [['payload_with_get', undefined]]);
    assert.deepEqual(problemsOf({ url: 'x', method: 'GET', payload: '{}' }), [
      ['url_relative', 0],
      ['payload_with_get', undefined],
    ]);
    assert.deepEqual(problemsOf({ url, method: 'GET', payload: '' }), []);
  });

  it('warns of what looks like a placeholder inside a string', () => {
    const { problems, warnings } = checkTemplate({
      url,
      method: 'POST',
      payload: '{"a": "${order}", "b": "{orderId}"}',
    });
    assert.deepEqual(problems, []);
    assert.deepEqual(
      warnings.map(({ path, position }) => [path, position]),
      [
        ['payload', 7],
        ['payload', 24],
      ],
    );
  });
});

describe('for any valid template and any id', () => {
  const orderId = fc.bigInt({ min: 1n, max: ORDER_ID_MAX }).map(String);
  const awkward = fc.constantFrom(
    ...'$ { } % %2 %41 . .. / // %2e%2E? ? & = + ; : @ ! \' " < > ` | ^ ~ [ ] \\ ä € 😀 QZ Q0Z Q Z 1 12 0x %7B %24 # a b'.split(
      ' ',
    ),
    ' ',
  );
  const text = fc.array(fc.oneof(awkward, fc.constant(PLACEHOLDER), fc.string({ maxLength: 3 })), {
    maxLength: 8,
  });
  const origin = fc.constantFrom(
    'http://example.com',
    'HTTPS://EXAMPLE.com:443',
    'http://[::1]:80',
    'http://BÜCHER.example:8080',
    'http://0x7f.1',
  );
  const json = fc
    .json({ maxDepth: 2 })
    .chain((value) => fc.tuple(fc.constant(value), fc.array(fc.nat(value.length), { maxLength: 3 })))
    .map(([value, cuts]) => cuts.reduce((all, at) => all.slice(0, at) + PLACEHOLDER + all.slice(at), value));
  const valid = fc
    .record({
      url: fc.tuple(origin, text).map(([start, parts]) => `${start}/${parts.join('')}`),
      method: fc.constantFrom('GET' as const, 'POST' as const),
      payload: fc.option(json, { nil: undefined }),
    })
    .map((template) => (template.method === 'GET' ? { ...template, payload: undefined } : template))
    .filter((template) => checkTemplate(template).problems.length === 0);

  it('the URL is what the URL parser makes of the filled text, the payload the filled text itself', () => {
    const property = fc.property(valid, orderId, (template, id) => {
      const { url, body } = compileTemplate(template).fill(id);
      assert.equal(url, new URL(template.url.replaceAll(PLACEHOLDER, id)).href);
      assert.equal(body, template.payload?.replaceAll(PLACEHOLDER, id));
      if (body !== undefined) JSON.parse(body);
    });
    fc.assert(property, { numRuns: 2_000 });
  });

  it('two orders get requests that differ in the placeholder only', () => {
    // An id that no template holds by chance, so that what is left after taking it out is the template's own text.
    const rare = '8765432187654321876';
    const property = fc.property(valid, orderId, (template, id) => {
      const compiled = compileTemplate(template);
      const one = compiled.fill(id);
      const other = compiled.fill(rare);
      const placeholders = template.url.split(PLACEHOLDER).length;
      assert.equal(other.url.split(rare).length, placeholders);
      assert.equal(other.url.replaceAll(rare, id), one.url);
      assert.equal(other.body?.replaceAll(rare, id), one.body);
      const { host, port, protocol } = compiled.destination;
      const sentTo = new URL(one.url);
      assert.equal(sentTo.hostname.replace(/[[\]]/g, ''), host);
      assert.equal(sentTo.protocol, protocol);
      assert.equal(Number(sentTo.port || (protocol === 'http:' ? 80 : 443)), port);
    });
    fc.assert(property, { numRuns: 2_000 });
  });

  it('no text whatever makes a check throw', () => {
    const anything = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.array(fc.oneof(awkward, fc.string())).map((a) => a.join('')),
    );
    const property = fc.property(anything, anything, (url, payload) => {
      for (const method of ['GET', 'POST'] as const) {
        for (const { position, message } of checkTemplate({ url, method, payload }).problems) {
          assert.ok(position === undefined || position <= Math.max(url.length, payload.length));
          assert.match(message, /write|remove|not JSON/i);
        }
      }
    });
    fc.assert(property);
  });
});
