/** What the call log says of a failed call is what helps: the remedy, and no text of a library. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ProtocolError } from '../src/caller/answer-head.ts';
import { describeExchangeError, describeStatus, describeTlsError } from '../src/caller/failure.ts';
import { assertFailed, withCallee } from './support/callee-calls.ts';
import { createAuthority } from './support/tls-authority.ts';

const URL_CALLED = 'https://partner.example/hook/5?x=1';

function status(status: number, headers: Record<string, string> = {}, bodyStart = '', url = URL_CALLED) {
  return describeStatus({ status, headers, bodyStart }, url);
}

describe('the detail of a status', () => {
  test('of a redirect names the URL to put in, also of one that is relative', () => {
    for (const [location, told] of [
      ['https://new.example/hook/5', 'https://new.example/hook/5'],
      ['/v2/hook/5', 'https://partner.example/v2/hook/5'],
      ['../5', 'https://partner.example/5'],
      ['//other.example/5', 'https://other.example/5'],
      ['https://user:secret@new.example/5#part', 'https://new.example/5'],
      ['HTTP://NEW.example/ä', 'http://new.example/%C3%A4'],
    ] as const) {
      assert.equal(
        status(301, { location }),
        `The callee answered 301: redirects are not followed: put ${told} into the URL, with \${orderId} in place of the id`,
      );
    }
  });

  test('of a redirect that leads nowhere we could call names none', () => {
    for (const location of [
      'ftp://new.example/',
      'javascript:alert(1)',
      'http://[',
      `https://a.example/${'x'.repeat(500)}`,
    ]) {
      const detail = status(307, { location });
      assert.match(
        detail,
        /^The callee answered 307: redirects are not followed: put the URL where it wants/,
      );
      assert.ok(detail.length < 200);
    }
    assert.equal(status(302), 'The callee answered 302');
    assert.equal(status(304, { location: 'https://a.example/' }), 'The callee answered 304');
  });

  test('says what to do about it, where there is something to do', () => {
    for (const [code, says] of [
      [401, /credentials.*without/],
      [403, /let it accept calls from here/],
      [404, /check the URL/],
      [405, /check the method/],
      [411, /length/],
      [413, /payload is too large/],
      [415, /application\/json/],
      [429, /lower the concurrency or the batch size/],
      [500, /its own log/],
      [502, /a proxy before the callee/],
      [503, /at the moment/],
      [504, /waited for it in vain/],
    ] as const) {
      const detail = status(code);
      assert.ok(detail.startsWith(`The callee answered ${code}: `), detail);
      assert.match(detail, says);
    }
    assert.equal(status(418), 'The callee answered 418');
  });

  test('knows servers that say they were spoken to without TLS', () => {
    const plain = URL_CALLED.replace('https', 'http');
    for (const body of [
      '<h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port',
      'Client sent an HTTP request to an HTTPS server.\n',
      "Reason: You're speaking plain HTTP to an SSL-enabled server port.",
    ]) {
      assert.match(status(400, {}, body, plain), /speaks TLS on this port: write https:\/\/ in the URL$/);
      assert.equal(status(400, {}, body), 'The callee answered 400');
    }
    assert.equal(status(400, {}, 'Bad request', plain), 'The callee answered 400');
  });
});

describe('the detail of trouble with TLS', () => {
  const tls = (code: string | undefined, message = '', more: object = {}) =>
    describeTlsError(Object.assign(new Error(message), { ...more }, code === undefined ? {} : { code }))
      .detail;

  test('of an unknown authority names the setting, and no flag of Node.js', () => {
    for (const code of [
      'DEPTH_ZERO_SELF_SIGNED_CERT',
      'SELF_SIGNED_CERT_IN_CHAIN',
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      'UNABLE_TO_GET_ISSUER_CERT',
      'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
      'CERT_SIGNATURE_FAILURE',
    ]) {
      const detail = tls(code, 'self-signed; try running Node.js with --use-system-ca');
      assert.match(detail, /ORDERHOOK_EXTRA_CA_FILE/);
      assert.ok(detail.endsWith(`(${code})`));
      assert.doesNotMatch(detail, /Node\.js|--/);
    }
  });

  test('of a certificate says what is wrong with it', () => {
    assert.match(tls('CERT_HAS_EXPIRED'), /has expired: the callee needs a new one/);
    assert.match(tls('CERT_NOT_YET_VALID'), /clocks/);
    const other = { host: 'a.example', cert: { subjectaltname: 'DNS:b.example' } };
    assert.match(
      tls('ERR_TLS_CERT_ALTNAME_INVALID', 'x', other),
      /not for a\.example but for DNS:b\.example/,
    );
    const many = { host: 'a.example', cert: { subjectaltname: 'DNS:b.example, '.repeat(100) } };
    assert.ok(tls('ERR_TLS_CERT_ALTNAME_INVALID', 'x', many).length < 350);
  });

  test('never holds the text of OpenSSL', () => {
    const raw = '40DD:error:0A00010B:SSL routines:some_function:some reason:../deps/openssl/ssl/some.c:77:\n';
    for (const [code, reason, says] of [
      ['ERR_SSL_WRONG_VERSION_NUMBER', 'wrong version number', /^What answers on this port speaks no TLS/],
      ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'x', /1\.2 or newer/],
      ['ERR_SSL_SOMETHING_NEW', 'some reason', /^TLS failed: some reason \(ERR_SSL_SOMETHING_NEW\)$/],
      [undefined, undefined, /^TLS failed: no reason was given$/],
    ] as const) {
      const detail = tls(code, raw, reason === undefined ? {} : { reason });
      assert.match(detail, says);
      assert.doesNotMatch(detail, /routines|\.c:|0A00010B/);
    }
    const late = describeExchangeError(
      Object.assign(new Error(raw), { reason: 'tlsv13 alert' }),
      false,
      URL_CALLED,
    );
    assert.deepEqual(late, { reason: 'tls', detail: 'TLS failed: tlsv13 alert' });
  });
});

describe('plain HTTP to a port of TLS', () => {
  test('is told by its alert', () =>
    withCallee(
      (socket) => socket.write(Buffer.from([0x15, 3, 1, 0, 2, 2, 70])),
      async ({ call }) =>
        assertFailed(await call(), 'protocol', /speaks TLS on this port: write https:\/\/ in the URL$/),
    ));

  test('is guessed by the port when the callee just hangs up', () => {
    const told = (url: string) => describeExchangeError(undefined, false, url).detail;
    for (const url of ['http://a.example:443/5', 'http://a.example:8443/?5', 'http://[::1]:9443/']) {
      assert.match(told(url), /without an answer; perhaps it speaks TLS on this port/, url);
    }
    for (const url of [
      'http://a.example/443/',
      'http://a.example:80/:443/',
      'https://a.example:8443/',
      'http://a.example:4430/',
    ]) {
      assert.equal(told(url), 'The callee closed the connection without an answer', url);
    }
    assert.doesNotMatch(describeExchangeError(undefined, true, 'http://a.example:443/').detail, /TLS/);
    const text = describeExchangeError(
      new ProtocolError('no status line: "SSH-2.0"'),
      true,
      URL_CALLED,
    ).detail;
    assert.equal(text, 'The answer is not HTTP/1.1: no status line: "SSH-2.0"');
  });

  test('over TLS a callee without it is told by the remedy', () =>
    withCallee(
      () => {},
      async ({ callee, call }) =>
        assertFailed(await call(`https://127.0.0.1:${callee.port}/`), 'tls', /write http:\/\/ in the URL/),
      { callee: { onAccept: (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n') } },
    ));
});

test('a redirect is logged with the URL to put in, and an unknown authority with the setting', () =>
  withCallee(
    (socket) => socket.write('HTTP/1.1 308 x\r\nLocation: /new\r\nContent-Length: 0\r\n\r\n'),
    async ({ callee, call }) => {
      assertFailed(
        await call('/7'),
        'status',
        new RegExp(`put http://127\\.0\\.0\\.1:${callee.port}/new into the URL`),
      );
      await withCallee(
        () => {},
        async (secured) => assertFailed(await secured.call(), 'tls', /ORDERHOOK_EXTRA_CA_FILE/),
        { callee: { tls: createAuthority().issue(['127.0.0.1']) } },
      );
    },
  ));
