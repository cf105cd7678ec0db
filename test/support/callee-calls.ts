/** What every test of the caller needs: short limits, one call as a promise, and proof that nothing was left behind. */
import assert from 'node:assert/strict';
import { type CallerSettings, type CallPermission, createCaller } from '../../src/caller/caller.ts';
import type { CallRequest, FailureReason, Outcome } from '../../src/model/outcome.ts';
import { type CalleeOptions, type Script, type ScriptedCallee, startCallee } from './scripted-callee.ts';

/** For tests in which time runs out. All others get enough of it, so that a busy machine fails no test. */
export const SHORT_LIMITS = { connectMs: 300, firstByteMs: 300, exchangeMs: 700 };
const AMPLE_LIMITS = { connectMs: 5_000, firstByteMs: 5_000, exchangeMs: 10_000 };
export const USER_AGENT = 'Orderhook/0.0.0-test';

export type Calling = {
  readonly callee: ScriptedCallee;
  readonly caller: ReturnType<typeof createCaller>;
  /** Calls `path` at the callee, or a whole URL; with `allowPrivate` if nothing else is said. */
  call(target?: string, request?: Partial<CallRequest>, permission?: CallPermission): Promise<Outcome>;
};

/** Runs a test with a callee and a caller, and fails it if either has a connection left that it should not have. */
export async function withCallee(
  script: Script,
  test: (calling: Calling) => Promise<void>,
  settings: Partial<CallerSettings> & { callee?: CalleeOptions } = {},
): Promise<void> {
  const { callee: options, ...callerSettings } = settings;
  const callee = await startCallee(script, options);
  const caller = createCaller({ userAgent: USER_AGENT, limits: AMPLE_LIMITS, ...callerSettings });
  try {
    await test({
      callee,
      caller,
      call: (target = '/', request = {}, permission = { allowPrivate: true }) => {
        const url = target.startsWith('/') ? callee.origin + target : target;
        return new Promise((resolve) => {
          caller.call({ method: 'GET', url, ...request }, permission, resolve);
        });
      },
    });
    assert.equal(caller.callsInFlight, 0);
    await caller.close();
    assert.equal(caller.openConnections, 0);
    // Behind a proxy the callee's connections are the proxy's.
    if (callerSettings.egressProxy === undefined) {
      await until(() => callee.connections.size === 0, 'the callee sees every connection closed');
    }
  } finally {
    await caller.destroy();
    await callee.close();
  }
}

export function assertDelivered(outcome: Outcome, bodyStart?: string): void {
  assert.ok(outcome.delivered, `not delivered: ${JSON.stringify(outcome)}`);
  if (bodyStart !== undefined) assert.equal(outcome.answer.bodyStart, bodyStart);
}

export function assertFailed(outcome: Outcome, reason: FailureReason, detail?: RegExp): void {
  assert.ok(!outcome.delivered, 'delivered');
  assert.equal(outcome.reason, reason, outcome.detail);
  if (detail !== undefined) assert.match(outcome.detail, detail);
}

export async function until(condition: () => boolean, what: string, limitMs = 3_000): Promise<void> {
  const limit = performance.now() + limitMs;
  while (!condition()) {
    assert.ok(performance.now() < limit, `Waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
