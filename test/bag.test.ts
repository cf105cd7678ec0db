import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Bag } from '../src/model/bag.ts';

test('a bag holds what a set would, whatever comes and goes', () => {
  const step = fc.record({ kind: fc.constantFrom('add', 'delete', 'clear'), which: fc.nat({ max: 9 }) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const items = Array.from({ length: 10 }, (_, name) => ({ name, placeInBag: undefined }));
      const bag = new Bag<(typeof items)[number] & { placeInBag?: number | undefined }>();
      const set = new Set<object>();
      for (const { kind, which } of steps) {
        const item = items[which] as (typeof items)[number];
        if (kind === 'delete') assert.equal(bag.delete(item), set.delete(item));
        else if (kind === 'clear') {
          bag.clear();
          set.clear();
        } else if (!set.has(item)) {
          bag.add(item);
          set.add(item);
        }
        assert.equal(bag.size, set.size);
        assert.deepEqual(new Set(bag.items()), set);
      }
    }),
  );
});
