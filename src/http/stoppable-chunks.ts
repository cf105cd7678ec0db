import { AppError } from '../model/app-error.ts';

/**
 * The chunks of a body, until the service stops: then what reads them ends with `store_unavailable`, even while it waits for
 * a client that sends nothing.
 */
export async function* untilStopping<T>(chunks: AsyncIterable<T>, stopping: AbortSignal): AsyncIterable<T> {
  const iterator = chunks[Symbol.asyncIterator]();
  for (;;) {
    const { promise: stopped, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(new AppError('store_unavailable', 'The service is stopping.'));
    stopping.addEventListener('abort', onAbort);
    try {
      if (stopping.aborted) onAbort();
      const { done, value } = await Promise.race([iterator.next(), stopped]);
      if (done) return;
      yield value;
    } finally {
      stopping.removeEventListener('abort', onAbort);
    }
  }
}
