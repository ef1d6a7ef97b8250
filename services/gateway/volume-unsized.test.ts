import { expect, test } from 'vitest';
import type { BlockCapabilities } from '#block/device.ts';
import type { VolumePlan } from '#config/derive.ts';
import type { OrionConfig } from '#config/schema.ts';
import type { ClaimReply } from '#contracts/messages.ts';
import type { SlotRecord, VolumeRecord } from '#contracts/records.ts';
import { seededRng } from '#core/rng.ts';
import { AccessState } from '#multipath/access.ts';
import { createLogger } from '#telemetry/log.ts';
import { ScriptedPath } from '#testkit/scripted-path.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import type { Ownership } from './ownership.ts';
import { Volume } from './volume.ts';
import type { Workers } from './workers.ts';

/** A logical unit that does not tell its size over one of its ports now. */

const SIZE_BYTES = 1024 * 1024;
const CLOSED = { state: AccessState.Unavailable, preferred: false, group: 2 };
const capsOf = (sizeBytes: number) => ({ sizeBytes, blockBytes: 512 }) as BlockCapabilities;

const slot = (number: number): SlotRecord => ({
  slot: number,
  portal: `p${number}`,
  worker: 'w',
  incarnation: 1,
  tpgt: 1,
  state: 'assigned',
});
const reply = (sizeBytes: number): ClaimReply =>
  ({ portal: 'p', wwid: 'naa:1', sizeBytes, blockBytes: 512, access: CLOSED }) as ClaimReply;

function rig() {
  const record = { name: 'v', epoch: 1, wwid: 'naa:1', slots: [slot(0), slot(1)] };
  const released: number[] = [];
  const clock = new VirtualClock();
  const volume = new Volume({
    plan: { volume: { name: 'v', policy: 'round-robin' }, portals: ['p'] } as unknown as VolumePlan,
    ownership: { record: record as unknown as VolumeRecord, epoch: 1 } as unknown as Ownership,
    workers: {
      release: async (_worker: string, order: { slot: number }) => released.push(order.slot),
      path: async (_worker: string, name: string, _order: unknown, { sizeBytes }: ClaimReply) => {
        const path = new ScriptedPath(name, capsOf(sizeBytes));
        if (sizeBytes === 0) path.access = CLOSED;
        return path;
      },
    } as unknown as Workers,
    clock,
    rng: seededRng(1),
    log: createLogger({ level: 'silent', pretty: false, name: 'test' }),
    node: 'n',
    iscsi: { target_health_check_interval: 30 } as OrionConfig['iscsi'],
    knownHere: false,
    onReady: () => {},
    onLostOwnership: () => {},
  });
  return { volume, released };
}

test('a volume does not begin with a path over which its size is unknown, and lets its session go', async () => {
  const { volume, released } = rig();
  await expect(volume.serve(slot(1), reply(0))).rejects.toMatchObject({
    code: 'GATEWAY_SIZE_UNKNOWN',
    outcome: 'not-executed',
  });
  expect(released).toEqual([1]);
});

test('such a path joins a volume whose size another one has told, as a ghost', async () => {
  const { volume, released } = rig();
  await volume.serve(slot(0), reply(SIZE_BYTES));
  await volume.verify(slot(1), reply(0));
  await volume.serve(slot(1), reply(0));
  expect(released).toEqual([]);
  expect(volume.device.caps.sizeBytes).toBe(SIZE_BYTES);
  expect(volume.device.paths.map(({ slot: number, state }) => `${number} ${state}`)).toEqual([
    '0 ready',
    '1 ghost',
  ]);
  // One that tells a smaller size is still refused.
  await expect(volume.verify(slot(1), reply(SIZE_BYTES / 2))).rejects.toMatchObject({
    code: 'MULTIPATH_PATH_DIFFERS',
  });
  await volume.device.close();
});
