import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { outcomeError, type ScriptedPath } from '../testkit/scripted-path.ts';
import { block, NO_PATH_RETRY_MS, VolumeRig, watch } from './testing/volume-rig.ts';

let rig: VolumeRig;
let a: ScriptedPath;

beforeEach(() => {
  rig = new VolumeRig();
  a = rig.add(0);
});

afterEach(() => rig.volume.close());

describe('what is terminated again and again', () => {
  /** Ends every attempt so, over `ms` of time; returns how many there were. */
  async function terminateAll(ms: number): Promise<number> {
    let attempts = 0;
    for (let at = 0; at < ms; at += 5) {
      for (const op of a.ops.splice(0)) {
        if (op.kind === 'probe') op.resolve();
        else {
          attempts += 1;
          op.reject(outcomeError('terminated'));
        }
      }
      await rig.clock.advance(5);
    }
    return attempts;
  }

  test('is tried again with growing pauses, and fails in time', async () => {
    const write = rig.write();
    const next = rig.write(2);
    expect(await terminateAll(NO_PATH_RETRY_MS + 2_000)).toBeLessThan(60);
    const error = { code: 'TEST_SCRIPTED', outcome: 'terminated' };
    expect(write).toMatchObject({ state: 'failed', error });
    // It can execute no more, so its range is free.
    expect(next.state).toBe('failed');
    a.ops.length = 0;
    const last = rig.write(3);
    a.take().resolve();
    await rig.settle();
    expect(last.state).toBe('ok');
  });

  test('is read back each time when it is a compare-and-write', async () => {
    const { volume } = rig;
    const cas = watch(volume.compareAndWrite(0, block(1, 512), block(2, 512), NO_DEADLINE));
    for (const _ of [1, 2]) {
      const attempt = a.take();
      expect(attempt.kind).toBe('caw');
      attempt.reject(outcomeError('terminated'));
      await rig.clock.advance(50);
      const read = a.take();
      expect(read.kind).toBe('read');
      block(1, 512).copy(read.buffer);
      read.resolve();
      await rig.settle();
    }
    a.take().resolve(-1);
    await rig.settle();
    expect(cas).toMatchObject({ state: 'ok', value: -1 });
  });
});
