/**
 * Places in the log. Closings are read in the order of (xid, closing_id), where xid is that of their transaction, and
 * only those whose transaction is older than every running one: then nothing can appear behind the reader any more.
 *
 * An interface begins with what is committed after its creation. That is no single place: transactions that ran then may
 * commit later under an older xid than others that had committed. So the first place is the oldest one that ran, and as
 * long as the reader is among its contemporaries the position carries the snapshot of the creation, by which the closings
 * that were committed before are passed over.
 *
 *     xid:closingId                          741:9003
 *     xid:closingId:xmax:running,running     741:9003:750:741,745
 */
import type { ClosingId } from '../../model/delivery.ts';
import type { Position } from '../store.ts';

/** What was committed when the interface was created: below `xmax`, and not `running`. */
export type Birth = { readonly xmax: number; readonly running: readonly number[] };
export type Place = { readonly xid: number; readonly closingId: ClosingId; readonly birth?: Birth };

export function toPosition({ xid, closingId, birth }: Place): Position {
  const suffix = birth && xid < birth.xmax ? `:${birth.xmax}:${birth.running.join(',')}` : '';
  return `${xid}:${closingId}${suffix}` as unknown as Position;
}

export function toPlace(position: Position): Place {
  const [, xid, closingId, xmax, running] =
    /^(\d+):(\d+)(?::(\d+):([\d,]*))?$/.exec(position as unknown as string) ?? [];
  if (xid === undefined) throw new Error(`No position of this store: ${position}`);
  const place = { xid: Number(xid), closingId: Number(closingId) };
  if (xmax === undefined || running === undefined) return place;
  return {
    ...place,
    birth: { xmax: Number(xmax), running: running === '' ? [] : running.split(',').map(Number) },
  };
}
