/** The callee where nginx is not installed: `callee-process.ts PORT FILE FLUSH_MS`. Answers 200 and appends a line a call. */
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';

const [port, file, flushMs] = process.argv.slice(2) as [string, string, string];

let lines = '';
function flush(): void {
  if (lines !== '') appendFileSync(file, lines);
  lines = '';
}

createServer({ keepAliveTimeout: 3_600_000 }, (request, response) => {
  response.writeHead(200, { 'Content-Length': 0 }).end();
  lines += `${(Date.now() / 1000).toFixed(3)} ${request.url}\n`;
}).listen(Number(port), '127.0.0.1');
setInterval(flush, Number(flushMs));
process.once('SIGTERM', () => {
  flush();
  process.exit(0);
});
