import { type Command, InvalidArgumentError } from 'commander';
import { StartError } from '../model/app-error.ts';
import { OrderReader, type ReceivedCall, startCallee } from './callee.ts';
import { untilAskedToEnd } from './process-end.ts';

type ListenOptions = {
  host: string;
  port: number;
  status: number;
  delay: number;
  readBack?: string;
  partner?: string;
  operator?: string;
  secret?: string;
  granularity?: string;
};

export function addListen(program: Command): void {
  program
    .command('listen')
    .description('Be the callee: print each call, and read the order back when told from where.')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on; 0 takes any free one', wholeNumber(0, 65_535), 9090)
    .option('--status <status>', 'HTTP status of the answers', wholeNumber(200, 599), 200)
    .option('--delay <ms>', 'milliseconds before each answer', wholeNumber(0, 600_000), 0)
    .option('--read-back <address>', 'read each order back from the service at this address')
    .option('--partner <name>', 'with --read-back: the partner')
    .option('--operator <name>', 'with --read-back: the operator')
    .option('--secret <secret>', "with --read-back: the partner's secret")
    .option('--granularity <granularity>', 'with --read-back: OPERATIONS, MOVEMENTS or TICKETS')
    .action(listen);
}

async function listen(options: ListenOptions): Promise<void> {
  const reader = readerOf(options);
  const callee = await startCallee({
    host: options.host,
    port: options.port,
    status: options.status,
    delayMs: options.delay,
    onCall: (call) => {
      print(call, options);
      if (reader && call.orderId !== undefined) void readBack(reader, call.orderId, options.granularity);
    },
  }).catch((error: Error) => {
    throw new StartError(`Cannot listen on ${options.host}:${options.port}: ${error.message}.`);
  });
  process.stdout.write(`Listening at ${callee.address}, answering ${options.status}; Ctrl-C ends\n`);
  await untilAskedToEnd();
  await callee.close();
}

function readerOf({ readBack, partner, operator, secret }: ListenOptions): OrderReader | undefined {
  if (readBack === undefined) return undefined;
  if (partner === undefined || operator === undefined || secret === undefined) {
    throw new StartError('--read-back needs --partner, --operator and --secret.');
  }
  return new OrderReader(readBack, { partner, operator, secret });
}

function print({ method, target, headers, body }: ReceivedCall, { status }: ListenOptions): void {
  const type = headers['content-type'] === undefined ? '' : ` (${headers['content-type']})`;
  const shown = body === '' ? '' : `\n    ${body}${type}`;
  process.stdout.write(`${new Date().toISOString()}  ${method} ${target}  -> ${status}${shown}\n`);
}

async function readBack(
  reader: OrderReader,
  orderId: string,
  granularity: string | undefined,
): Promise<void> {
  try {
    process.stdout.write(`    read back ${orderId}: ${await reader.read(orderId, granularity)}\n`);
  } catch (error) {
    process.stdout.write(`    reading back ${orderId} failed: ${(error as Error).message}\n`);
  }
}

function wholeNumber(min: number, max: number) {
  return (text: string): number => {
    if (/^\d+$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}
