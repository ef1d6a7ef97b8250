/** The shell scripts that make an LIO target below /sys/kernel/config/target, from plain data. */

export type LioValues = Readonly<Record<string, string | number>>;

export interface LioAccount {
  readonly user: string;
  readonly password: string;
}

export interface LioLun {
  readonly sizeBytes: number;
  /** 512 when left out. */
  readonly blockBytes?: number;
  /** A unit serial number; made of the LUN's number when left out. */
  readonly serial?: string;
  /** A volatile write cache, which SYNCHRONIZE CACHE empties. */
  readonly cached?: boolean;
  /** Files of its directory `attrib`, such as { emulate_tpu: 1 } for UNMAP. */
  readonly attributes?: LioValues;
}

/** What can be changed of a target portal group between two logins. */
export interface LioGroupSettings {
  /** Files of its directory `attrib`, such as { default_erl: 2 }. */
  readonly attributes?: LioValues;
  /** Files of its directory `param`: text keys such as { HeaderDigest: 'CRC32C,None', MaxConnections: 4 }. */
  readonly parameters?: LioValues;
  /** Who may log in, null for everybody. LIO takes the first algorithm of the initiator's list that it knows. */
  readonly chap?: LioAccount | null;
  /** How the target proves itself, null for not at all. */
  readonly chapOutgoing?: LioAccount | null;
}

export interface LioGroup extends LioGroupSettings {
  /** Which portals (0, 1, …) belong to it; all when there is but one group. */
  readonly portals?: readonly number[];
}

/** States of a target port group (SPC-4 §5.15.2.4), as REPORT TARGET PORT GROUPS tells them. */
export const LioAccess = {
  ActiveOptimized: 0,
  ActiveNonOptimized: 1,
  Standby: 2,
  Unavailable: 3,
  Offline: 14,
} as const;

export type LioAccess = (typeof LioAccess)[keyof typeof LioAccess];

export interface LioTarget {
  readonly name: string;
  readonly portals: number;
  readonly luns: readonly LioLun[];
  readonly groups: readonly LioGroup[];
  /** Each portal group is a target port group of its own, whose state can be changed. */
  readonly alua: boolean;
}

/** The machine's address, on its side of the address translation, and the port of portal 0. */
export const GUEST_ADDRESS = '10.0.2.15';
export const FIRST_GUEST_PORT = 3260;

const ROOT = '/sys/kernel/config/target';

/** Identifiers of the target port groups: this, and the tag of the portal group. */
const ALUA_ID_BASE = 16;

/** Implicit and explicit (SPC-4 §6.37.3 TPGS). */
const ALUA_BOTH = 3;

function quoted(text: string | number): string {
  return `'${String(text).replaceAll("'", "'\\''")}'`;
}

function put(path: string, value: string | number): string {
  const [what, where] = [quoted(value), quoted(path)];
  // Without an end of line: LIO would take it for a part of a password.
  return `printf %s ${what} >${where} || { echo cannot write ${what} to ${where}; exit 1; }`;
}

function putAll(directory: string, values: LioValues = {}): string[] {
  return Object.entries(values).map(([name, value]) => put(`${directory}/${name}`, value));
}

/** Directory of a portal group. */
export function groupPath(target: string, tag: number): string {
  return `${ROOT}/iscsi/${target}/tpgt_${tag}`;
}

/** Directory of the backing device of a LUN. */
export function devicePath(lun: number): string {
  return `${ROOT}/core/fileio_0/d${lun}`;
}

function deviceScript(lun: LioLun, number: number): string[] {
  const path = devicePath(number);
  const file = `/disks/lun${number}`;
  const buffered = lun.cached === true ? ',fd_buffered_io=1' : '';
  return [
    `mkdir -p ${path}`,
    // As long as it shall be, but without content.
    `truncate -s ${lun.sizeBytes} ${file}`,
    put(`${path}/control`, `fd_dev_name=${file},fd_dev_size=${lun.sizeBytes}${buffered}`),
    put(`${path}/enable`, 1),
    put(`${path}/wwn/vpd_unit_serial`, lun.serial ?? `0000000${number}-lio-lun`),
    ...(lun.blockBytes === undefined ? [] : [put(`${path}/attrib/block_size`, lun.blockBytes)]),
    ...putAll(`${path}/attrib`, lun.attributes),
  ];
}

function aluaScript(lun: number, tag: number): string[] {
  const path = `${devicePath(lun)}/alua/${aluaName(tag)}`;
  return [
    `mkdir -p ${path}`,
    put(`${path}/tg_pt_gp_id`, ALUA_ID_BASE + tag),
    put(`${path}/alua_access_type`, ALUA_BOTH),
  ];
}

function aluaName(tag: number): string {
  return `tpg${tag}`;
}

export function aluaStateScript(lun: number, tag: number, state: LioAccess): string {
  return put(`${devicePath(lun)}/alua/${aluaName(tag)}/alua_access_state`, state);
}

function authScript(path: string, account: LioAccount | null, outgoing: boolean): string[] {
  const suffix = outgoing ? '_mutual' : '';
  // NULL is LIO's word for none.
  return [
    put(`${path}/auth/userid${suffix}`, account?.user ?? 'NULL'),
    put(`${path}/auth/password${suffix}`, account?.password ?? 'NULL'),
  ];
}

export function settingsScript(target: string, tag: number, settings: LioGroupSettings): string {
  const path = groupPath(target, tag);
  const { chap, chapOutgoing } = settings;
  return [
    ...putAll(`${path}/attrib`, settings.attributes),
    ...putAll(`${path}/param`, settings.parameters),
    ...(chap === undefined
      ? []
      : [...authScript(path, chap, false), put(`${path}/attrib/authentication`, chap ? 1 : 0)]),
    ...(chapOutgoing === undefined ? [] : authScript(path, chapOutgoing, true)),
  ].join('\n');
}

function groupScript(target: LioTarget, group: LioGroup, tag: number): string[] {
  const path = groupPath(target.name, tag);
  const portals = group.portals ?? Array.from({ length: target.portals }, (_, index) => index);
  const lunScript = (lun: number): string[] => [
    `mkdir -p ${path}/lun/lun_${lun}`,
    `ln -s ${devicePath(lun)} ${path}/lun/lun_${lun}/device`,
    ...(target.alua ? [put(`${path}/lun/lun_${lun}/alua_tg_pt_gp`, aluaName(tag))] : []),
  ];
  return [
    `mkdir -p ${path}`,
    ...target.luns.flatMap((_, lun) => lunScript(lun)),
    // With 0.0.0.0 it would tell everybody the port that discovery went to.
    ...portals.map((portal) => `mkdir -p ${path}/np/${GUEST_ADDRESS}:${FIRST_GUEST_PORT + portal}`),
    // Whoever comes may write, without an entry of his own.
    settingsScript(target.name, tag, {
      attributes: { authentication: 0, generate_node_acls: 1, demo_mode_write_protect: 0 },
    }),
    settingsScript(target.name, tag, group),
    put(`${path}/enable`, 1),
  ];
}

/** Makes the whole target. */
export function targetScript(target: LioTarget): string {
  const tags = target.groups.map((_, index) => index + 1);
  return [
    ...target.luns.flatMap(deviceScript),
    ...(target.alua
      ? target.luns.flatMap((_, lun) => tags.flatMap((tag) => aluaScript(lun, tag)))
      : []),
    `mkdir -p ${ROOT}/iscsi/${target.name}`,
    ...target.groups.flatMap((group, index) => groupScript(target, group, index + 1)),
  ].join('\n');
}

/** Who may ask for the list of targets. */
export function discoveryScript(account: LioAccount | null, outgoing: LioAccount | null): string {
  const path = `${ROOT}/iscsi/discovery_auth`;
  const lines = (who: LioAccount | null, suffix: string): string[] => [
    put(`${path}/userid${suffix}`, who?.user ?? 'NULL'),
    put(`${path}/password${suffix}`, who?.password ?? 'NULL'),
  ];
  return [
    ...lines(account, ''),
    ...lines(outgoing, '_mutual'),
    put(`${path}/enforce_discovery_auth`, account === null ? 0 : 1),
  ].join('\n');
}
