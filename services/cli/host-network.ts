import { availableParallelism } from 'node:os';
import { busyPollMs, type RoleName } from '#config/derive.ts';
import type { OrionConfig } from '#config/schema.ts';
import type { Workload } from '#core/workload.ts';
import { BusyPoll } from '#wire/busy-poll.ts';
import type { Network } from '#wire/network.ts';
import { makeNodeNetwork, nodeNetwork } from '#wire/node-network.ts';

/** The network of a process in production, and where its services count their requests: that steers how it waits. */
export function hostNetwork(
  config: OrionConfig,
  role: RoleName | 'embedded',
): { readonly network: Network; readonly workload: Workload } {
  const workload: Workload = { inflight: 0 };
  const windowMs = busyPollMs(config, role, availableParallelism());
  if (windowMs === 0) return { network: nodeNetwork, workload };
  const nowMs = (): number => performance.now();
  const poll = new BusyPoll({ windowMs, workload, nowMs, nextTurn: setImmediate });
  return { network: makeNodeNetwork(() => poll.heard()), workload };
}
