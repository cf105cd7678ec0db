/**
 * Commits what all interfaces have done, together: outcomes that finish within COMMIT_WITHIN_MS share one commit.
 *
 * Promises: an outcome is on disk, or its call is among those that a crash may repeat (contract, section 5). When the
 * database is away it keeps what it has, tries again, and lets no new call start (`isBehind`), so that the bound holds.
 */
import type { Clock } from '../model/clock.ts';
import type { InterfaceId } from '../model/entities.ts';
import type { Log } from '../observe/log.ts';
import type { NodeId, Progress, QueueStore } from '../store/store.ts';
import type { Ledger } from './ledger.ts';

/** Under the 50 ms of the contract, with room for the commit itself. */
const COMMIT_WITHIN_MS = 20;
/**
 * While an outcome that is not on disk is older, no call starts. Timers may be late on a busy machine, and answers that
 * came meanwhile are looked at before them; each would start a call.
 */
const UNCOMMITTED_MS_MAX = 2 * COMMIT_WITHIN_MS;
const COMMIT_ATTEMPTS_MAX = 1_000;
const RETRY_MS_MIN = 100;
const RETRY_MS_MAX = 5_000;

export class Recorder {
  readonly #store: Pick<QueueStore, 'commitProgress'>;
  readonly #nodeId: NodeId;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #onLost: (lost: readonly Progress[]) => void;
  #dirty = new Set<Ledger>();
  /** Something they did was refused. What they do after it builds on that, so it must not be committed either. */
  readonly #forsaken = new WeakSet<Ledger>();
  #attempts = 0;
  /** When the oldest of what is dirty was noted. */
  #dirtySince = 0;
  /** When the oldest of what is not on disk was noted. */
  #uncommittedSince = Number.POSITIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;
  #commit: Promise<void> | undefined;
  #overdue = false;
  #resumed: (() => void)[] = [];
  #retryMs = RETRY_MS_MIN;

  /** `onLost`: this node does not hold these interfaces any more under these fences, and nothing of this was committed. */
  constructor(parts: {
    readonly store: Pick<QueueStore, 'commitProgress'>;
    readonly nodeId: NodeId;
    readonly clock: Clock;
    readonly log: Log;
    readonly onLost: (lost: readonly Progress[]) => void;
  }) {
    this.#store = parts.store;
    this.#nodeId = parts.nodeId;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#onLost = parts.onLost;
  }

  /** The commit of earlier outcomes takes longer than it may: start no call until `whenCaughtUp` says so. */
  get isBehind(): boolean {
    return this.#overdue || this.#clock.now() - this.#uncommittedSince >= UNCOMMITTED_MS_MAX;
  }

  whenCaughtUp(action: () => void): void {
    this.#resumed.push(action);
  }

  /** The ledger has something to commit; `attempts` of it are new. */
  note(ledger: Ledger, attempts = 0): void {
    if (this.#forsaken.has(ledger)) return;
    if (this.#dirty.size === 0) this.#dirtySince = this.#clock.now();
    if (!this.#commit) this.#uncommittedSince = this.#dirtySince;
    this.#dirty.add(ledger);
    this.#attempts += attempts;
    if (this.#commit) {
      // A commit is under way; the next one takes this. With a full group already waiting, the store is too slow.
      if (this.#attempts >= COMMIT_ATTEMPTS_MAX) this.#overdue = true;
    } else if (this.#attempts >= COMMIT_ATTEMPTS_MAX) {
      this.#start();
    } else {
      this.#cancelTimer ??= this.#clock.after(COMMIT_WITHIN_MS, () => this.#start());
    }
  }

  /** Resolves when everything noted so far is on disk, however long that takes. */
  async flush(): Promise<void> {
    await this.#commit;
    // Another flush, or the end of that commit, may have begun the next one, which has all that was noted by now.
    if (!this.#commit && this.#dirty.size > 0) this.#start();
    await this.#commit;
  }

  #start(): void {
    if (this.#commit) return;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    const taken = new Map<Progress, Ledger>();
    for (const ledger of this.#dirty) {
      const progress = ledger.take();
      if (progress) taken.set(progress, ledger);
    }
    this.#dirty.clear();
    this.#attempts = 0;
    this.#commit = this.#commitUntilDone(taken).finally(() => {
      this.#commit = undefined;
      this.#uncommittedSince = this.#dirty.size > 0 ? this.#dirtySince : Number.POSITIVE_INFINITY;
      const resumed = this.#resumed;
      this.#overdue = false;
      this.#resumed = [];
      if (this.#attempts >= COMMIT_ATTEMPTS_MAX) this.#start();
      else if (this.#dirty.size > 0) {
        const wait = this.#dirtySince + COMMIT_WITHIN_MS - this.#clock.now();
        if (wait <= 0) this.#start();
        else this.#cancelTimer ??= this.#clock.after(Math.min(wait, COMMIT_WITHIN_MS), () => this.#start());
      }
      for (const action of resumed) action();
    });
  }

  async #commitUntilDone(taken: ReadonlyMap<Progress, Ledger>): Promise<void> {
    const progress = [...taken.keys()];
    for (;;) {
      const cancelOverdue = this.#clock.after(COMMIT_WITHIN_MS, () => {
        this.#overdue = true;
      });
      try {
        const lost = await this.#store.commitProgress(progress, this.#nodeId);
        cancelOverdue();
        if (lost.length > 0) this.#forsake(taken, lost);
        this.#retryMs = RETRY_MS_MIN;
        return;
      } catch (error) {
        cancelOverdue();
        this.#overdue = true;
        this.#log.error(
          { event: 'commit.failed', err: error, retryMs: this.#retryMs },
          'outcomes wait to be committed',
        );
        await new Promise<void>((resolve) => this.#clock.after(this.#retryMs, resolve));
        this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
      }
    }
  }

  #forsake(taken: ReadonlyMap<Progress, Ledger>, lost: readonly InterfaceId[]): void {
    const refused = [...taken.keys()].filter(({ interfaceId }) => lost.includes(interfaceId));
    for (const progress of refused) {
      const ledger = taken.get(progress) as Ledger;
      this.#forsaken.add(ledger);
      this.#dirty.delete(ledger);
    }
    this.#onLost(refused);
  }
}
