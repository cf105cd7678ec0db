/**
 * Whether what looks like the egress proxy's own refusal is its own (contract, section 2.3). Pure, but for what it remembers.
 *
 * A plain http answer of a callee and one that the proxy made itself come over the same connection, and a callee can write
 * whatever a proxy would. The proxy's refusals cost an order no attempt, so a callee that imitates them would be called for
 * ever. A proxy that refuses one request again and again, while it lets calls to other destinations through, may be right
 * about that destination; then it is the destination's matter all the same, and its attempts may be used up.
 *
 * It is known by request, not by order: the caller knows no orders, and one order's request is always the same.
 */
import { createHash } from 'node:crypto';
import type { CallRequest } from '../model/outcome.ts';
import { originOf } from './request-text.ts';

/** As often one request may be refused and cost no attempt, although calls to other destinations go through. */
export const PROXY_REFUSALS_MAX = 3;
/** Requests that are remembered; of the one that was refused longest ago nothing is known any more. */
const REQUESTS_MAX = 10_000;

type Refused = { count: number; readonly firstAt: number };
type Passed = { readonly origin: string; at: number };

export class ProxyRefusals {
  /** By request, the latest refused last. */
  readonly #refused = new Map<string, Refused>();
  /** The origin from which an answer came last, and the last one before it that is another. */
  #last: Passed | undefined;
  #lastOther: Passed | undefined;
  /** Answers and refusals so far: what orders them. */
  #count = 0;

  /** An answer came through the proxy that is its callee's without doubt. */
  notePassed(url: string): void {
    this.#count += 1;
    const origin = originOf(url);
    if (this.#last?.origin !== origin) {
      this.#lastOther = this.#last;
      this.#last = { origin, at: this.#count };
    } else {
      this.#last.at = this.#count;
    }
  }

  /** An answer came that looks like the proxy's refusal. Whether it is to be taken for the callee's all the same. */
  isCallees(request: CallRequest): boolean {
    this.#count += 1;
    const key = keyOf(request);
    const refused = this.#refused.get(key) ?? { count: 0, firstAt: this.#count };
    refused.count += 1;
    this.#refused.delete(key);
    this.#refused.set(key, refused);
    if (this.#refused.size > REQUESTS_MAX) {
      for (const oldest of this.#refused.keys()) {
        this.#refused.delete(oldest);
        break;
      }
    }
    return refused.count > PROXY_REFUSALS_MAX && this.#otherPassedAt(originOf(request.url)) > refused.firstAt;
  }

  #otherPassedAt(origin: string): number {
    const other = this.#last?.origin === origin ? this.#lastOther : this.#last;
    return other?.at ?? 0;
  }
}

/** Requests may be long, and there are many. */
function keyOf({ method, url, body = '' }: CallRequest): string {
  return createHash('sha256').update(`${method} ${url} ${body}`).digest('base64');
}
