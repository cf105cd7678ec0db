/** Loads a peer that only `bench/package.json` asks for, so that type checks and the other benchmarks need none of them. */
export async function loadPeer<Module>(name: string): Promise<Module> {
  try {
    return (await import(name)) as Module;
  } catch (cause) {
    throw new Error(`${name} is not installed: run \`npm ci --prefix bench\``, { cause });
  }
}
