/**
 * Judges a crash run from what stands outside of the process: the callee's log, the acknowledged closings, and when the
 * process was killed. Pure.
 *
 * A life is the time from one start of the process to the next; each call belongs to the life in which it was received.
 * Where there are several nodes, each has its own lives, and a call belongs to a life of the node that made it. A fault that
 * a node lives through, such as a database that is away, is judged as its death, since it may cost as much. When a node is
 * paused, another may make a call sooner than the one that the paused node had begun arrives; that one was running.
 * A call that the callee cut off, on a connection that it had answered on before, is followed by another for the same order
 * within one life: that is promised, and is counted nowhere. One that it cut off on a fresh connection is a failed one.
 *
 * A call is *repeated* when the callee had answered an earlier call for the same interface and order with 200, or when
 * it comes sooner after a 500 than the order could be due; either way its outcome was not committed. What is repeated in
 * a later life is charged to the end of the life of the call before it:
 *
 *     life 1  ──A: 200──B: 200──C received──┤ killed          charged to this kill: B, answered before it,
 *     life 2     ──C answered──────────B──C──D──               and C, running when it came
 *
 * The bound, for each kill and interface, of section 5 of the contract:
 *
 *     repeated after an answer before the kill   <=  concurrency + answers in the last 50 ms
 *     repeated after a call that was running     <=  concurrency
 *
 * The first holds although "finished" is counted here at the callee, earlier than the process hears of it: what the
 * callee answered longer ago than 50 ms, and the process did not count as finished longer ago than that, was running at
 * one and the same moment, so it is the concurrency at most.
 *
 * The last 50 ms are those before the last call that the process started, for any interface: on a busy machine it may
 * stand still for longer than 50 ms, without a processor or waiting for the disk, before the kill finds it. It commits
 * nothing then, and starts nothing either, so the bound must hold as of the moment at which it stopped. What was
 * answered from there to the moment at which the process was seen to be gone counts as in the window. How often more
 * was repeated than with 50 ms before the kill itself is counted too (`killBound`).
 */
import type { Death } from './node-process.ts';

export type CalleeCall = {
  /** 0 when absent. */
  readonly node?: number;
  readonly interfaceName: string;
  readonly orderId: string;
  readonly status: 200 | 500;
  readonly receivedAt: number;
  /** Undefined: never. */
  answeredAt: number | undefined;
  /**
   * The callee closed a connection that had carried other calls, instead of answering. The caller makes such a call once
   * more, at once, within the same call: it is running until that one ends.
   */
  wasCutOff?: boolean;
};

/** Those of one node are in the order of time. */
export type Life = {
  readonly node?: number;
  readonly spawnedAt: number;
  readonly death: Death;
  /** When the fault began that this node lived through. */
  readonly faultyFrom?: number;
};

export type JudgedInterface = {
  readonly name: string;
  readonly concurrency: number;
  /** Orders that it is to be called for, all of them acknowledged. */
  readonly wanted: ReadonlySet<string>;
  /** Orders that its filter keeps out. */
  readonly unwanted: ReadonlySet<string>;
};

export type RepeatCount = {
  readonly life: number;
  readonly interfaceName: string;
  readonly repeatedAfterAnswer: number;
  readonly repeatedWhileRunning: number;
  readonly bound: number;
  /** The same with the last 50 ms before the signal was sent. */
  readonly killBound: number;
  /** Answers in the last 50 ms before the signal was sent: above 0 the interface was at work. */
  readonly answeredLast: number;
};

export type Verdict = {
  readonly violations: readonly string[];
  readonly delivered: number;
  readonly lost: number;
  readonly repeats: readonly RepeatCount[];
};

/** [contract, section 5] What finished in the last 50 ms may be called again. */
export const UNCOMMITTED_MS = 50;
/** An owed order is due after 10 s at the earliest, 10 % less at random; a little less again, for clocks. */
const OWED_MS_MIN = 8_900;

export function judge(given: {
  calls: readonly CalleeCall[];
  lives: readonly Life[];
  interfaces: readonly JudgedInterface[];
  /** From then on owed orders were sent at once, by hand. */
  drainedFrom: number;
}): Verdict {
  const { calls, lives, interfaces, drainedFrom } = given;
  const violations: string[] = [];
  const repeats = new RepeatCounter(lives, calls);
  let [delivered, lost] = [0, 0];
  for (const { name, concurrency, wanted, unwanted } of interfaces) {
    const callsOf = new Map<string, CalleeCall[]>();
    for (const call of calls) {
      if (call.interfaceName !== name) continue;
      const ofOrder = callsOf.get(call.orderId);
      if (ofOrder) ofOrder.push(call);
      else callsOf.set(call.orderId, [call]);
      repeats.noteAnswer(call);
    }
    for (const orderId of wanted) {
      if (callsOf.get(orderId)?.some(isDelivery)) delivered += 1;
      else {
        lost += 1;
        violations.push(`${name}: order ${orderId} was acknowledged and never delivered`);
      }
    }
    for (const [orderId, ofOrder] of callsOf) {
      if (unwanted.has(orderId))
        violations.push(`${name}: order ${orderId} was called in spite of the filter`);
      else if (!wanted.has(orderId))
        violations.push(`${name}: there is no order "${orderId}", which was called`);
      violations.push(...repeats.note(ofOrder, drainedFrom));
    }
    violations.push(...repeats.check(name, concurrency));
  }
  return { violations, delivered, lost, repeats: repeats.counts };
}

function isDelivery({ status, answeredAt }: CalleeCall): boolean {
  return status === 200 && answeredAt !== undefined;
}

/** Of one life and one interface. */
type Account = {
  repeatedAfterAnswer: number;
  repeatedWhileRunning: number;
  lastAnswers: number;
  lastAnswersBeforeKill: number;
};

function emptyAccount(): Account {
  return { repeatedAfterAnswer: 0, repeatedWhileRunning: 0, lastAnswers: 0, lastAnswersBeforeKill: 0 };
}

class RepeatCounter {
  readonly counts: RepeatCount[] = [];
  readonly #lives: readonly Life[];
  /** By node: its lives. */
  readonly #livesOf = new Map<number, number[]>();
  /** By life: when it started its last call. */
  readonly #lastCalledAt: number[];
  /** By life, of the interface that is judged now. */
  #accounts: Account[];

  constructor(lives: readonly Life[], calls: readonly CalleeCall[]) {
    this.#lives = lives;
    this.#lastCalledAt = lives.map(({ spawnedAt }) => spawnedAt);
    this.#accounts = lives.map(emptyAccount);
    for (const [life, { node = 0 }] of lives.entries()) {
      const ofNode = this.#livesOf.get(node);
      if (ofNode) ofNode.push(life);
      else this.#livesOf.set(node, [life]);
    }
    for (const call of calls) {
      const life = this.#lifeOf(call);
      this.#lastCalledAt[life] = Math.max(this.#lastCalledAt[life] as number, call.receivedAt);
    }
  }

  noteAnswer(call: CalleeCall): void {
    const { answeredAt } = call;
    if (answeredAt === undefined) return;
    const life = this.#lifeOf(call);
    const { sentAt, endedAt } = (this.#lives[life] as Life).death;
    if (answeredAt > endedAt) return;
    const account = this.#accounts[life] as Account;
    const stoodStillAt = Math.min(sentAt, this.#lastCalledAt[life] as number);
    if (answeredAt >= stoodStillAt - UNCOMMITTED_MS) account.lastAnswers += 1;
    if (answeredAt >= sentAt - UNCOMMITTED_MS) account.lastAnswersBeforeKill += 1;
  }

  /** All calls for one order, in the order in which they were received. */
  *note(calls: readonly CalleeCall[], drainedFrom: number): Generator<string> {
    for (const [index, call] of calls.entries()) {
      const before = calls.slice(0, index).findLast(isDelivery) ?? calls[index - 1];
      if (!before) continue;
      const answeredAt = before.answeredAt ?? Number.POSITIVE_INFINITY;
      const wasDue = call.receivedAt >= drainedFrom || call.receivedAt - answeredAt >= OWED_MS_MIN;
      if (before.status === 500 && wasDue) continue;
      const life = this.#lifeOf(before);
      // It came on a fresh connection, which cannot be cut off in this sense, or it is another attempt.
      const isItsOther = !call.wasCutOff || call.receivedAt - before.receivedAt >= OWED_MS_MIN;
      if (before.wasCutOff && isItsOther && this.#lifeOf(call) === life) continue;
      const { death } = this.#lives[life] as Life;
      const again = this.#lifeOf(call);
      if (
        again !== life &&
        before.receivedAt >= (this.#lives[again]?.faultyFrom ?? Number.POSITIVE_INFINITY)
      ) {
        (this.#accounts[again] as Account).repeatedWhileRunning += 1;
        continue;
      }
      const what = `${call.interfaceName}: order ${call.orderId}, answered ${before.status} in life ${life}, was called again`;
      const how = `, by life ${again}, ${Math.round(call.receivedAt - before.receivedAt)} ms later`;
      if (again === life) yield `${what} in the same life${how}`;
      else if (death.signal === 'SIGTERM') yield `${what} after a stop by SIGTERM${how}`;
      else if (answeredAt <= death.endedAt) (this.#accounts[life] as Account).repeatedAfterAnswer += 1;
      else (this.#accounts[life] as Account).repeatedWhileRunning += 1;
    }
  }

  /** Closes the account of one interface. */
  *check(interfaceName: string, concurrency: number): Generator<string> {
    const accounts = this.#accounts;
    this.#accounts = this.#lives.map(emptyAccount);
    for (const [life, { death }] of this.#lives.entries()) {
      if (death.signal !== 'SIGKILL') continue;
      const { repeatedAfterAnswer, repeatedWhileRunning, lastAnswers, lastAnswersBeforeKill } = accounts[
        life
      ] as Account;
      const bound = concurrency + lastAnswers;
      const killBound = concurrency + lastAnswersBeforeKill;
      this.counts.push({
        life,
        interfaceName,
        repeatedAfterAnswer,
        repeatedWhileRunning,
        bound,
        killBound,
        answeredLast: lastAnswersBeforeKill,
      });
      const what = `${interfaceName}, kill of life ${life}:`;
      if (repeatedAfterAnswer > bound) {
        yield `${what} ${repeatedAfterAnswer} answered calls were repeated, more than ${bound}`;
      }
      if (repeatedWhileRunning > concurrency) {
        yield `${what} ${repeatedWhileRunning} running calls were repeated, more than ${concurrency}`;
      }
    }
  }

  #lifeOf({ node = 0, receivedAt }: CalleeCall): number {
    const lives = this.#livesOf.get(node) ?? [];
    let [first, last] = [0, lives.length - 1];
    while (first < last) {
      const middle = Math.ceil((first + last) / 2);
      if ((this.#lives[lives[middle] as number] as Life).spawnedAt > receivedAt) last = middle - 1;
      else first = middle;
    }
    return lives[first] as number;
  }
}
