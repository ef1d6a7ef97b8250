import type { Role } from './messages.ts';

/** Every subject of the bus, made in one place. `cluster` is the cluster's name. */
export function subjects(cluster: string) {
  const root = `orion.v1.${cluster}`;
  return {
    heartbeat: (role: Role, id: string) => `${root}.hb.${role}.${id}`,
    heartbeats: `${root}.hb.>`,
    claim: (worker: string) => `${root}.worker.${worker}.claim`,
    reset: (worker: string) => `${root}.worker.${worker}.reset`,
    afterReset: (worker: string) => `${root}.worker.${worker}.after-reset`,
    release: (worker: string) => `${root}.worker.${worker}.release`,
    seal: (worker: string) => `${root}.worker.${worker}.seal`,
    reconnect: (gateway: string) => `${root}.gateway.${gateway}.reconnect`,
    status: (id: string) => `${root}.process.${id}.status`,
    event: (noun: string, id: string) => `${root}.event.${noun}.${id}`,
    events: `${root}.event.>`,
    bucket: `orion-${cluster}`,
  };
}
export type Subjects = ReturnType<typeof subjects>;

export function volumeKey(name: string): string {
  return `vol.${Buffer.from(name).toString('hex')}`;
}
