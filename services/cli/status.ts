import type { OrionConfig } from '#config/schema.ts';
import {
  type PathStatus,
  type ProcessStatus,
  Role,
  type SessionStatus,
  type VolumeStatus,
} from '#contracts/messages.ts';
import { printable } from '#core/printable.ts';
import { formatBytes } from '#core/units.ts';
import { duration, type Output, table } from './output.ts';
import { askNode } from './status-collect.ts';

export interface ProcessSummary {
  readonly role: string;
  readonly id: string;
  readonly node: string;
  readonly pid: number;
  readonly uptimeMs: number;
  readonly leader: boolean;
}

/** The whole as one: what `status --json` prints. */
export interface NodeStatus {
  readonly node: string;
  readonly cluster: string;
  readonly processes: readonly ProcessSummary[];
  readonly sessions: readonly SessionStatus[];
  readonly paths: readonly PathStatus[];
  readonly volumes: readonly VolumeStatus[];
}

const ROLE_ORDER: readonly string[] = [Role.Coordinator, Role.Worker, Role.Gateway];

export function mergeStatus(
  node: string,
  cluster: string,
  answers: readonly ProcessStatus[],
): NodeStatus {
  const byRole = [...answers].sort(
    (a, b) =>
      ROLE_ORDER.indexOf(a.role) - ROLE_ORDER.indexOf(b.role) ||
      a.id.localeCompare(b.id, 'en', { numeric: true }),
  );
  return {
    node,
    cluster,
    processes: byRole.map(({ role, id, node: on, pid, uptimeMs, leader }) => ({
      role,
      id,
      node: on,
      pid,
      uptimeMs: Math.round(uptimeMs),
      leader,
    })),
    sessions: byRole.flatMap(({ sessions }) => sessions).sort(byVolumeAndSlot),
    // The gateway that serves a volume knows its paths best: it is the last, and the last one wins.
    paths: lastOf(
      byRole.flatMap(({ paths }) => paths),
      (p) => `${p.volume} ${p.slot}`,
    ).sort(byVolumeAndSlot),
    volumes: lastOf(
      byRole.flatMap(({ volumes }) => volumes),
      (v) => v.name,
    ).sort((a, b) => a.name.localeCompare(b.name, 'en')),
  };
}

function lastOf<T>(items: readonly T[], key: (item: T) => string): T[] {
  return [...new Map(items.map((item) => [key(item), item])).values()];
}

function byVolumeAndSlot(
  a: { readonly volume: string; readonly slot: number },
  b: { readonly volume: string; readonly slot: number },
): number {
  return a.volume.localeCompare(b.volume, 'en') || a.slot - b.slot;
}

export async function nodeStatus(config: OrionConfig): Promise<NodeStatus> {
  return mergeStatus(config.node.name, config.node.cluster, await askNode(config));
}

export async function showStatus(config: OrionConfig, output: Output): Promise<void> {
  const status = await nodeStatus(config);
  if (output.json) output.line(JSON.stringify(status, null, 2));
  else output.line(statusText(status));
}

export function statusText(status: NodeStatus): string {
  const sections = [
    `node ${status.node}, cluster ${status.cluster}`,
    table(
      ['PROCESS', 'ROLE', 'NODE', 'PID', 'UP', ''],
      status.processes.map((p) => [
        p.id,
        p.role,
        p.node,
        p.pid,
        duration(p.uptimeMs),
        p.leader ? 'leader' : '',
      ]),
    ),
    volumesTable(status.volumes),
    pathsTable(status.paths),
    sessionsTable(status.sessions),
  ];
  return sections.join('\n\n');
}

export function volumesTable(volumes: readonly VolumeStatus[]): string {
  if (volumes.length === 0) return 'no volumes';
  return table(
    ['VOLUME', 'STATE', 'SIZE', 'PATHS', 'OWNER', 'EPOCH', 'FAILOVERS', 'HELD WRITES', 'TARGET'],
    volumes.map((v) => [
      v.name,
      v.state,
      formatBytes(v.sizeBytes),
      `${v.pathsReady} of ${v.pathsTotal}`,
      v.owner,
      v.epoch,
      v.failovers,
      v.heldWrites,
      printable(v.target),
    ]),
  );
}

export function pathsTable(paths: readonly PathStatus[]): string {
  if (paths.length === 0) return 'no paths';
  return table(
    [
      'PATH OF',
      'SLOT',
      'PORTAL',
      'WORKER',
      'STATE',
      'ACCESS',
      'IN FLIGHT',
      'READS',
      'WRITES',
      'ERRORS',
      'LATENCY',
      'LAST ERROR',
    ],
    paths.map((p) => [
      p.volume,
      p.slot,
      p.portal,
      p.worker,
      p.state,
      p.access ?? '',
      p.inflight,
      p.reads,
      p.writes,
      p.errors,
      // Nothing was read yet: no time is known.
      p.latencyUs === 0 ? '' : `${Math.round(p.latencyUs)} us`,
      p.lastError,
    ]),
  );
}

export function sessionsTable(sessions: readonly SessionStatus[]): string {
  if (sessions.length === 0) return 'no sessions';
  return table(
    [
      'SESSION OF',
      'SLOT',
      'PORTAL',
      'WORKER',
      'STATE',
      'ISID',
      'TSIH',
      'AGE',
      'COMMANDS',
      'READ',
      'WRITTEN',
    ],
    sessions.map((s) => [
      s.volume,
      s.slot,
      s.portal,
      s.worker,
      s.state,
      s.isid,
      s.tsih,
      duration(s.ageMs),
      s.commands,
      formatBytes(s.bytesRead),
      formatBytes(s.bytesWritten),
    ]),
  );
}
