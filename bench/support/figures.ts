/**
 * What a benchmark found: one printed line a figure, with its ratio to the ceiling or peer of the same run and its target,
 * and all of it as JSON in `bench/results/NAME.json`.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { arch, cpus, release, totalmem, type } from 'node:os';
import { join } from 'node:path';

const RESULTS = join(import.meta.dirname, '../results');
const NAME_WIDTH = 56;

export type Bound = { readonly min: number } | { readonly max: number };
export type Figure = {
  readonly name: string;
  readonly value: number;
  /** `calls/s`, `ms`, `MB` … */
  readonly unit: string;
  /** Of `value`, from the contract. */
  readonly target?: Bound;
  /** What it is compared with. */
  readonly against?: readonly Comparison[];
};
export type Comparison = {
  readonly name: string;
  readonly value: number;
  /** Of this figure to that one, from the contract. */
  readonly target?: Bound;
};

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error('There is no median of nothing');
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** The value below which this share of them lies (nearest rank). */
export function quantile(values: ArrayLike<number>, share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] as number;
}

export class Report {
  readonly #program: string;
  readonly #settings: Record<string, unknown>;
  readonly #figures: Figure[] = [];
  readonly #leftOut: string[] = [];
  readonly #startedAt = new Date();

  /** Prints the machine and the settings. */
  constructor(program: string, settings: Record<string, unknown>) {
    this.#program = program;
    this.#settings = settings;
    const { cores, processor, memoryGb, system, node } = machine();
    console.log(`\n# ${program}`);
    console.log(`  machine: ${cores} × ${processor}, ${memoryGb} GB, ${system}, Node.js ${node}`);
    for (const [name, value] of Object.entries(settings)) console.log(`  ${name}: ${value}`);
  }

  add(figure: Figure): void {
    this.#figures.push(figure);
    const own = `${figure.name.padEnd(NAME_WIDTH)} ${format(figure.value)} ${figure.unit}`;
    const parts = (figure.against ?? []).map(({ name, value, target }) => {
      const ratio = figure.value / value;
      return `${ratio.toFixed(2)} × ${name} (${format(value).trim()})${judged(ratio, target)}`;
    });
    console.log([`${own}${judged(figure.value, figure.target)}`, ...parts].join('; '));
  }

  /** Says what was not measured, and why. */
  leaveOut(what: string, why: string): void {
    const line = `left out: ${what}: ${why}`;
    this.#leftOut.push(line);
    console.log(line);
  }

  save(): void {
    mkdirSync(RESULTS, { recursive: true });
    const content = {
      program: this.#program,
      startedAt: this.#startedAt,
      endedAt: new Date(),
      machine: machine(),
      settings: this.#settings,
      figures: this.#figures.map((figure) => ({
        ...figure,
        ...(figure.target ? { isReached: isWithin(figure.value, figure.target) } : {}),
        against: (figure.against ?? []).map((comparison) => {
          const ratio = figure.value / comparison.value;
          const { target } = comparison;
          return { ...comparison, ratio, ...(target ? { isReached: isWithin(ratio, target) } : {}) };
        }),
      })),
      leftOut: this.#leftOut,
    };
    writeFileSync(join(RESULTS, `${this.#program}.json`), `${JSON.stringify(content, null, 2)}\n`);
  }
}

function isWithin(value: number, bound: Bound): boolean {
  return 'min' in bound ? value >= bound.min : value <= bound.max;
}

function judged(value: number, bound: Bound | undefined): string {
  if (bound === undefined) return '';
  const text = 'min' in bound ? `≥ ${bound.min}` : `≤ ${bound.max}`;
  return ` [${text}: ${isWithin(value, bound) ? 'reached' : 'MISSED'}]`;
}

function format(value: number): string {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const text = value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return text.padStart(10);
}

function machine() {
  return {
    cores: cpus().length,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    memoryGb: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release()} ${arch()}`,
    node: process.versions.node,
  };
}
