/** How much memory a whole process holds, read from outside: `/proc/PID/status` counts all threads, heaps and mapped pages. */
import { readFileSync, writeFileSync } from 'node:fs';

/** Makes the kernel forget VmHWM (proc(5)). */
const FORGET_PEAK = '5';

/** VmRSS and VmHWM, in MB of 1,000,000 bytes. */
export function memory(pid: number): { resident: number; peak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const read = (field: string) =>
    (Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024) / 1e6;
  return { resident: read('VmRSS'), peak: read('VmHWM') };
}

export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, FORGET_PEAK);
}
