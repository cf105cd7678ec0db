/** The ceiling: calls made in a loop, as many at once as there are connections; nothing is read, decided or stored. */
import { Calls, orderIdOf, runSender } from './sender.ts';

await runSender(async ({ url, concurrency }) => {
  const calls = new Calls(url, concurrency);
  return {
    description: `undici Pool.dispatch in a loop, ${concurrency} connections, stores nothing`,
    async load() {},
    drain(first, count) {
      let [started, answered] = [0, 0];
      return new Promise((resolve, reject) => {
        function next(): void {
          if (started === count) return;
          calls.send(orderIdOf(first + started), (error) => {
            answered += 1;
            if (error) reject(error);
            else if (answered === count) resolve();
            else next();
          });
          started += 1;
        }
        for (let line = 0; line < concurrency; line++) next();
      });
    },
  };
});
