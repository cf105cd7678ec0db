import type { CallPermission } from '../../src/caller/caller.ts';
import type { Answer, CallRequest, FailureReason, Outcome } from '../../src/model/outcome.ts';

export function answered(status = 200, headers: Answer['headers'] = {}): Outcome {
  const answer = { status, headers, bodyStart: '' };
  return status >= 200 && status < 300
    ? { delivered: true, answer, durationMs: 1 }
    : { delivered: false, reason: 'status', detail: `The callee answered ${status}.`, answer, durationMs: 1 };
}

export function unanswered(reason: FailureReason = 'refused'): Outcome {
  return { delivered: false, reason, detail: reason, durationMs: 1 };
}

/** Takes the place of the caller: keeps what it was asked to call, and answers as the test says. */
export class FakeCallee {
  readonly calls: CallRequest[] = [];
  running = 0;
  mostRunning = 0;
  /** What comes of the call with this number, 0 and up; undefined: it stays open until `release`. */
  outcome: (request: CallRequest, number: number) => Outcome | undefined = () => answered();
  #open: ((outcome: Outcome) => void)[] = [];

  call = (request: CallRequest, _permission: CallPermission, onOutcome: (outcome: Outcome) => void): void => {
    const number = this.calls.push(request) - 1;
    this.running += 1;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    const end = (outcome: Outcome) => {
      this.running -= 1;
      onOutcome(outcome);
    };
    const outcome = this.outcome(request, number);
    if (outcome) setImmediate(end, outcome);
    else this.#open.push(end);
  };

  /** Calls that stayed open have nobody left to tell. */
  forgetCalls(): void {
    this.running = 0;
    this.#open = [];
  }

  /** Ends the calls that stayed open, the last one first when `backwards`. */
  release(outcome: Outcome = answered(), backwards = false): void {
    const open = backwards ? this.#open.reverse() : this.#open;
    this.#open = [];
    for (const end of open) end(outcome);
  }

  /** The order ids that were called, in order of start. */
  get orderIds(): string[] {
    return this.calls.map(({ url }) => /\d+$/.exec(url)?.[0] ?? url);
  }
}
