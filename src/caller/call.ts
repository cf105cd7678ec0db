/** One call: what its connection tells of it and what its limits say become one outcome. */
import type { Answer, CallRequest, Outcome } from '../model/outcome.ts';
import { BodyDecoder, BodyStart, decoderFor } from './answer-body.ts';
import type { AnswerHead } from './answer-head.ts';
import type { Connection } from './connection.ts';
import { describeExchangeError, describeProxyAnswer, type Failure, isProxyAnswer } from './failure.ts';
import type { LineCall } from './line.ts';

export type CallLimits = {
  /** From the start of a connection until it stands, DNS, proxy and TLS included. */
  readonly connectMs: number;
  /** From the request's sending to the first byte of its answer. */
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
  readonly hasEgressProxy: boolean;
};

export class Call implements LineCall {
  readonly request: CallRequest;
  readonly startedAt: number;
  placeInBag: number | undefined = undefined;
  readonly #settings: CallSettings;
  readonly #onOutcome: (outcome: Outcome) => void;
  #isOver = false;
  #connection: Connection | undefined;
  #sentAt: number | undefined;
  #isAnswerBegun = false;
  #head: AnswerHead | undefined;
  #bodyStart: BodyStart | undefined;
  #decoder: BodyDecoder | undefined;

  /** `onOutcome` is called once, and not after `forget`. */
  constructor(request: CallRequest, settings: CallSettings, onOutcome: (outcome: Outcome) => void) {
    this.request = request;
    this.#settings = settings;
    this.#onOutcome = onOutcome;
    this.startedAt = settings.now();
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  onNotConnected(failure: Failure): void {
    this.#fail(failure);
  }

  onSent(connection: Connection, at: number): void {
    this.#connection = connection;
    this.#sentAt = at;
  }

  onAnswerBegun(): void {
    this.#isAnswerBegun = true;
  }

  onHead(head: AnswerHead): void {
    const { hasEgressProxy, limits } = this.#settings;
    const { status, headers } = head.answer;
    if (hasEgressProxy && this.request.url.startsWith('http:') && isProxyAnswer(status, headers)) {
      this.#drop();
      return this.#fail(describeProxyAnswer(status, headers['x-squid-error']));
    }
    this.#head = head;
    const make = decoderFor(headers['content-encoding']);
    if (make !== undefined) {
      this.#bodyStart = new BodyStart(limits.answerBytesMax);
      this.#decoder = new BodyDecoder(make, this.#bodyStart, () => this.#hasEnough());
    }
  }

  onBody(bytes: Buffer): void {
    if (this.#isOver) return;
    this.#bodyStart ??= new BodyStart(this.#settings.limits.answerBytesMax);
    if (this.#decoder !== undefined) this.#decoder.add(bytes);
    else if (!this.#bodyStart.add(bytes)) this.#hasEnough();
  }

  onEnough(): void {
    this.#hasEnough();
  }

  onAnswerWhole(): void {
    // It may carry another call now.
    this.#connection = undefined;
    if (this.#decoder !== undefined) this.#decoder.end(() => this.#complete());
    else this.#complete();
  }

  onBroken(error: Error | undefined): void {
    this.#fail(describeExchangeError(error, this.#isAnswerBegun));
  }

  checkLimits(now: number): void {
    if (this.#isOver) return;
    const { firstByteMs, exchangeMs } = this.#settings.limits;
    if (now - this.startedAt > exchangeMs) {
      this.#drop();
      this.#fail(
        this.#sentAt === undefined
          ? { reason: 'timeout_connect', detail: `No connection within ${exchangeMs} ms` }
          : { reason: 'timeout_response', detail: `The answer was not whole within ${exchangeMs} ms` },
      );
    } else if (this.#sentAt !== undefined && !this.#isAnswerBegun && now - this.#sentAt > firstByteMs) {
      this.#drop();
      this.#fail({ reason: 'timeout_response', detail: `No answer within ${firstByteMs} ms` });
    }
  }

  /** No outcome any more. */
  forget(): void {
    this.#isOver = true;
    this.#decoder?.destroy();
  }

  #hasEnough(): void {
    if (this.#isOver) return;
    this.#drop();
    this.#complete();
  }

  /** Ends the connection: what else comes over it is of no interest. */
  #drop(): void {
    this.#connection?.close();
  }

  #complete(): void {
    const answer = this.#answer();
    if (answer === undefined) return;
    if (answer.status <= 299) this.#settle({ delivered: true, answer, durationMs: this.#durationMs() });
    else this.#failWithStatus(answer);
  }

  /** A status that is not 2xx says all there is to say, however its answer ends. */
  #fail(failure: Failure): void {
    const answer = this.#answer();
    if (answer !== undefined && answer.status > 299) this.#failWithStatus(answer);
    else {
      this.#settle({
        delivered: false,
        ...failure,
        ...(answer === undefined ? {} : { answer }),
        durationMs: this.#durationMs(),
      });
    }
  }

  #failWithStatus(answer: Answer): void {
    this.#settle({
      delivered: false,
      reason: 'status',
      detail: `The callee answered ${answer.status}`,
      answer,
      durationMs: this.#durationMs(),
    });
  }

  #answer(): Answer | undefined {
    if (this.#head === undefined) return undefined;
    const { answer } = this.#head;
    return this.#bodyStart === undefined ? answer : { ...answer, bodyStart: this.#bodyStart.text() };
  }

  #durationMs(): number {
    return Math.round(this.#settings.now() - this.startedAt);
  }

  #settle(outcome: Outcome): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#decoder?.destroy();
    this.#onOutcome(outcome);
  }
}
