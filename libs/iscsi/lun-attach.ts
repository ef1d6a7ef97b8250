import { assert } from '../core/assert.ts';
import { IscsiLun } from './lun.ts';
import { learnLun } from './lun-facts.ts';
import type { IscsiSession } from './session.ts';
import { UnsizedLun } from './unsized-lun.ts';

export interface AttachOptions {
  readonly deadlineMs?: number;
  /** Name of a quirk profile; "auto" or left out: by INQUIRY. */
  readonly profile?: string | undefined;
  /** A unit that does not tell its size over this path, in the access state that this has now, is attached with size 0. */
  readonly allowUnsized?: boolean;
  /** Registered for this path (persistent reservations), and again after a nexus loss. */
  readonly reservationKey?: bigint;
}

/** Learns what the logical unit is, and gives it as a block device on this session. */
export async function attachLun(
  session: IscsiSession,
  lun: Buffer,
  options: AttachOptions = {},
): Promise<IscsiLun> {
  assert(lun.length === 8, 'a LUN has 8 bytes');
  const facts = await learnLun(session, lun, options);
  const Kind = facts.unsized === true ? UnsizedLun : IscsiLun;
  const device = new Kind(session, Buffer.from(lun), facts);
  const { reservationKey } = options;
  if (reservationKey !== undefined) await device.reservations.register(reservationKey);
  return device;
}
