/**
 * The orders that filters looked at last, parsed: interfaces of one institution that look at the same order share its
 * parsing. Where one interface alone looks, nothing is kept, since nobody would ask for it.
 */
import type { InstitutionId, InterfaceId } from '../model/entities.ts';
import { JsonText } from '../model/lossless-json.ts';
import type { OrderId } from '../model/order.ts';

/** Of the texts of all kept orders: two reads of the log in full, for orders of the usual size. */
const CHARACTERS_MAX = 2 * 1024 * 1024;
/** One interface that asked so often in a row is alone: some reads of the log, since interfaces take turns with those. */
const ALONE_AFTER = 5_000;

export class ParsedOrders {
  readonly #kept = new Map<string, JsonText>();
  #characters = 0;
  /** Who asked last, for each institution, and how often since another did. */
  readonly #readers = new Map<InstitutionId, { interfaceId: InterfaceId; inARow: number }>();

  /** The details, to be parsed by whoever asks first. An order that changed since is parsed anew: the text decides. */
  read(institutionId: InstitutionId, interfaceId: InterfaceId, orderId: OrderId, details: string): JsonText {
    if (this.#isAlone(institutionId, interfaceId)) return new JsonText(details);
    const key = `${institutionId} ${orderId}`;
    const known = this.#kept.get(key);
    if (known?.text === details) return known;
    const read = new JsonText(details);
    if (known) this.#forget(key, known);
    this.#kept.set(key, read);
    this.#characters += details.length;
    for (const [oldestKey, oldest] of this.#kept) {
      if (this.#characters <= CHARACTERS_MAX) break;
      this.#forget(oldestKey, oldest);
    }
    return read;
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

  #forget(key: string, { text }: JsonText): void {
    this.#kept.delete(key);
    this.#characters -= text.length;
  }
}
