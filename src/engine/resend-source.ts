/** The closings of one resend, oldest first: a second read that leaves the queue where it is. */
import type { ClosingId } from '../model/delivery.ts';
import type { ExecutionId, InstitutionId } from '../model/entities.ts';
import type { ResendStore } from '../store/store.ts';
import { Delivery } from './ledger.ts';
import { letOthersGo, type WorkSource } from './work-source.ts';

const READ_AHEAD = 500;

export class ResendSource implements WorkSource {
  readonly #store: Pick<ResendStore, 'resendDeliveries'>;
  readonly #institutionId: InstitutionId;
  readonly #executionId: ExecutionId;
  readonly #withDetails: boolean;
  #read: ClosingId;
  #deliveries: Delivery[] = [];
  #index = 0;
  #isRead = false;

  constructor(
    store: Pick<ResendStore, 'resendDeliveries'>,
    resend: {
      institutionId: InstitutionId;
      executionId: ExecutionId;
      sentUpTo: ClosingId;
      withDetails: boolean;
    },
  ) {
    this.#store = store;
    this.#institutionId = resend.institutionId;
    this.#executionId = resend.executionId;
    this.#withDetails = resend.withDetails;
    this.#read = resend.sentUpTo;
  }

  get isReady(): boolean {
    return this.#index < this.#deliveries.length;
  }

  get isExhausted(): boolean {
    return this.#isRead && !this.isReady;
  }

  take(): Delivery | undefined {
    const delivery = this.#deliveries[this.#index];
    if (delivery) this.#index += 1;
    return delivery;
  }

  async refill(): Promise<void> {
    await letOthersGo();
    const read = await this.#store.resendDeliveries(this.#institutionId, this.#executionId, {
      after: this.#read,
      limit: READ_AHEAD,
      withDetails: this.#withDetails,
    });
    this.#read = read[read.length - 1]?.closingId ?? this.#read;
    this.#deliveries = read.map((one) => Delivery.fromResend(this.#executionId, one));
    this.#index = 0;
    this.#isRead = read.length === 0;
  }
}
