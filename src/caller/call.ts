/** One call: what its connection tells of it and what its limits say become one outcome. */
import type { Answer, CallRequest, Outcome } from '../model/outcome.ts';
import { type Body, type Decoding, EncodedBody, encodingOf, PlainBody } from './answer-body.ts';
import type { AnswerHead } from './answer-head.ts';
import type { Connection } from './connection.ts';
import {
  describeExchangeError,
  describeProxyAnswer,
  describeStatus,
  type Failure,
  isProxyAnswer,
} from './failure.ts';
import type { LineCall } from './line.ts';
import type { ProxyRefusals } from './proxy-refusals.ts';

export type CallLimits = {
  /** From the start of a connection until it stands, DNS, proxy and TLS included. */
  readonly connectMs: number;
  /** From the request's sending to the first byte of its answer; when it is sent again, from then. */
  readonly firstByteMs: number;
  /** From the start of the call to the end of its answer. */
  readonly exchangeMs: number;
  /** Decoded bytes of an answer's body that are read before the connection is dropped. */
  readonly answerBytesMax: number;
};

/** What all calls of a caller have in common. */
export type CallSettings = {
  readonly limits: CallLimits;
  /** Milliseconds that only ever grow. */
  readonly now: () => number;
  /** Undefined without an egress proxy. */
  readonly proxyRefusals: ProxyRefusals | undefined;
  readonly decoding: Decoding;
};

const LIKE_A_REFUSAL =
  'which looks like a refusal of the egress proxy, but other destinations go through it, and this one was refused often';

export class Call implements LineCall {
  readonly request: CallRequest;
  readonly startedAt: number;
  placeInBag: number | undefined = undefined;
  readonly #settings: CallSettings;
  readonly #onOutcome: (outcome: Outcome) => void;
  #isOver = false;
  /** What came is all that will come, and waits to be decoded. */
  #isEnding = false;
  #connection: Connection<LineCall> | undefined;
  #sentAt: number | undefined;
  #isAnswerBegun = false;
  #head: AnswerHead | undefined;
  #body: Body | undefined;
  #wantsNoMore = false;
  /** The egress proxy's, when the answer is not the callee's. */
  #refusal: Failure | undefined;
  /** It looks like a refusal of the egress proxy, and is taken for the callee's. */
  #isDoubtful = false;

  /** `onOutcome` is called once, and not after `forget`. */
  constructor(request: CallRequest, settings: CallSettings, onOutcome: (outcome: Outcome) => void) {
    this.request = request;
    this.#settings = settings;
    this.#onOutcome = onOutcome;
    this.startedAt = settings.now();
  }

  get isOver(): boolean {
    return this.#isOver || this.#isEnding;
  }

  get wantsNoMore(): boolean {
    return this.#wantsNoMore;
  }

  onNotConnected(failure: Failure): void {
    this.#end(failure);
  }

  onSent(connection: Connection<LineCall>, at: number): void {
    this.#connection = connection;
    this.#sentAt = at;
  }

  onUnheard(): void {
    this.#connection = undefined;
    this.#sentAt = undefined;
  }

  onAnswerBegun(): void {
    this.#isAnswerBegun = true;
  }

  onHead(head: AnswerHead): void {
    const { proxyRefusals, limits } = this.#settings;
    const { status, headers } = head.answer;
    if (proxyRefusals !== undefined && this.#isRefused(proxyRefusals, status, headers)) return;
    this.#head = head;
    const encoding = encodingOf(headers['content-encoding']);
    if (encoding !== undefined)
      this.#body = new EncodedBody(encoding, limits.answerBytesMax, this.#settings.decoding);
  }

  /** Whether the answer is the egress proxy's and not the callee's. */
  #isRefused(proxyRefusals: ProxyRefusals, status: number, headers: Answer['headers']): boolean {
    if (!this.request.url.startsWith('http:') || !isProxyAnswer(status, headers)) {
      proxyRefusals.notePassed(this.request.url);
      return false;
    }
    const failure = describeProxyAnswer(status, headers['x-squid-error']);
    if (failure.reason === 'proxy' && proxyRefusals.isCallees(this.request)) {
      this.#isDoubtful = true;
      return false;
    }
    this.#refusal = failure;
    this.#wantsNoMore = true;
    return true;
  }

  onBody(bytes: Buffer): void {
    if (this.isOver || this.#wantsNoMore) return;
    this.#body ??= new PlainBody(this.#settings.limits.answerBytesMax);
    if (!this.#body.add(bytes)) this.onEnough();
  }

  /** More of the answer is not read. That does not fail the call: nobody wants the rest. */
  onEnough(): void {
    this.#wantsNoMore = true;
  }

  onAnswerWhole(): void {
    // It may carry another call soon.
    this.#connection = undefined;
    this.#end(this.#refusal);
  }

  onBroken(error: Error | undefined): void {
    this.#end(describeExchangeError(error, this.#isAnswerBegun, this.request.url));
  }

  checkLimits(now: number): void {
    if (this.isOver || this.#connection?.isConcluding) return;
    const { firstByteMs, exchangeMs } = this.#settings.limits;
    if (now - this.startedAt > exchangeMs) {
      this.#drop();
      this.#end(
        this.#sentAt === undefined
          ? { reason: 'timeout_connect', detail: `No connection within ${exchangeMs} ms` }
          : { reason: 'timeout_response', detail: `The answer was not whole within ${exchangeMs} ms` },
      );
    } else if (this.#sentAt !== undefined && !this.#isAnswerBegun && now - this.#sentAt > firstByteMs) {
      this.#drop();
      this.#end({ reason: 'timeout_response', detail: `No answer within ${firstByteMs} ms` });
    } else if (this.#body instanceof EncodedBody) {
      this.#body.look(() => {
        this.#wantsNoMore = true;
        this.#connection?.conclude();
      });
    }
  }

  /** No outcome any more. */
  forget(): void {
    this.#isOver = true;
    this.#body?.drop();
  }

  /** Ends the connection: what else comes over it is of no interest. */
  #drop(): void {
    this.#connection?.close();
  }

  /** `failure`: why no more came, if more was to come. */
  #end(failure: Failure | undefined): void {
    if (this.isOver) return;
    this.#isEnding = true;
    const durationMs = Math.round(this.#settings.now() - this.startedAt);
    if (this.#body === undefined) this.#settle(failure, '', durationMs);
    else this.#body.finish((bodyStart) => this.#settle(failure, bodyStart, durationMs));
  }

  #settle(failure: Failure | undefined, bodyStart: string, durationMs: number): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const answer = this.#head && answerOf(this.#head, bodyStart);
    if (answer !== undefined && answer.status > 299) {
      // A status that is not 2xx says all there is to say, however its answer ends.
      const detail = this.#isDoubtful
        ? `The callee answered ${answer.status}, ${LIKE_A_REFUSAL}`
        : describeStatus(answer, this.request.url);
      this.#onOutcome({ delivered: false, reason: 'status', detail, answer, durationMs });
    } else if (failure !== undefined) {
      this.#onOutcome({ delivered: false, ...failure, ...(answer && { answer }), durationMs });
    } else if (answer !== undefined) {
      this.#onOutcome({ delivered: true, answer, durationMs });
    } else {
      throw new Error('An answer that is whole had no head');
    }
  }
}

function answerOf({ answer }: AnswerHead, bodyStart: string): Answer {
  return bodyStart === '' ? answer : { ...answer, bodyStart };
}
