import { type VolumePlan, volumePlans } from '#config/derive.ts';
import type { OrionConfig } from '#config/schema.ts';
import { printable } from '#core/printable.ts';
import { formatBytes } from '#core/units.ts';
import { type Output, table } from './output.ts';
import { type NodeStatus, nodeStatus, pathsTable, sessionsTable, volumesTable } from './status.ts';

/** The management commands of the specification that show something. */

type Report = (config: OrionConfig, output: Output) => Promise<void>;

function report(
  json: (status: NodeStatus, config: OrionConfig) => unknown,
  text: (status: NodeStatus, config: OrionConfig) => string,
): Report {
  return async (config, output) => {
    const status = await nodeStatus(config);
    output.line(output.json ? JSON.stringify(json(status, config), null, 2) : text(status, config));
  };
}

const sessionInfo = report(
  ({ sessions }) => sessions,
  ({ sessions }) => sessionsTable(sessions),
);

const connectionsOf = ({ sessions }: NodeStatus) =>
  sessions.flatMap((s) =>
    s.connections.map(({ cid, portal, state }) => ({
      volume: s.volume,
      slot: s.slot,
      cid,
      isid: s.isid,
      portal,
      worker: s.worker,
      state,
      ageMs: s.ageMs,
    })),
  );

const connectionInfo = report(connectionsOf, (status) => {
  const connections = connectionsOf(status);
  if (connections.length === 0) return 'no connections';
  return table(
    ['CONNECTION OF', 'SLOT', 'CID', 'PORTAL', 'WORKER', 'STATE'],
    connections.map((c) => [c.volume, c.slot, c.cid, c.portal, c.worker, c.state]),
  );
});

const targetsOf = ({ sessions }: NodeStatus, config: OrionConfig) => {
  const plans = volumePlans(config);
  return config.targets.map((target) => ({
    name: target.name,
    initiatorName: target.initiator_name,
    portals: target.portals.map((portal) => ({
      portal,
      sessions: sessions.filter((s) => s.target === target.name && s.portal === portal).length,
    })),
    volumes: plans.filter((plan) => plan.target === target.name).map(nameAndLun),
  }));
};

function nameAndLun({ volume, lun }: VolumePlan) {
  return { name: volume.name, lun };
}

const targetInfo = report(targetsOf, (status, config) => {
  const targets = targetsOf(status, config);
  if (targets.length === 0) return 'no targets in the configuration';
  const rows = targets.flatMap((target) =>
    target.portals.map(({ portal, sessions }, at) => [
      at === 0 ? target.name : '',
      portal,
      sessions,
      at === 0 ? target.volumes.map(({ name }) => name).join(', ') : '',
    ]),
  );
  return table(['TARGET', 'PORTAL', 'SESSIONS', 'VOLUMES'], rows);
});

const multipathOf = ({ volumes, paths }: NodeStatus, config: OrionConfig) =>
  volumes.map((volume) => ({
    ...volume,
    policy: config.volumes.find(({ name }) => name === volume.name)?.policy ?? '',
    paths: paths.filter((path) => path.volume === volume.name),
  }));

const multipathInfo = report(multipathOf, (status, config) => {
  if (status.volumes.length === 0) return 'no volumes';
  return multipathOf(status, config)
    .map(({ paths, policy, ...volume }) => {
      const head = `${volume.name}  ${volume.state}  policy ${policy}  ${formatBytes(volume.sizeBytes)}  failovers ${volume.failovers}`;
      return `${printable(head)}\n${pathsTable(paths)}`;
    })
    .join('\n\n');
});

const performanceStats = report(
  ({ volumes, paths, sessions }) => ({ volumes, paths, sessions }),
  ({ volumes, paths }) => `${volumesTable(volumes)}\n\n${pathsTable(paths)}`,
);

const networkOf = ({ sessions }: NodeStatus) => {
  const portals = [...new Set(sessions.map(({ portal }) => portal))].sort();
  return portals.map((portal) => {
    const own = sessions.filter((session) => session.portal === portal);
    const sum = (of: (session: (typeof own)[number]) => number): number =>
      own.reduce((total, session) => total + of(session), 0);
    return {
      portal,
      sessions: own.length,
      commands: sum((s) => s.commands),
      bytesReceived: sum((s) => s.bytesRead),
      bytesSent: sum((s) => s.bytesWritten),
      inflight: sum((s) => s.inflight),
    };
  });
};

const networkStats = report(networkOf, (status) => {
  const rows = networkOf(status);
  if (rows.length === 0) return 'no sessions';
  return table(
    ['PORTAL', 'SESSIONS', 'COMMANDS', 'DATA RECEIVED', 'DATA SENT', 'IN FLIGHT'],
    rows.map((r) => [
      r.portal,
      r.sessions,
      r.commands,
      formatBytes(r.bytesReceived),
      formatBytes(r.bytesSent),
      r.inflight,
    ]),
  );
});

export const reports = {
  sessionInfo,
  connectionInfo,
  targetInfo,
  multipathInfo,
  performanceStats,
  networkStats,
} as const;
export type ReportName = keyof typeof reports;
