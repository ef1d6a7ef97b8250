import { type Static, Type as T } from 'typebox';
import { VOLUME_PATHS_MAX } from '../core/limits.ts';

/**
 * The records that services share in the key-value store, bucket `orion-<cluster>`. One writer at a time by
 * compare-and-set; a state is written before the step that it authorises, so that a successor can resume.
 */

export const RECORD_VERSION = 1;

/** Paths of a volume, and as many that a change of the configuration has left behind. */
export const RECORD_SLOTS_MAX = 2 * VOLUME_PATHS_MAX;

/** One place from where a session to the target may be held: a fixed initiator port (ISID) to one portal. */
export const SlotRecord = T.Object({
  /** Unique per target in the cluster; the low 16 bits of the ISID. */
  slot: T.Integer({ minimum: 0, maximum: 0xffff }),
  /** "host:port" of the portal that it prefers. */
  portal: T.String({ minLength: 1, maxLength: 300 }),
  /** Worker that may hold it; empty when none is assigned. */
  worker: T.String({ maxLength: 64 }),
  /** Grows with every claim. A worker refuses a claim that is not newer than what it has seen. */
  incarnation: T.Integer({ minimum: 0, maximum: 0xffffffff }),
  /** Target portal group it was last logged in to: only a login to the same one reinstates. -1: never. */
  tpgt: T.Integer({ minimum: -1, maximum: 0xffff }),
  /**
   * `idle`: given back with nothing in flight. `assigned`: in service with this incarnation. `fencing`: something of an
   * earlier one may be in flight; a new record begins so, since it may stand for one that was lost. `disabled`: as
   * fencing, for a path that is not wanted any more; it leaves the record when it is clean.
   */
  state: T.Union([
    T.Literal('idle'),
    T.Literal('assigned'),
    T.Literal('fencing'),
    T.Literal('disabled'),
  ]),
  /** Its session has seen all that happened to the target since the volume's last restart of it was noted; see `cache`. */
  witness: T.Optional(T.Boolean()),
});
export type SlotRecord = Static<typeof SlotRecord>;

/** `vol.<name>`: who owns a volume, in which epoch, over which slots. */
export const VolumeRecord = T.Object({
  v: T.Literal(RECORD_VERSION),
  name: T.String({ minLength: 1, maxLength: 63 }),
  target: T.String({ minLength: 1, maxLength: 223 }),
  /** The LUN as 8 bytes in hex, exactly as REPORT LUNS gives it. */
  lun: T.String({ pattern: '^[0-9a-f]{16}$' }),
  /** Gateway that owns it, with the incarnation of its process. */
  owner: T.String({ maxLength: 64 }),
  ownerIncarnation: T.String({ maxLength: 64 }),
  /** The fencing token: grows with every change of owner. Workers refuse frames of a lower one. */
  epoch: T.Integer({ minimum: 1, maximum: 0xffffffff }),
  /** `sealing`: the new owner still makes sure that nothing of an older epoch is in flight. */
  state: T.Union([T.Literal('active'), T.Literal('sealing')]),
  slots: T.Array(SlotRecord, { maxItems: RECORD_SLOTS_MAX }),
  /**
   * `dirty`: the owner may have acknowledged what stands in a volatile cache of the target. `lost`: that may be gone, and no
   * flush has failed for it yet. Absent: all is durable, as far as owners went in good order.
   */
  cache: T.Optional(T.Union([T.Literal('dirty'), T.Literal('lost')])),
  /** Identity found at first attach (VPD 83h designator, hex); a path that shows another never joins. */
  wwid: T.String({ maxLength: 512 }),
});
export type VolumeRecord = Static<typeof VolumeRecord>;

/** `slots.<hash of the target>`: which slot numbers of a target are taken, by "volume|portal". */
export const SlotTableRecord = T.Object({
  v: T.Literal(RECORD_VERSION),
  target: T.String({ minLength: 1, maxLength: 223 }),
  taken: T.Record(T.String(), T.Integer({ minimum: 0, maximum: 0xffff })),
});
export type SlotTableRecord = Static<typeof SlotTableRecord>;

/** `lease.<role>`: see cluster/lease.ts. */
export const LeaseRecord = T.Object({
  v: T.Literal(RECORD_VERSION),
  holder: T.String({ minLength: 1, maxLength: 64 }),
  incarnation: T.String({ minLength: 1, maxLength: 64 }),
  epoch: T.Integer({ minimum: 1 }),
  leaseMs: T.Integer({ minimum: 1 }),
  renewSeq: T.Integer({ minimum: 0 }),
});
export type LeaseRecord = Static<typeof LeaseRecord>;
