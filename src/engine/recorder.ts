/**
 * Commits what all interfaces have done, together: outcomes that finish within COMMIT_WITHIN_MS share one commit.
 *
 * Promises: an outcome is on disk, or its call is among those that a crash may repeat (contract, section 5). When the
 * database is away it keeps what it has, tries again, and lets no new call start (`isBehind`), so that the bound holds.
 * A commit that fails for another reason is a bug of ours, which no repetition mends: the interface whose progress is refused
 * is found and given up, and the progress of all others is committed without it (contract, section 9).
 *
 * ```
 *   commit of all ──ok──> done
 *        ├── the database is away ──> the same again, later, without end
 *        └── refused ──> each half alone ──> … ──> one interface alone: `onRefused`
 * ```
 */
import { isStoreUnavailable } from '../model/app-error.ts';
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

/** What one ledger has for a commit. */
type Taken = { readonly ledger: Ledger; readonly progress: Progress };

export class Recorder {
  readonly #store: Pick<QueueStore, 'commitProgress'>;
  readonly #nodeId: NodeId;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #onLost: (lost: readonly Progress[]) => void;
  readonly #onRefused: (refused: Progress, error: unknown) => void;
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

  /**
   * `onLost`: this node does not hold these interfaces any more under these fences, and nothing of this was committed.
   * `onRefused`: the store does not take this progress, and would not if it were asked again. What the interface does from
   * here on is not committed either.
   */
  constructor(parts: {
    readonly store: Pick<QueueStore, 'commitProgress'>;
    readonly nodeId: NodeId;
    readonly clock: Clock;
    readonly log: Log;
    readonly onLost: (lost: readonly Progress[]) => void;
    readonly onRefused: (refused: Progress, error: unknown) => void;
  }) {
    this.#store = parts.store;
    this.#nodeId = parts.nodeId;
    this.#clock = parts.clock;
    this.#log = parts.log;
    this.#onLost = parts.onLost;
    this.#onRefused = parts.onRefused;
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
    const taken: Taken[] = [];
    for (const ledger of this.#dirty) {
      const progress = ledger.take();
      if (progress) taken.push({ ledger, progress });
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

  /** Resolves when all of it is on disk, lost or refused. */
  async #commitUntilDone(taken: readonly Taken[]): Promise<void> {
    while (taken.length > 0) {
      const cancelOverdue = this.#clock.after(COMMIT_WITHIN_MS, () => {
        this.#overdue = true;
      });
      try {
        const progress = taken.map((one) => one.progress);
        const lost = await this.#store.commitProgress(progress, this.#nodeId);
        this.#retryMs = RETRY_MS_MIN;
        if (lost.length > 0) this.#forsakeLost(taken, lost);
        return;
      } catch (error) {
        if (!isStoreUnavailable(error)) return await this.#commitInParts(taken, error);
        this.#overdue = true;
        this.#log.error(
          { event: 'commit.failed', err: error, retryMs: this.#retryMs },
          'outcomes wait to be committed',
        );
      } finally {
        cancelOverdue();
      }
      await new Promise<void>((resolve) => this.#clock.after(this.#retryMs, resolve));
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
    }
  }

  /** Finds out whose progress it is that the store refuses; all others have theirs on disk then. */
  async #commitInParts(taken: readonly Taken[], error: unknown): Promise<void> {
    const [first, second] = taken;
    if (first === undefined) return;
    if (second !== undefined) {
      const middle = Math.ceil(taken.length / 2);
      await this.#commitUntilDone(taken.slice(0, middle));
      await this.#commitUntilDone(taken.slice(middle));
      return;
    }
    this.#forsake(first.ledger);
    this.#onRefused(first.progress, error);
  }

  #forsakeLost(taken: readonly Taken[], lost: readonly InterfaceId[]): void {
    const refused = taken.filter(({ progress }) => lost.includes(progress.interfaceId));
    for (const { ledger } of refused) this.#forsake(ledger);
    this.#onLost(refused.map(({ progress }) => progress));
  }

  #forsake(ledger: Ledger): void {
    this.#forsaken.add(ledger);
    this.#dirty.delete(ledger);
  }
}
