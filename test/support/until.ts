import { setTimeout as wait } from 'node:timers/promises';

/** Waits for a condition, and fails with what it was about when it does not come true. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  withinMs = 30_000,
): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`It did not come to this in ${withinMs} ms: ${what}`);
    await wait(10);
  }
}
