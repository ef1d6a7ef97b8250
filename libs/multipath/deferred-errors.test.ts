import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { OrionError } from '../core/errors.ts';
import type { ScriptedPath } from '../testkit/scripted-path.ts';
import { CAPS, VolumeRig, watch } from './testing/volume-rig.ts';

const TOLD = { state: 'failed', error: { code: 'MULTIPATH_CACHE_LOST' } };

let rig: VolumeRig;
let a: ScriptedPath;

beforeEach(() => {
  rig = new VolumeRig();
  a = rig.add(0);
});

afterEach(() => rig.volume.close());

/** What a path answers to a flush while it keeps a deferred error. */
function deferredError(): OrionError {
  return new OrionError({ code: 'SCSI_DEFERRED_ERROR', message: 'late', outcome: 'final' });
}

/** Path b is alone in service, and a proven witness. */
async function onlyB(): Promise<ScriptedPath> {
  const b = rig.add(1);
  await rig.clock.advance(250);
  for (const op of a.ops.splice(0)) op.resolve(); // a probe, which proves b
  await rig.settle();
  await rig.volume.retire(0, 1_000);
  return b;
}

describe('an acknowledged write that failed later', () => {
  test('fails the next flush once, although that goes over another path', async () => {
    a.deferredError();
    const b = await onlyB();
    expect(await rig.flush(b)).toMatchObject(TOLD);
    expect((await rig.flush(b)).state).toBe('ok');
  });

  test('fails it although all had been flushed before, and the unit shows no cache', async () => {
    rig = new VolumeRig({ caps: { ...CAPS, volatileCache: false } });
    a = rig.add(0, { ...CAPS, volatileCache: false });
    a.deferredError();
    expect(await rig.flush(a)).toMatchObject(TOLD);
    expect((await rig.flush(a)).state).toBe('ok');
  });

  test('fails no second flush when the first one went over its own path', async () => {
    a.deferredError();
    const flush = watch(rig.volume.flush(NO_DEADLINE));
    a.take().reject(deferredError());
    await rig.settle();
    expect(flush).toMatchObject({ state: 'failed', error: { code: 'SCSI_DEFERRED_ERROR' } });
    expect((await rig.flush(a)).state).toBe('ok');
  });

  test('fails no second flush when its own path tells it once more', async () => {
    a.deferredError();
    const told = watch(rig.volume.flush(NO_DEADLINE));
    a.take().resolve();
    await rig.settle();
    expect(told).toMatchObject(TOLD);
    const next = watch(rig.volume.flush(NO_DEADLINE));
    a.take().reject(deferredError());
    await rig.settle();
    expect(next.state).toBe('open');
    a.take().resolve();
    await rig.settle();
    expect(next.state).toBe('ok');
  });

  test('is told by a path that has not said so before, too', async () => {
    const flush = watch(rig.volume.flush(NO_DEADLINE));
    a.take().reject(deferredError());
    await rig.settle();
    expect(flush).toMatchObject({ state: 'failed', error: { code: 'SCSI_DEFERRED_ERROR' } });
  });
});
