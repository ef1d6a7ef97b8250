import { createHash } from 'node:crypto';
import { VOLUME_PATHS_MAX } from '../core/limits.ts';
import { type Address, formatAddress, parseAddress } from '../wire/network.ts';
import type { OrionConfig, VolumeConfig } from './schema.ts';

/** What follows from a configuration without being written in it. */

/** Fills in the defaults that depend on other keys. */
export function withDerived(raw: OrionConfig, hostname: string): OrionConfig {
  const name = raw.node.name === '' ? nodeNameOf(hostname) : raw.node.name;
  const stateDir = raw.node.state_dir === '' ? `/var/tmp/orion-${name}` : raw.node.state_dir;
  // Nodes of one bus are one initiator. A node with a bus of its own is another one than the next such node, even where
  // both keep the default cluster name: with the same name each would end the other's sessions.
  const alone = raw.bus.url === '' ? `.${shortHash(`${hostname}\0${stateDir}`)}` : '';
  const initiator = `iqn.2026-11.io.orion-iscsi:${raw.node.cluster.toLowerCase()}${alone}`;
  return {
    ...raw,
    node: { ...raw.node, name, state_dir: stateDir },
    discovery: {
      ...raw.discovery,
      initiator_name: raw.discovery.initiator_name || initiator,
    },
    targets: raw.targets.map((target) => ({
      ...target,
      initiator_name: target.initiator_name === '' ? initiator : target.initiator_name,
    })),
  };
}

const SHORT_HASH_DIGITS = 8;

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, SHORT_HASH_DIGITS);
}

const NODE_NAME_CHARS_MAX = 40;

function nodeNameOf(hostname: string): string {
  const label = hostname.split('.')[0]!.replaceAll(/[^A-Za-z0-9_-]/g, '-');
  const name = label.replace(/^[_-]+/, '').slice(0, NODE_NAME_CHARS_MAX);
  return name === '' ? 'node' : name;
}

const ROLE_LETTER = { coordinator: 'c', worker: 'w', gateway: 'g' } as const;
export type RoleName = keyof typeof ROLE_LETTER;

/** "n1-w0": the id of a process, stable over its restarts. */
export function processId(config: OrionConfig, role: RoleName, index: number): string {
  return `${config.node.name}-${ROLE_LETTER[role]}${index}`;
}

/** The number at the end of a process id; 0 when it has none. */
export function processIndex(id: string): number {
  return Number(/(\d{1,4})$/.exec(id)?.[1] ?? 0);
}

/**
 * For how long a process of this role looks for events before it sleeps. Each that does takes a core, and one must be left
 * for whoever is waited for: on small machines workers come first, since two of their wake-ups are saved for each request.
 */
export function busyPollMs(
  config: OrionConfig,
  role: RoleName | 'embedded',
  cores: number,
): number {
  const { count } = config.workers;
  const looking = { embedded: 1, worker: count, gateway: count + 1, coordinator: cores }[role];
  return cores > looking ? config.node.busy_poll_us / 1000 : 0;
}

/**
 * A LUN as the 8 bytes of REPORT LUNS in hex. SAM-5 §4.7.5 (peripheral, to 255) and §4.7.7 (flat, to 16383): the
 * forms that targets give small numbers; for another form write the 16 digits.
 */
export function lunHex(lun: number | string): string {
  if (typeof lun === 'string') return lun;
  const first = lun <= 0xff ? lun : 0x4000 | lun;
  return `${first.toString(16).padStart(4, '0')}000000000000`;
}

export interface VolumePlan {
  readonly volume: VolumeConfig;
  readonly target: string;
  readonly initiatorName: string;
  readonly lun: string;
  /** One path to each: bounded, and one alone where multipathing is off. */
  readonly portals: readonly string[];
}

/** Each volume with what its target says. */
export function volumePlans(config: OrionConfig): VolumePlan[] {
  const isMultipath = config.iscsi.multipath_enabled && config.iscsi.target_multipathing;
  const pathsMax = isMultipath ? VOLUME_PATHS_MAX : 1;
  return config.volumes.map((volume) => {
    // checkAcross has refused a volume without its target.
    const target = config.targets.find(({ name }) => name === volume.target)!;
    return {
      volume,
      target: target.name,
      initiatorName: target.initiator_name,
      lun: lunHex(volume.lun),
      portals: target.portals.slice(0, pathsMax),
    };
  });
}

export interface WorkerLink {
  readonly listen: readonly Address[];
  /** What a worker's heartbeat says, when listening worked as asked: "unix:/path" or "host:port". */
  readonly advertise: string;
}

/** Where one worker takes links. */
export function workerLink(config: OrionConfig, id: string): WorkerLink {
  const { link_listen: given, link_advertise: advertise } = config.workers;
  const texts = given.length === 0 ? [`unix:${config.node.state_dir}/link-{id}.sock`] : given;
  const listen = texts.map((text) => forWorker(text, id));
  const first = advertise === '' ? listen[0]! : forWorker(advertise, id);
  return { listen, advertise: formatAddress(first) };
}

function forWorker(text: string, id: string): Address {
  const address = parseAddress(text.replaceAll('{id}', id))!; // checked by the schema
  if (address.kind === 'unix' || address.port === 0) return address;
  return { ...address, port: address.port + processIndex(id) };
}
