import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { checkFilter, compileFilter } from '../src/filter/filter.ts';
import { parseLossless } from '../src/model/lossless-json.ts';

const page = readFileSync(new URL('../docs/filter.md', import.meta.url), 'utf8');
const blocks = [...page.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map(([, kind = '', text = '']) => ({
  kind,
  lines: text.trimEnd().split('\n'),
}));
const order = {
  orderDetailsData: parseLossless(blocks.find(({ kind }) => kind === 'json')?.lines.join('\n') ?? ''),
};

function linesOf(kind: string): string[] {
  const lines = blocks.filter((block) => block.kind === kind).flatMap((block) => block.lines);
  assert.ok(lines.length > 0, `the page has no block "${kind}"`);
  return lines;
}

/** The block after each block of the kind. */
function pairsOf(kind: string): { filter: string; told: string }[] {
  return blocks.flatMap((block, index) => {
    if (block.kind !== kind) return [];
    const answers = blocks[index + 1];
    assert.equal(answers?.kind, 'text');
    assert.equal(answers.lines.length, block.lines.length);
    return block.lines.map((filter, line) => ({ filter, told: answers.lines[line] ?? '' }));
  });
}

test('every example of docs/filter.md that matches does', () => {
  for (const filter of linesOf('filter matches')) assert.ok(compileFilter(filter).matches(order), filter);
});

test('every example of docs/filter.md that does not match does not', () => {
  for (const filter of linesOf('filter does not match')) {
    assert.ok(!compileFilter(filter).matches(order), filter);
  }
});

test('every wrong filter of docs/filter.md is refused in the words of the page', () => {
  for (const { filter, told } of pairsOf('filter refused')) {
    assert.deepEqual(
      checkFilter(filter, 'TICKETS').problems.map(({ message }) => message),
      [told],
    );
  }
});

test('every explanation of docs/filter.md is given in the words of the page', () => {
  for (const { filter, told } of pairsOf('filter explained')) {
    const { conditions } = compileFilter(filter).explain(order);
    assert.deepEqual(
      conditions.map(({ because }) => because),
      [told],
    );
  }
});

test('docs/filter.md has no block that no test reads', () => {
  const known = [
    'json',
    'text',
    '',
    'filter matches',
    'filter does not match',
    'filter refused',
    'filter explained',
  ];
  assert.deepEqual(
    blocks.map(({ kind }) => kind).filter((kind) => !known.includes(kind)),
    [],
  );
});
