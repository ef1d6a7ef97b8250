import { putU16, putU32, startCdb, u16, u32 } from './bytes.ts';
import { ScsiOp } from './opcodes.ts';

/** Asymmetric logical unit access (SPC-4 §5.11): which groups of target ports serve a logical unit, and how well. */

const TARGET_PORT_GROUPS = 0x0a;
const EXTENDED_HEADER = 0x20;

/** Asymmetric access states (SPC-4 table 309). */
export const AluaState = {
  ActiveOptimized: 0x0,
  ActiveNonOptimized: 0x1,
  Standby: 0x2,
  Unavailable: 0x3,
  LbaDependent: 0x4,
  Offline: 0xe,
  Transitioning: 0xf,
} as const;
export type AluaState = (typeof AluaState)[keyof typeof AluaState];

const KNOWN_STATES: ReadonlySet<number> = new Set(Object.values(AluaState));

export interface TargetPortGroup {
  readonly group: number;
  readonly state: AluaState;
  /** The device would rather be used through this group. */
  readonly preferred: boolean;
  /** Relative identifiers of its ports. */
  readonly ports: readonly number[];
}

export interface TargetPortGroups {
  readonly groups: readonly TargetPortGroup[];
  /** How long a transition on the device's own account may take; null when it does not say. */
  readonly transitionSeconds: number | null;
  /** Bytes that the whole answer takes, which may be more than arrived. */
  readonly totalBytes: number;
}

/** REPORT TARGET PORT GROUPS (SPC-4 §6.37), with the header that tells the transition time when `extended`. */
export function putReportTargetPortGroups(
  into: Uint8Array,
  at: number,
  extended: boolean,
  allocationBytes: number,
): void {
  startCdb(into, at, ScsiOp.MaintenanceIn);
  into[at + 1] = TARGET_PORT_GROUPS | (extended ? EXTENDED_HEADER : 0);
  putU32(into, at + 6, allocationBytes);
}

/**
 * Null when it is no answer of either form. A group in a state without a meaning here counts as unavailable: nothing is
 * sent where nobody knows what would come of it.
 */
export function parseTargetPortGroups(data: Uint8Array): TargetPortGroups | null {
  if (data.length < 4) return null;
  const totalBytes = 4 + u32(data, 0);
  const end = Math.min(data.length, totalBytes);
  // Bits 6 to 4 of byte 4: 001b is the extended header. In the other form byte 4 begins a descriptor, whose bits 6 to 4
  // are reserved.
  const extended = end >= 8 && (data[4]! & 0x70) === 0x10;
  const groups: TargetPortGroup[] = [];
  for (let at = extended ? 8 : 4; at + 8 <= end; ) {
    const next = at + 8 + 4 * data[at + 7]!;
    const ports: number[] = [];
    for (let port = at + 8; port + 4 <= Math.min(next, end); port += 4) {
      ports.push(u16(data, port + 2));
    }
    const state = data[at]! & 0x0f;
    groups.push({
      group: u16(data, at + 2),
      state: (KNOWN_STATES.has(state) ? state : AluaState.Unavailable) as AluaState,
      preferred: (data[at]! & 0x80) !== 0,
      ports,
    });
    at = next;
  }
  const seconds = extended ? data[5]! : 0;
  return { groups, totalBytes, transitionSeconds: seconds === 0 ? null : seconds };
}

/** SET TARGET PORT GROUPS (SPC-4 §6.45); `parameterBytes` is the length of `targetPortGroupStates`. */
export function putSetTargetPortGroups(into: Uint8Array, at: number, parameterBytes: number): void {
  startCdb(into, at, ScsiOp.MaintenanceOut);
  into[at + 1] = TARGET_PORT_GROUPS;
  putU32(into, at + 6, parameterBytes);
}

/** The parameter list of SET TARGET PORT GROUPS. */
export function targetPortGroupStates(
  wanted: readonly { readonly group: number; readonly state: AluaState }[],
): Buffer {
  const bytes = Buffer.alloc(4 + 4 * wanted.length);
  let at = 4;
  for (const { group, state } of wanted) {
    bytes[at] = state;
    putU16(bytes, at + 2, group);
    at += 4;
  }
  return bytes;
}
