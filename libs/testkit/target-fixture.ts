import { seededRng } from '../core/rng.ts';
import { startTarget, type Target, type TargetOptions } from '../target/target.ts';
import type { Address } from '../wire/network.ts';
import { MemoryNetwork } from './memory-network.ts';
import type { LinkKnobs } from './memory-stream.ts';
import { RawInitiator, type RawLoginOptions } from './raw-initiator.ts';
import { VirtualClock } from './virtual-clock.ts';

export const TARGET_NAME = 'iqn.2026-11.test:target';

const MIB = 1024 * 1024;

/** Two portals of two groups. */
export const PORTALS: readonly { address: Address; tpgt: number }[] = [
  { address: { kind: 'tcp', host: 'target', port: 3260 }, tpgt: 1 },
  { address: { kind: 'tcp', host: 'target', port: 3261 }, tpgt: 2 },
];

export interface TargetFixture {
  readonly clock: VirtualClock;
  readonly network: MemoryNetwork;
  readonly target: Target;
  connect(portal?: number): Promise<RawInitiator>;
  /** Connects, logs in, and takes the unit attention of power on from LUN 0. */
  login(
    options?: RawLoginOptions & { portal?: number; keepAttention?: boolean },
  ): Promise<RawInitiator>;
}

/** A target with one LUN of 16 MiB in a network in memory, and initiators that do what they are told. */
export async function targetFixture(
  options: Partial<TargetOptions> & { seed?: number; link?: Partial<LinkKnobs> } = {},
): Promise<TargetFixture> {
  const clock = new VirtualClock();
  const rng = seededRng(options.seed ?? 1);
  const network = new MemoryNetwork(clock, rng, options.link);
  const target = await startTarget({
    network: network.host('target'),
    clock,
    rng,
    targetName: TARGET_NAME,
    portals: PORTALS,
    luns: [{ lun: 0, sizeBytes: 16 * MIB }],
    ...options,
  });
  const connect = (portal = 0): Promise<RawInitiator> =>
    RawInitiator.connect(clock, network.host('initiator'), target.addresses[portal]!);
  return {
    clock,
    network,
    target,
    connect,
    async login(loginOptions = {}) {
      const initiator = await connect(loginOptions.portal);
      await initiator.login(loginOptions);
      if (loginOptions.discovery === true || loginOptions.keepAttention === true) return initiator;
      const { status } = await initiator.run([0x00]);
      if (status !== 0x02) throw new Error('a new session begins with a unit attention');
      return initiator;
    },
  };
}
