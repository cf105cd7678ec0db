import { createReadStream, statSync } from 'node:fs';
import { Readable } from 'node:stream';
import type { Command } from 'commander';
import { StartError } from '../model/app-error.ts';
import { apiClient } from './api-client.ts';
import { addSettingFlags, settingsOf } from './setting-flags.ts';

type ImportAnswer = {
  received: number;
  stored: number;
  closed: number;
  rejected: { line: number; message: string }[];
  rejectedCount: number;
};

const PROGRESS_EVERY_MS = 1_000;
const REJECTIONS_SHOWN = 20;

export function addImport(program: Command): void {
  const command = program
    .command('import')
    .description('Send a file of orders, one OrderDetailsData a line (NDJSON), to a running service.')
    .argument('<file>', 'the file')
    .requiredOption('--institution <code>', 'the institution whose orders they are');
  addSettingFlags(command, ['url', 'key', 'host', 'port', 'adminKey']).action(
    async (file: string, { institution }: { institution: string }) => {
      const client = apiClient(settingsOf(command));
      const body = Readable.toWeb(readWithProgress(file)) as ReadableStream;
      const path = `/api/v1/institutions/${encodeURIComponent(institution)}/orders/import`;
      const headers = { 'content-type': 'application/x-ndjson' };
      const answer = await client.send<ImportAnswer>('POST', path, { body, headers, duplex: 'half' });
      tell(answer);
      if (answer.rejectedCount > 0) process.exitCode = 1;
    },
  );
}

function readWithProgress(file: string): Readable {
  let size: number;
  try {
    size = statSync(file).size;
  } catch (error) {
    throw new StartError(`${file} cannot be read: ${(error as Error).message}.`);
  }
  let sent = 0;
  let toldAt = Date.now();
  const stream = createReadStream(file);
  stream.on('data', (chunk) => {
    sent += chunk.length;
    if (Date.now() - toldAt < PROGRESS_EVERY_MS) return;
    toldAt = Date.now();
    process.stderr.write(
      `${megabytes(sent)} of ${megabytes(size)} MB (${Math.floor((100 * sent) / size)} %)\n`,
    );
  });
  return stream;
}

function megabytes(bytes: number): string {
  return (bytes / 1_000_000).toFixed(1);
}

function tell({ received, stored, closed, rejected, rejectedCount }: ImportAnswer): void {
  process.stdout.write(
    `${received} orders received, ${stored} stored, ${closed} closings recorded, ${rejectedCount} rejected\n`,
  );
  for (const { line, message } of rejected.slice(0, REJECTIONS_SHOWN)) {
    process.stderr.write(`line ${line}: ${message}\n`);
  }
  if (rejectedCount > REJECTIONS_SHOWN) {
    process.stderr.write(`… and ${rejectedCount - REJECTIONS_SHOWN} more\n`);
  }
}
