import { type Static, Type as T } from 'typebox';

/** Control messages between services. Subjects: `orion.v1.<cluster>.<noun>.<id>.<verb>`. */

export const Role = {
  Coordinator: 'coordinator',
  Worker: 'worker',
  Gateway: 'gateway',
} as const;
export type Role = (typeof Role)[keyof typeof Role];

/** What every process says of itself once a second, and at once when something changes. */
export const Heartbeat = T.Object({
  role: T.Union([T.Literal('coordinator'), T.Literal('worker'), T.Literal('gateway')]),
  /** Stable over restarts: "n1-w0". */
  id: T.String({ minLength: 1, maxLength: 64 }),
  /** Another one for every process start. */
  incarnation: T.String({ minLength: 1, maxLength: 64 }),
  node: T.String({ minLength: 1, maxLength: 64 }),
  pid: T.Integer({ minimum: 0 }),
  uptimeMs: T.Number({ minimum: 0 }),
  /** Where a worker's link can be reached: "unix:/path" or "host:port". Empty for other roles. */
  link: T.String({ maxLength: 300 }),
  /** What a gateway must show on that link: whoever may read the bus may use the worker's paths, nobody else. */
  linkToken: T.Optional(T.String({ maxLength: 64 })),
  /** 0 idle to 1 full. */
  load: T.Number({ minimum: 0, maximum: 1 }),
  draining: T.Boolean(),
});
export type Heartbeat = Static<typeof Heartbeat>;

/** Owner to worker: log in for this slot (session reinstatement: same ISID, TSIH 0), and serve it on the link. */
export const ClaimRequest = T.Object({
  volume: T.String({ minLength: 1, maxLength: 63 }),
  epoch: T.Integer({ minimum: 1 }),
  slot: T.Integer({ minimum: 0, maximum: 0xffff }),
  incarnation: T.Integer({ minimum: 1 }),
  target: T.String({ minLength: 1, maxLength: 223 }),
  /** Tried in order; all must be of one target portal group for the login to reinstate. */
  portals: T.Array(T.String({ minLength: 1, maxLength: 300 }), { minItems: 1, maxItems: 16 }),
  lun: T.String({ pattern: '^[0-9a-f]{16}$' }),
  timeoutMs: T.Integer({ minimum: 1 }),
  /** Wall clock after which the worker must not start it any more (it may have slept). */
  expiresWallMs: T.Number(),
});
export type ClaimRequest = Static<typeof ClaimRequest>;

export const ClaimReply = T.Object({
  tpgt: T.Integer({ minimum: 0, maximum: 0xffff }),
  /** How frames of the link address this claim of the slot; another one for every claim. */
  handle: T.Integer({ minimum: 0, maximum: 0xffff }),
  /** The worker process that holds it: the link must lead to the same one. */
  workerIncarnation: T.String(),
  portal: T.String(),
  /** 0: the unit does not tell over this path now, and takes no I/O over it. */
  sizeBytes: T.Integer({ minimum: 0 }),
  blockBytes: T.Integer({ minimum: 512 }),
  /** Designator of VPD 83h in hex, with its type in front: "naa:6001405...". */
  wwid: T.String(),
  vendor: T.String(),
  product: T.String(),
  revision: T.String(),
  /** Capabilities as in block/device.ts. */
  caps: T.Record(T.String(), T.Union([T.Number(), T.Boolean()])),
  /** Access state of the path as in multipath/access.ts; left out by workers that do not know of it. */
  access: T.Optional(
    T.Object({
      state: T.String(),
      preferred: T.Boolean(),
      group: T.Union([T.Integer({ minimum: 0, maximum: 0xffff }), T.Null()]),
    }),
  ),
});
export type ClaimReply = Static<typeof ClaimReply>;

/** Owner to worker: LOGICAL UNIT RESET through this slot; answers when the target says FUNCTION COMPLETE. */
export const ResetRequest = T.Object({
  volume: T.String({ minLength: 1, maxLength: 63 }),
  epoch: T.Integer({ minimum: 1 }),
  slot: T.Integer({ minimum: 0, maximum: 0xffff }),
  incarnation: T.Integer({ minimum: 1 }),
  timeoutMs: T.Integer({ minimum: 1 }),
});
export type ResetRequest = Static<typeof ResetRequest>;

/**
 * Owner to worker, after the LU was reset through another slot: what is outstanding on this one may have been ended by
 * the reset and stay unanswered, or may still be on its way to the target. So the session is given up if it has any.
 */
export const AfterResetRequest = T.Object({
  volume: T.String({ minLength: 1, maxLength: 63 }),
  epoch: T.Integer({ minimum: 1 }),
  slot: T.Integer({ minimum: 0, maximum: 0xffff }),
  incarnation: T.Integer({ minimum: 1 }),
});
export type AfterResetRequest = Static<typeof AfterResetRequest>;

/** Owner to worker: let go of the slot (drained by the owner before). */
export const ReleaseRequest = T.Object({
  volume: T.String({ minLength: 1, maxLength: 63 }),
  epoch: T.Integer({ minimum: 1 }),
  slot: T.Integer({ minimum: 0, maximum: 0xffff }),
  incarnation: T.Integer({ minimum: 1 }),
});
export type ReleaseRequest = Static<typeof ReleaseRequest>;

/** Operator to gateway: log a path of a volume out and in again, in good order. */
export const ReconnectRequest = T.Object({
  volume: T.String({ minLength: 1, maxLength: 63 }),
  slot: T.Integer({ minimum: 0, maximum: 0xffff }),
});
export type ReconnectRequest = Static<typeof ReconnectRequest>;

/** Where the path is now. */
export const ReconnectReply = T.Object({ portal: T.String(), worker: T.String() });
export type ReconnectReply = Static<typeof ReconnectReply>;

/** New owner to worker: refuse older epochs of the volume, and answer when nothing of them is in flight. */
export const SealRequest = T.Object({
  volume: T.String({ minLength: 1, maxLength: 63 }),
  epoch: T.Integer({ minimum: 1 }),
  timeoutMs: T.Integer({ minimum: 1 }),
});
export type SealRequest = Static<typeof SealRequest>;

export const SealReply = T.Object({
  /** Slots of the volume that this worker holds, each with the incarnation it was claimed with. */
  slots: T.Array(
    T.Object({
      slot: T.Integer({ minimum: 0 }),
      incarnation: T.Integer({ minimum: 0 }),
      /** After the last command of the older epoch the target has made durable what its cache held. */
      flushed: T.Boolean(),
    }),
  ),
  inflight: T.Integer({ minimum: 0 }),
  /** This process has logged in for the volume before. */
  served: T.Boolean(),
});
export type SealReply = Static<typeof SealReply>;

/** What `orion-iscsi status` shows of one session, as its worker sees it. */
export const SessionStatus = T.Object({
  volume: T.String(),
  slot: T.Integer(),
  incarnation: T.Integer(),
  target: T.String(),
  portal: T.String(),
  worker: T.String(),
  isid: T.String(),
  tsih: T.Integer(),
  state: T.String(),
  ageMs: T.Number(),
  /** Of RFC 7143 §8.1.3, by CID. */
  connections: T.Array(T.Object({ cid: T.Integer(), portal: T.String(), state: T.String() })),
  inflight: T.Integer(),
  commands: T.Integer(),
  bytesRead: T.Integer(),
  bytesWritten: T.Integer(),
});
export type SessionStatus = Static<typeof SessionStatus>;

export const PathStatus = T.Object({
  volume: T.String(),
  slot: T.Integer(),
  portal: T.String(),
  worker: T.String(),
  state: T.String(),
  inflight: T.Integer(),
  reads: T.Integer(),
  writes: T.Integer(),
  errors: T.Integer(),
  latencyUs: T.Number(),
  lastError: T.String(),
  /** Access state of the target port group (ALUA): "active/optimized", ...; left out where the target tells none. */
  access: T.Optional(T.String()),
});
export type PathStatus = Static<typeof PathStatus>;

export const VolumeStatus = T.Object({
  name: T.String(),
  target: T.String(),
  lun: T.String(),
  owner: T.String(),
  epoch: T.Integer(),
  state: T.String(),
  sizeBytes: T.Integer(),
  blockBytes: T.Integer(),
  pathsReady: T.Integer(),
  pathsTotal: T.Integer(),
  failovers: T.Integer(),
  heldWrites: T.Integer(),
});
export type VolumeStatus = Static<typeof VolumeStatus>;

/** Answer of one process to `orion.v1.<cluster>.status` collection. */
export const ProcessStatus = T.Object({
  role: T.String(),
  id: T.String(),
  node: T.String(),
  pid: T.Integer(),
  uptimeMs: T.Number(),
  leader: T.Boolean(),
  sessions: T.Array(SessionStatus),
  paths: T.Array(PathStatus),
  volumes: T.Array(VolumeStatus),
});
export type ProcessStatus = Static<typeof ProcessStatus>;
