/**
 * Reports on filters and orders that take long in a thread of its own: 64 conditions on an order of 1 MiB take seconds, in
 * which this one answers requests. The thread is there while something is asked. This is the side that starts it;
 * `filter-thread-main.ts` is what runs there.
 */
import { AskedThread } from './asked-thread.ts';
import type { FilterQuestion, FilterReport } from './filter/explain-details.ts';
import { AppError } from './model/app-error.ts';

const IDLE_MS = 5_000;
/** Questions that wait or are being answered. */
const QUESTIONS_MAX = 16;
const RETRY_AFTER_SECONDS = 2;

export type FilterThread = {
  /** @throws AppError `too_many_requests` */
  ask(question: FilterQuestion): Promise<FilterReport>;
  stop(): Promise<void>;
};

export function createFilterThread(): FilterThread {
  let thread: Promise<AskedThread<FilterQuestion, FilterReport>> | undefined;
  let asked = 0;
  let idle: NodeJS.Timeout | undefined;

  async function stop(): Promise<void> {
    clearTimeout(idle);
    const stopping = thread;
    thread = undefined;
    await (await stopping?.catch(() => undefined))?.stop();
  }

  return {
    async ask(question) {
      if (asked >= QUESTIONS_MAX) {
        throw new AppError('too_many_requests', 'Too many filters are being looked at.', {
          retryAfterSeconds: RETRY_AFTER_SECONDS,
        });
      }
      clearTimeout(idle);
      asked += 1;
      try {
        thread ??= AskedThread.start<FilterQuestion, FilterReport>({
          main: new URL('./filter-thread-main.ts', import.meta.url),
          name: 'orderhook-filters',
          workerData: undefined,
        });
        const starting = thread;
        starting.catch(() => {
          if (thread === starting) thread = undefined;
        });
        return await (await starting).ask(question);
      } finally {
        asked -= 1;
        if (asked === 0) idle = setTimeout(stop, IDLE_MS).unref();
      }
    },
    stop,
  };
}
