/** Code that checks code: the arrows between folders, and what must not be in the repository. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';

const ROOT = join(import.meta.dirname, '..');

function tracked(): string[] {
  const { stdout } = spawnSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  return stdout.split('\n').filter((file) => file !== '');
}

const FILES = tracked();
const SOURCES = FILES.filter((file) => file.startsWith('src/') && file.endsWith('.ts'));
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8');

function importsOf(file: string): string[] {
  const found = read(file).matchAll(/(?:from|import)\s*\(?\s*['"](\.[^'"]+)['"]/g);
  return [...found].map(([, path]) => relative(ROOT, join(ROOT, dirname(file), path as string)));
}

/** What each folder may import, besides itself. */
const ALLOWED: Record<string, readonly string[]> = {
  model: [],
  template: ['model'],
  filter: ['model'],
  observe: ['model'],
  store: ['model', 'template'],
  caller: ['model'],
  engine: ['model', 'template', 'filter', 'observe', 'store', 'caller'],
  http: ['model', 'template', 'filter', 'observe', 'store', 'caller', 'engine'],
  commands: ['model', 'template', 'filter', 'observe', 'store', 'caller', 'engine', 'http', ''],
  '': ['model', 'template', 'filter', 'observe', 'store', 'caller', 'engine', 'http', 'commands'],
};

function folderOf(file: string): string {
  const [, folder, deeper] = file.split('/');
  return deeper === undefined ? '' : (folder as string);
}

test('arrows between folders go one way', () => {
  assert.ok(SOURCES.length > 30, `${SOURCES.length} sources`);
  const wrong = SOURCES.flatMap((file) =>
    importsOf(file)
      .filter((target) => target.startsWith('src/'))
      .filter(
        (target) =>
          folderOf(target) !== folderOf(file) && !ALLOWED[folderOf(file)]?.includes(folderOf(target)),
      )
      .map((target) => `${file} -> ${target}`),
  );
  assert.deepEqual(wrong, []);
});

test('the engine, the server and the commands know the store by its contract only', () => {
  const wrong = SOURCES.filter((file) => /^src\/(engine|http|filter|template|model)\//.test(file)).flatMap(
    (file) =>
      importsOf(file).filter((target) => target.startsWith('src/store/') && target !== 'src/store/store.ts'),
  );
  assert.deepEqual(wrong, []);
});

test('no module imports itself in a circle', () => {
  const graph = new Map(SOURCES.map((file) => [file, valueImports(file)]));
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    assert.equal(start, -1, `circle: ${[...path.slice(start), file].join(' -> ')}`);
    if (done.has(file)) return;
    for (const target of graph.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of SOURCES) visit(file, []);
});

/** Imports that are there when the program runs: those of types are not. */
function valueImports(file: string): string[] {
  const text = read(file)
    .replace(/import type [^;]+;/g, '')
    .replace(/export type \{[^;]+;/g, '');
  const found = text.matchAll(/(?:from|import)\s*\(?\s*['"](\.[^'"]+)['"]/g);
  return [...found]
    .map(([, path]) => relative(ROOT, join(ROOT, dirname(file), path as string)))
    .filter((target) => target.endsWith('.ts'));
}

test('the environment is read in one place, and SQL is in the store only', () => {
  const environment = SOURCES.filter((file) => /process\.env\b/.test(read(file)));
  // The one that starts the process anew hands the environment on.
  assert.deepEqual(environment, ['src/heaps.ts', 'src/settings.ts']);
  const sql = SOURCES.filter(
    (file) =>
      !file.startsWith('src/store/') && /\b(SELECT .+ FROM|INSERT INTO|UPDATE \w+ SET)\b/.test(read(file)),
  );
  assert.deepEqual(sql, []);
});

test('no table is an object that any text could look into', () => {
  // `valueOf` and `constructor` are in every object: a table by text is a Map.
  const tables = SOURCES.filter((file) =>
    /^(export )?const \w+: (Readonly<)?Record<string,/m.test(read(file)),
  );
  assert.deepEqual(tables, []);
});

test('package-lock.json holds no download addresses', () => {
  assert.doesNotMatch(read('package-lock.json'), /"resolved"/);
});

test('every direct dependency has a line that says why it is here', () => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json'));
  const decided = read('docs/decisions/0002-dependencies.md');
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
    assert.ok(decided.includes(`\`${name}\``), `${name} is not in docs/decisions/0002-dependencies.md`);
  }
});

test('every setting is in docs/settings.md', async () => {
  const { SETTINGS } = await import('../src/settings.ts');
  const page = read('docs/settings.md');
  for (const { env, default: byDefault } of Object.values(SETTINGS)) {
    const row = page.split('\n').find((line) => line.startsWith(`| \`${env}\` |`));
    assert.ok(row, `${env} is missing`);
    assert.ok(row.includes(String(byDefault ?? '')), `${env}: the default is ${byDefault}`);
  }
});

test('every error code is in docs/errors.md', async () => {
  const { ERROR_CODES } = await import('../src/model/app-error.ts');
  const page = read('docs/errors.md');
  for (const code of Object.keys(ERROR_CODES)) assert.ok(page.includes(`\`${code}\``), `${code} is missing`);
});
