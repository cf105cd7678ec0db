/**
 * The orders that filters looked at last, parsed: interfaces of one institution that look at the same order share its
 * parsing. Where one interface alone looks, nothing is kept, since nobody would ask for it.
 */
import type { InstitutionId, InterfaceId } from '../model/entities.ts';
import { type JsonValue, parseLossless } from '../model/lossless-json.ts';
import type { OrderId } from '../model/order.ts';

/** Of the texts of all kept orders: two reads of the log in full, for orders of the usual size. */
const CHARACTERS_MAX = 2 * 1024 * 1024;
/** One interface that asked so often in a row is alone: some reads of the log, since interfaces take turns with those. */
const ALONE_AFTER = 5_000;

export class ParsedOrders {
  readonly #kept = new Map<string, { readonly details: string; readonly parsed: JsonValue }>();
  #characters = 0;
  /** Who asked last, for each institution, and how often since another did. */
  readonly #readers = new Map<InstitutionId, { interfaceId: InterfaceId; inARow: number }>();

  /** The details as a value. An order that changed since is parsed anew: the text decides. */
  parse(
    institutionId: InstitutionId,
    interfaceId: InterfaceId,
    orderId: OrderId,
    details: string,
  ): JsonValue {
    if (this.#isAlone(institutionId, interfaceId)) return parseLossless(details);
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

  #isAlone(institutionId: InstitutionId, interfaceId: InterfaceId): boolean {
    const reader = this.#readers.get(institutionId);
    if (!reader) {
      this.#readers.set(institutionId, { interfaceId, inARow: ALONE_AFTER });
      return true;
    }
    if (reader.interfaceId !== interfaceId) {
      reader.interfaceId = interfaceId;
      reader.inARow = 0;
    } else {
      reader.inARow += 1;
    }
    return reader.inARow >= ALONE_AFTER;
  }

  #forget(key: string, details: string): void {
    this.#kept.delete(key);
    this.#characters -= details.length;
  }
}
