import { beforeEach, describe, expect, test } from 'vitest';
import type { ScriptedPath } from '../testkit/scripted-path.ts';
import { VolumeRig } from './testing/volume-rig.ts';

const CLOSED = { state: 'failed', error: { code: 'MULTIPATH_CLOSED' } };

let rig: VolumeRig;
let a: ScriptedPath;

beforeEach(() => {
  rig = new VolumeRig();
  a = rig.add(0);
});

describe('a volume that is closed leaves nothing open:', () => {
  test('a change that waits for its range', async () => {
    const first = rig.write(1);
    const second = rig.write(2);
    a.lose();
    await rig.settle();
    await rig.volume.close();
    expect(first).toMatchObject(CLOSED);
    expect(second).toMatchObject(CLOSED);
  });

  test('a change whose path is lost afterwards', async () => {
    const write = rig.write();
    await rig.volume.close();
    a.lose();
    await rig.settle();
    expect(write).toMatchObject(CLOSED);
    expect(write.error).toMatchObject({ outcome: 'unknown' });
  });

  test('a change that comes afterwards, to a range that is still held', async () => {
    rig.write(1);
    await rig.volume.close();
    const late = rig.write(2);
    await rig.settle();
    expect(late).toMatchObject(CLOSED);
    expect(late.error).toMatchObject({ outcome: 'not-executed' });
  });
});

test('a closed volume does not call a change not executed that may be', async () => {
  const write = rig.write();
  a.lose();
  await rig.settle();
  await rig.volume.close();
  expect(write.error).toMatchObject({ code: 'MULTIPATH_CLOSED', outcome: 'unknown' });
});
