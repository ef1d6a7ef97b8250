import { afterEach, beforeEach, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import type { ScriptedPath } from '../testkit/scripted-path.ts';
import type { Lent } from '../wire/lent.ts';
import { block, VolumeRig, watch } from './testing/volume-rig.ts';

const BYTES = 64 * 1024;

let rig: VolumeRig;
let a: ScriptedPath;
let b: ScriptedPath;

beforeEach(() => {
  rig = new VolumeRig({ policy: 'round-robin' });
  a = rig.add(0);
  b = rig.add(1);
});

afterEach(async () => {
  await rig.volume.close();
  expect([a.lentBytes, b.lentBytes]).toEqual([0, 0]);
});

const lend = () => rig.volume.lend(0, BYTES, NO_DEADLINE);

test('a volume lends what its paths lend, and nothing where none does', async () => {
  expect(lend()).toBeNull();
  b.lending = true;
  const lent = lend();
  const op = [...a.ops, ...b.ops].find(({ kind }) => kind === 'read')!;
  op.buffer.fill(7);
  op.resolve();
  const { bytes, giveBack } = (await lent)!;
  expect(bytes.equals(block(7, BYTES))).toBe(true);
  giveBack();
});

test.each([true, false])(
  'what was asked of a path that is lost is asked of another one, that lends: %s',
  async (lends) => {
    a.lending = true;
    b.lending = lends;
    const seen = [watch(lend()!), watch(lend()!)];
    a.lose('unknown');
    await rig.settle();
    for (const op of b.ops.splice(0)) {
      op.buffer.fill(9);
      op.resolve();
    }
    await rig.settle();
    for (const { state, value } of seen) {
      expect(state).toBe('ok');
      expect((value as Lent).bytes.equals(block(9, BYTES))).toBe(true);
      (value as Lent).giveBack();
    }
  },
);

test('what is under way when the volume is closed comes to who asked for it', async () => {
  a.lending = true;
  b.lending = true;
  const seen = watch(lend()!);
  await rig.volume.close();
  for (const { resolve } of [...a.ops.splice(0), ...b.ops.splice(0)]) resolve();
  await rig.settle();
  expect(seen.state).toBe('ok');
  (seen.value as Lent).giveBack();
});
