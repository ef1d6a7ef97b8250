import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PathStatus } from '#contracts/messages.ts';
import { systemClock } from '#core/clock.ts';
import { systemRng } from '#core/rng.ts';
import { NbdClient } from '#nbd/client.ts';
import { startTarget, type Target } from '#target/target.ts';
import { type Orion, startOrion } from '#testkit/orion.ts';
import { freePorts } from '#testkit/ports.ts';
import { waitFor } from '#testkit/wait.ts';
import { formatAddress } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';

/**
 * Behind a LUN there is suddenly another disk: somebody mapped it anew while the target was down. Not one write of the
 * volume may reach that, least of all one that waited for the path to come back (I05 of the checklist).
 */

const MIB = 1024 * 1024;
const SIZE_BYTES = 16 * MIB;
const TARGET_NAME = 'iqn.2026-11.test:replaced';
const OURS = '3000000000000001';
const FOREIGN = '3000000000000002';

let ports: readonly number[];
let target: Target;
let orion: Orion;

const start = (wwid: string): Promise<Target> =>
  startTarget({
    ...{ network: nodeNetwork, clock: systemClock, rng: systemRng },
    targetName: TARGET_NAME,
    portals: ports.map((port) => ({ address: { kind: 'tcp', host: '127.0.0.1', port } })),
    luns: [{ lun: 1, sizeBytes: SIZE_BYTES, wwid }],
  });

beforeAll(async () => {
  ports = await freePorts(2);
  target = await start(OURS);
  orion = await startOrion({
    portals: target.addresses.map(formatAddress),
    targetName: TARGET_NAME,
    embedded: true,
    // Longer than all that the write waits for takes, on the slowest machine.
    volume: 'no_path_retry_ms = 600000',
  });
  await ready();
});

afterAll(async () => {
  await orion?.stop();
  await target?.close();
});

async function paths(): Promise<PathStatus[]> {
  const response = await fetch(`${orion.http}/paths`);
  return ((await response.json()) as { paths: PathStatus[] }).paths;
}

const ready = (): Promise<true> =>
  waitFor(
    'both paths',
    async () => (await paths()).every(({ state }) => state === 'ready') || null,
    60_000,
  );

test('no write reaches another unit behind the same LUN, and a write that waits goes to its own', async () => {
  const address = { kind: 'unix', path: orion.socket } as const;
  const client = await NbdClient.connect({ network: nodeNetwork, address, exportName: 'vol1' });
  await client.write(0, Buffer.alloc(4096, 1));
  await target.close();
  target = await start(FOREIGN);
  const foreign = target.disk(1);
  const waiting = client.write(4096, Buffer.alloc(4096, 2));
  const refused = await waitFor('both paths are refused', async () => {
    const all = await paths();
    return all.every(({ lastError }) => lastError.startsWith('GATEWAY_OTHER_UNIT')) ? all : null;
  });
  expect(refused[0]!.lastError).toContain(`found=naa:${FOREIGN} expected=naa:${OURS}`);
  expect(foreign.allocatedBytes).toBe(0);
  await target.close();
  target = await start(OURS);
  await waiting;
  await ready();
  const into = Buffer.alloc(4096);
  target.disk(1).read(4096, into);
  expect(into.equals(Buffer.alloc(4096, 2))).toBe(true);
  expect(foreign.allocatedBytes).toBe(0);
  await client.disconnect();
});
