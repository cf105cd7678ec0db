/**
 * Room on disk: free pages go back to the system in small steps, and the write-ahead log is cut after a peak.
 *
 *     free pages   |  begin: 20 % of the file and FREE_BYTES_MIN ──> steps of STEP_BYTES ──> end: 5 % |
 *
 * What a queue in its daily swing frees and takes again stays in the file, which would otherwise shrink and grow every day.
 */
import type { RetentionStore, RoomStep } from '../store.ts';
import { type Database, LOG_BYTES_KEPT } from './database.ts';

/** Less than that is not worth a step. */
const FREE_BYTES_MIN = 1024 * 1024;
const FREE_SHARE_TO_BEGIN = 0.2;
const FREE_SHARE_TO_END = 0.05;
/** Some milliseconds, most of them the commit. */
const STEP_BYTES = 256 * 1024;

export function roomKeeper(db: Database): RetentionStore['giveRoomBack'] {
  const cutOwed = db.prepareArrays("SELECT value FROM upkeep WHERE name = 'log_cut_owed'");
  const cutDone = db.prepare("UPDATE upkeep SET value = 0 WHERE name = 'log_cut_owed'");
  let isGivingBack = false;
  // A process that was killed may have left what it was about to cut.
  let isFirstLook = true;

  /** How many bytes could not be cut; undefined: none had to be, or they were. */
  function careForLog(): number | undefined {
    const isOwed = (cutOwed.get() as unknown as [number])[0] === 1;
    const bytes = db.logBytes;
    if (!isOwed && !isFirstLook && bytes <= LOG_BYTES_KEPT) return undefined;
    if (!db.cutLog()) return bytes;
    isFirstLook = false;
    if (isOwed) db.write(() => cutDone.run());
    return undefined;
  }

  /** Whether there is more. */
  function giveBack(): boolean {
    const { bytes, freeBytes, canGiveBack } = db.room;
    if (!canGiveBack) return false;
    const share = isGivingBack ? FREE_SHARE_TO_END : FREE_SHARE_TO_BEGIN;
    const isWorthIt = freeBytes >= bytes * share && freeBytes >= (isGivingBack ? STEP_BYTES : FREE_BYTES_MIN);
    if (isWorthIt) db.giveBack(STEP_BYTES);
    // The file gets shorter when the log is copied into it: where nobody writes, nobody else does that.
    else if (isGivingBack) db.cutLog();
    isGivingBack = isWorthIt;
    return isWorthIt;
  }

  return async (): Promise<RoomStep> => {
    const heldLogBytes = careForLog();
    // Each step would make the log longer that cannot be cut.
    if (heldLogBytes !== undefined) return { hasMore: false, heldLogBytes };
    return { hasMore: db.read(giveBack) };
  };
}
