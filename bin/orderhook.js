#!/usr/bin/env node
/*
 * What every start goes through: plain JavaScript, so that an older Node.js, which knows no TypeScript, can say what it lacks
 * before it meets any. `src/main.ts` is a link to this file: Node.js runs a link as what it leads to.
 */
const MAJOR_VERSION_NEEDED = 24;

if (Number.parseInt(process.versions.node, 10) >= MAJOR_VERSION_NEEDED) {
  // Without `await`, which the oldest do not know here either.
  import('../src/command-line.ts');
} else {
  process.stderr.write(
    `orderhook: Node.js ${MAJOR_VERSION_NEEDED} or newer is needed; this is ${process.versions.node}, ${process.execPath}. ` +
      'In a checkout `npm start` and `npm run orderhook -- COMMAND` find the one that `npm ci` has installed.\n',
  );
  process.exitCode = 1;
}
