/** Where an execution takes deliveries from, in the order in which they are to be called. */
import type { Delivery } from './ledger.ts';

export interface WorkSource {
  /** At least one is in memory. */
  readonly isReady: boolean;
  /** All that there was has been taken, as far as anybody knows. */
  readonly isExhausted: boolean;
  /** The next one in memory. */
  take(): Delivery | undefined;
  /** Reads more. Afterwards some are in memory, or it is exhausted, or it is to be called again. */
  refill(): Promise<void>;
}

/** Reading may be all that happens, with a filter that passes nothing: answers and timers come in between. */
export function letOthersGo(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
