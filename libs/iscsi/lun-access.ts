import { isOrionError } from '../core/errors.ts';
import { AccessState, ANY_ACCESS, type PathAccess } from '../multipath/access.ts';
import {
  AluaState,
  parseTargetPortGroups,
  putReportTargetPortGroups,
  putSetTargetPortGroups,
  type TargetPortGroup,
  type TargetPortGroups,
  targetPortGroupStates,
} from '../scsi/target-port-groups.ts';
import type { TargetPort } from '../scsi/vpd.ts';
import { badData, type RunOptions, run, runChecked } from './execute.ts';
import type { IscsiSession } from './session.ts';

/** REPORT TARGET PORT GROUPS is asked for this much first, and at most for the second. */
const GROUPS_BYTES = 1024;
const GROUPS_BYTES_MAX = 64 * 1024;

const STATES: Readonly<Record<AluaState, AccessState>> = {
  [AluaState.ActiveOptimized]: AccessState.Optimized,
  [AluaState.ActiveNonOptimized]: AccessState.NonOptimized,
  [AluaState.Standby]: AccessState.Standby,
  [AluaState.Unavailable]: AccessState.Unavailable,
  [AluaState.LbaDependent]: AccessState.LbaDependent,
  [AluaState.Offline]: AccessState.Offline,
  [AluaState.Transitioning]: AccessState.Transitioning,
};

/** What REPORT TARGET PORT GROUPS says of the port that this path leads to. */
export interface AccessReport {
  readonly access: PathAccess;
  readonly transitionSeconds: number | null;
}

/** REPORT TARGET PORT GROUPS, with the extended header where the device knows it (I18). */
export async function readTargetPortGroups(
  session: IscsiSession,
  lun: Buffer,
  options: RunOptions,
): Promise<TargetPortGroups> {
  const ask = async (extended: boolean, bytes: number): Promise<Buffer | null> => {
    const request = {
      cdb: (into: Buffer, at: number) => putReportTargetPortGroups(into, at, extended, bytes),
      receiveBytes: bytes,
    };
    if (!extended) return runChecked(session, lun, request, options);
    const result = await run(session, lun, request, options);
    return result.good ? result.data : null;
  };
  let extended = true;
  let data = await ask(true, GROUPS_BYTES);
  if (data === null) {
    extended = false;
    data = await ask(false, GROUPS_BYTES);
  }
  let groups = parseTargetPortGroups(data!);
  if (groups !== null && groups.totalBytes > GROUPS_BYTES) {
    const bytes = Math.min(groups.totalBytes, GROUPS_BYTES_MAX);
    groups = parseTargetPortGroups((await ask(extended, bytes)) ?? data!);
  }
  if (groups === null) throw badData('REPORT TARGET PORT GROUPS');
  return groups;
}

/** Moves groups to other states (explicit ALUA). The device may say no, or move others too. */
export async function setTargetPortGroups(
  session: IscsiSession,
  lun: Buffer,
  wanted: readonly { readonly group: number; readonly state: AluaState }[],
  options: RunOptions,
): Promise<void> {
  const send = targetPortGroupStates(wanted);
  const cdb = (into: Buffer, at: number): void => putSetTargetPortGroups(into, at, send.length);
  await runChecked(session, lun, { cdb, send }, options);
}

/**
 * The state of the path when a LUN is attached; null for a device without target port groups, or one that claims them and
 * does not know the command.
 */
export async function learnAccess(
  session: IscsiSession,
  lun: Buffer,
  tpgs: number,
  port: TargetPort,
  options: RunOptions,
): Promise<PathAccess | null> {
  if (tpgs === 0) return null;
  try {
    return (await readAccess(session, lun, port, options)).access;
  } catch (error) {
    if (isOrionError(error) && error.code === 'SCSI_UNSUPPORTED') return null;
    throw error;
  }
}

export async function readAccess(
  session: IscsiSession,
  lun: Buffer,
  port: TargetPort,
  options: RunOptions,
): Promise<AccessReport> {
  const { groups, transitionSeconds } = await readTargetPortGroups(session, lun, options);
  const own = ownGroup(groups, port);
  if (own === null) return { access: ANY_ACCESS, transitionSeconds };
  const access = { state: STATES[own.state], preferred: own.preferred, group: own.group };
  return { access, transitionSeconds };
}

/** Ours by its number, else by the port in it; a device that tells neither has one group for all. */
function ownGroup(groups: readonly TargetPortGroup[], port: TargetPort): TargetPortGroup | null {
  const byNumber = groups.find(({ group }) => group === port.group);
  if (byNumber !== undefined) return byNumber;
  const { relativePort } = port;
  const byPort =
    relativePort === null ? undefined : groups.find(({ ports }) => ports.includes(relativePort));
  if (byPort !== undefined) return byPort;
  return groups.length === 1 ? groups[0]! : null;
}
