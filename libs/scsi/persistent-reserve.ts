import { assert } from '../core/assert.ts';
import { key64, putKey64, putU16, putU32, startCdb, u16, u32 } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

/** PERSISTENT RESERVE IN and OUT (SPC-4 §6.15, §6.16). Keys are 64 bits without a meaning as a number: bigint. */

export const ReserveIn = {
  ReadKeys: 0x00,
  ReadReservation: 0x01,
  ReportCapabilities: 0x02,
  ReadFullStatus: 0x03,
} as const;
export type ReserveIn = (typeof ReserveIn)[keyof typeof ReserveIn];

export const ReserveOut = {
  Register: 0x00,
  Reserve: 0x01,
  Release: 0x02,
  Clear: 0x03,
  Preempt: 0x04,
  PreemptAndAbort: 0x05,
  RegisterAndIgnoreExistingKey: 0x06,
  RegisterAndMove: 0x07,
} as const;
export type ReserveOut = (typeof ReserveOut)[keyof typeof ReserveOut];

export const ReservationType = {
  WriteExclusive: 0x1,
  ExclusiveAccess: 0x3,
  WriteExclusiveRegistrantsOnly: 0x5,
  ExclusiveAccessRegistrantsOnly: 0x6,
  WriteExclusiveAllRegistrants: 0x7,
  ExclusiveAccessAllRegistrants: 0x8,
} as const;
export type ReservationType = (typeof ReservationType)[keyof typeof ReservationType];

/** PERSISTENT RESERVE IN. */
export function putReserveIn(
  into: Uint8Array,
  at: number,
  action: ReserveIn,
  allocationBytes: number,
): void {
  startCdb(into, at, ScsiOp.PersistentReserveIn);
  into[at + 1] = action;
  putU16(into, at + 7, allocationBytes);
}

/** PERSISTENT RESERVE OUT, scope logical unit. `type` counts for RESERVE, RELEASE and the preempting actions. */
export function putReserveOut(
  into: Uint8Array,
  at: number,
  action: ReserveOut,
  type: ReservationType | 0,
  parameterBytes: number,
): void {
  startCdb(into, at, ScsiOp.PersistentReserveOut);
  into[at + 1] = action;
  into[at + 2] = type;
  putU32(into, at + 5, parameterBytes);
}

export interface ReserveOutParameters {
  /** Of this I_T nexus; 0 where it is not registered. */
  readonly key: bigint;
  /** The new key, or that of whom the action is about. */
  readonly actionKey: bigint;
  /** Activate persist through power loss. */
  readonly aptpl?: boolean;
  readonly allTargetPorts?: boolean;
}

const BASIC_BYTES = 24;

/** The parameter list of every action but REGISTER AND MOVE. */
export function reserveOutParameters(parameters: ReserveOutParameters): Buffer {
  const bytes = Buffer.alloc(BASIC_BYTES);
  putKey64(bytes, 0, parameters.key);
  putKey64(bytes, 8, parameters.actionKey);
  bytes[20] = (parameters.allTargetPorts === true ? 0x04 : 0) | (parameters.aptpl === true ? 1 : 0);
  return bytes;
}

export interface MoveParameters {
  readonly key: bigint;
  readonly actionKey: bigint;
  readonly aptpl?: boolean;
  /** The old nexus loses its registration. */
  readonly unregister?: boolean;
  readonly relativePort: number;
  readonly initiatorName: string;
  /** 6 bytes; left out: every session of that initiator. */
  readonly isid?: Buffer;
}

/** The parameter list of REGISTER AND MOVE. */
export function registerAndMoveParameters(parameters: MoveParameters): Buffer {
  const transport = iscsiTransportId(parameters.initiatorName, parameters.isid);
  const bytes = Buffer.alloc(BASIC_BYTES + transport.length);
  putKey64(bytes, 0, parameters.key);
  putKey64(bytes, 8, parameters.actionKey);
  bytes[17] = (parameters.unregister === true ? 0x02 : 0) | (parameters.aptpl === true ? 1 : 0);
  putU16(bytes, 18, parameters.relativePort);
  putU32(bytes, 20, transport.length);
  transport.copy(bytes, BASIC_BYTES);
  return bytes;
}

const PROTOCOL_ISCSI = 0x5;
const FORMAT_WITH_ISID = 0x40;
/** Longest iSCSI name (RFC 7143 §4.2.7.2) with ",i,0x", 12 digits and the terminating zero. */
const TRANSPORT_NAME_BYTES_MAX = 223 + 17 + 1;

/** The TransportID of an iSCSI initiator port (SPC-4 §7.6.4.6). */
export function iscsiTransportId(initiatorName: string, isid?: Buffer): Buffer {
  assert(isid === undefined || isid.length === 6, 'an ISID has 6 bytes');
  const text = isid === undefined ? initiatorName : `${initiatorName},i,0x${isid.toString('hex')}`;
  const length = Buffer.byteLength(text) + 1;
  assert(length <= TRANSPORT_NAME_BYTES_MAX, 'an iSCSI name has at most 223 bytes');
  // The name ends in a zero, and is padded to a multiple of 4, of at least 20 bytes.
  const bytes = Buffer.alloc(4 + Math.max(20, (length + 3) & ~3));
  bytes[0] = PROTOCOL_ISCSI | (isid === undefined ? 0 : FORMAT_WITH_ISID);
  putU16(bytes, 2, bytes.length - 4);
  bytes.write(text, 4, 'utf8');
  return bytes;
}

/** "iqn.2026-11.lab:a,i,0x00023d000001"; null for another protocol or nonsense. */
export function parseIscsiTransportId(data: Uint8Array): string | null {
  if (data.length < 8 || (data[0]! & 0x0f) !== PROTOCOL_ISCSI) return null;
  const end = Math.min(data.length, 4 + u16(data, 2), 4 + TRANSPORT_NAME_BYTES_MAX);
  const text = Buffer.from(data.subarray(4, end)).toString('utf8');
  const zero = text.indexOf('\0');
  return zero < 0 ? text : text.slice(0, zero);
}

export interface RegisteredKeys {
  /** Grows with every change of registrations. */
  readonly generation: number;
  readonly keys: readonly bigint[];
  /** Bytes that the whole answer takes, which may be more than arrived. */
  readonly totalBytes: number;
}

export function parseReadKeys(data: Uint8Array): RegisteredKeys | null {
  if (data.length < 8) return null;
  const totalBytes = 8 + u32(data, 4);
  const end = Math.min(data.length, totalBytes);
  const keys: bigint[] = [];
  for (let at = 8; at + 8 <= end; at += 8) keys.push(key64(data, at));
  return { generation: u32(data, 0), keys, totalBytes };
}

export interface Reservation {
  readonly generation: number;
  /** Null: nobody holds a reservation. For the types "all registrants" the key is 0. */
  readonly held: { readonly key: bigint; readonly type: number; readonly scope: number } | null;
}

export function parseReadReservation(data: Uint8Array): Reservation | null {
  if (data.length < 8) return null;
  const generation = u32(data, 0);
  if (u32(data, 4) === 0) return { generation, held: null };
  if (data.length < 24) return null;
  const scopeType = data[21]!;
  const held = { key: key64(data, 8), type: scopeType & 0x0f, scope: scopeType >> 4 };
  return { generation, held };
}

export interface ReserveCapabilities {
  /** Persist through power loss: capable, and active now. */
  readonly persistCapable: boolean;
  readonly persistActive: boolean;
  readonly allTargetPorts: boolean;
  readonly specifyInitiatorPorts: boolean;
  /** Null when the device does not tell; then all types may be tried. */
  readonly types: readonly ReservationType[] | null;
}

const TYPE_BITS: readonly (readonly [mask: number, type: ReservationType])[] = [
  [0x0200, ReservationType.WriteExclusive],
  [0x0800, ReservationType.ExclusiveAccess],
  [0x2000, ReservationType.WriteExclusiveRegistrantsOnly],
  [0x4000, ReservationType.ExclusiveAccessRegistrantsOnly],
  [0x8000, ReservationType.WriteExclusiveAllRegistrants],
  [0x0001, ReservationType.ExclusiveAccessAllRegistrants],
];

export function parseReserveCapabilities(data: Uint8Array): ReserveCapabilities | null {
  if (data.length < 8 || u16(data, 0) < 8) return null;
  const typesValid = (data[3]! & 0x80) !== 0;
  const mask = u16(data, 4);
  return {
    persistCapable: (data[2]! & 0x01) !== 0,
    persistActive: (data[3]! & 0x01) !== 0,
    allTargetPorts: (data[2]! & 0x04) !== 0,
    specifyInitiatorPorts: (data[2]! & 0x08) !== 0,
    types: typesValid
      ? TYPE_BITS.filter(([bit]) => (mask & bit) !== 0).map(([, type]) => type)
      : null,
  };
}

export interface Registration {
  readonly key: bigint;
  readonly holder: boolean;
  /** Counts when `holder`. */
  readonly type: number;
  readonly scope: number;
  readonly allTargetPorts: boolean;
  readonly relativePort: number;
  /** Initiator name, with ",i,0x" and the ISID; null when it is no iSCSI port. */
  readonly initiator: string | null;
}

export interface FullStatus {
  readonly generation: number;
  readonly registrations: readonly Registration[];
  readonly totalBytes: number;
}

const FULL_STATUS_BYTES = 24;

export function parseFullStatus(data: Uint8Array): FullStatus | null {
  if (data.length < 8) return null;
  const totalBytes = 8 + u32(data, 4);
  const end = Math.min(data.length, totalBytes);
  const registrations: Registration[] = [];
  for (let at = 8; at + FULL_STATUS_BYTES <= end; ) {
    const next = at + FULL_STATUS_BYTES + u32(data, at + 20);
    if (next > end) break; // cut off: what came before it still counts
    const flags = data[at + 12]!;
    registrations.push({
      key: key64(data, at),
      holder: (flags & 0x01) !== 0,
      allTargetPorts: (flags & 0x02) !== 0,
      type: data[at + 13]! & 0x0f,
      scope: data[at + 13]! >> 4,
      relativePort: u16(data, at + 18),
      initiator: parseIscsiTransportId(data.subarray(at + FULL_STATUS_BYTES, next)),
    });
    at = next;
  }
  return { generation: u32(data, 0), registrations, totalBytes };
}
