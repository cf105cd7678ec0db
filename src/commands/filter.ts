import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { checkFilter, compileFilter } from '../filter/filter.ts';
import { StartError } from '../model/app-error.ts';
import {
  cutToGranularity,
  GRANULARITIES,
  GRANULARITY_DEFAULT,
  type Granularity,
} from '../model/granularity.ts';
import { type JsonObject, parseLossless } from '../model/lossless-json.ts';
import { readOrderDetails } from '../model/order.ts';

/** The filter is wrong, or does not match: for scripts. */
const EXIT_WRONG = 1;
const EXIT_NO_MATCH = 3;

export function addFilter(program: Command): void {
  program
    .command('filter')
    .description('Check a filter, and explain what it says of an order.')
    .argument('<filter>', 'the filter')
    .option('--order <file>', 'a file with one OrderDetailsData, JSON')
    .option('--granularity <granularity>', GRANULARITIES.join(', '), GRANULARITY_DEFAULT)
    .addHelpText(
      'after',
      `\nExit code: 0 matches or is valid, ${EXIT_WRONG} wrong, ${EXIT_NO_MATCH} does not match.`,
    )
    .action(explain);
}

function explain(text: string, options: { order?: string; granularity: string }): void {
  const granularity = GRANULARITIES.find((one) => one === options.granularity.toUpperCase());
  if (granularity === undefined)
    throw new StartError(`--granularity must be one of ${GRANULARITIES.join(', ')}.`);
  const { problems, warnings } = checkFilter(text, granularity);
  for (const { message, position } of warnings) say(`warning${at(position)}: ${message}`);
  for (const { message, position } of problems) {
    say(`error${at(position)}: ${message}`);
    if (position !== undefined) say(`  ${text}\n  ${' '.repeat(position)}^`);
  }
  if (problems.length > 0) {
    process.exitCode = EXIT_WRONG;
    return;
  }
  if (options.order === undefined) return say('The filter is valid.');
  explainOrder(text, options.order, granularity);
}

function explainOrder(text: string, file: string, granularity: Granularity): void {
  const details = parseLossless(readOrder(file)) as JsonObject;
  const orderDetailsData = cutToGranularity(details, granularity) as JsonObject;
  if (text.trim() === '') return say('Without a filter every order is called.');
  const { matches, conditions } = compileFilter(text).explain({ orderDetailsData });
  for (const condition of conditions) {
    say(`${condition.matches ? 'true ' : 'false'}  ${condition.text}\n       ${condition.because}`);
  }
  say(matches ? 'The order would be called.' : 'The order would not be called.');
  if (!matches) process.exitCode = EXIT_NO_MATCH;
}

function readOrder(file: string): string {
  try {
    return readOrderDetails(readFileSync(file, 'utf8')).details;
  } catch (error) {
    throw new StartError(`${file}: ${(error as Error).message}`);
  }
}

function at(position: number | undefined): string {
  return position === undefined ? '' : ` at ${position}`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
