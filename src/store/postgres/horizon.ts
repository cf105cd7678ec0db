/**
 * Watches what holds back the reading of the log: the oldest transaction of the server that writes, of whatever database
 * and whether it is a session's or a prepared one. When it began only some users may see, so it is timed here: from the
 * first look that found it.
 */
import type { Database, Statement } from './database.ts';

export class Horizon {
  readonly #look: Statement;
  readonly #clock: () => number;
  #oldest: { readonly xid: string; readonly seenAt: number } | undefined;

  constructor(db: Database, clock: () => number = () => performance.now()) {
    this.#clock = clock;
    this.#look = db.reading(
      `SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmin(s) < pg_snapshot_xmax(s) FROM pg_current_snapshot() s`,
    );
  }

  async lagMs(): Promise<number> {
    const [row] = await this.#look.arrays<[xid: string, isHeldBack: boolean]>();
    const now = this.#clock();
    if (!row?.[1]) {
      this.#oldest = undefined;
      return 0;
    }
    if (this.#oldest?.xid !== row[0]) this.#oldest = { xid: row[0], seenAt: now };
    return Math.round(now - this.#oldest.seenAt);
  }
}
