/** The orders that filters looked at last, parsed: interfaces of one institution that look at the same order share its parsing. */
import type { InstitutionId } from '../model/entities.ts';
import { type JsonValue, parseLossless } from '../model/lossless-json.ts';
import type { OrderId } from '../model/order.ts';

/** Of the texts of all kept orders: two reads of the log in full, for orders of the usual size. */
const CHARACTERS_MAX = 2 * 1024 * 1024;

export class ParsedOrders {
  readonly #kept = new Map<string, { readonly details: string; readonly parsed: JsonValue }>();
  #characters = 0;

  /** The details as a value. An order that changed since is parsed anew: the text decides. */
  parse(institutionId: InstitutionId, orderId: OrderId, details: string): JsonValue {
    const key = `${institutionId} ${orderId}`;
    const known = this.#kept.get(key);
    if (known?.details === details) return known.parsed;
    const parsed = parseLossless(details);
    if (known) this.#forget(key, known.details);
    this.#kept.set(key, { details, parsed });
    this.#characters += details.length;
    for (const [oldest, { details: text }] of this.#kept) {
      if (this.#characters <= CHARACTERS_MAX) break;
      this.#forget(oldest, text);
    }
    return parsed;
  }

  #forget(key: string, details: string): void {
    this.#kept.delete(key);
    this.#characters -= details.length;
  }
}
