import type { ExecutionId } from '../model/entities.ts';
import type { QueueStore } from '../store/store.ts';

const BLOCK = 1_000;

/** Execution ids, reserved in blocks: a continuous schedule makes hundreds of executions a second. */
export class ExecutionIds {
  readonly #store: Pick<QueueStore, 'reserveExecutionIds'>;
  #next = 0;
  #end = 0;
  #reserving: Promise<void> | undefined;

  constructor(store: Pick<QueueStore, 'reserveExecutionIds'>) {
    this.#store = store;
  }

  async take(): Promise<ExecutionId> {
    while (this.#next >= this.#end) {
      this.#reserving ??= this.#reserve().finally(() => {
        this.#reserving = undefined;
      });
      await this.#reserving;
    }
    this.#next += 1;
    return this.#next - 1;
  }

  async #reserve(): Promise<void> {
    this.#next = await this.#store.reserveExecutionIds(BLOCK);
    this.#end = this.#next + BLOCK;
  }
}
