import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { ScriptedPath } from '../testkit/scripted-path.ts';
import { CAPS, type Seen, VolumeRig } from './testing/volume-rig.ts';

const NO_CACHE = { ...CAPS, volatileCache: false };
const TOLD = { state: 'failed', error: { code: 'MULTIPATH_CACHE_LOST' } };

let rig: VolumeRig;
let a: ScriptedPath;
let noted: PromiseWithResolvers<void>;

beforeEach(() => {
  noted = Promise.withResolvers();
  rig = new VolumeRig({ caps: NO_CACHE, onCacheFound: () => noted.promise });
  a = rig.add(0, NO_CACHE);
});

afterEach(() => rig.volume.close());

async function write(): Promise<Seen<void>> {
  const write = rig.write();
  a.take().resolve();
  await rig.settle();
  return write;
}

/** The only path is lost, and another session has its slot. */
async function replaceA(): Promise<void> {
  a.lose();
  await rig.volume.fenced(0);
  a = rig.add(0);
}

describe('a volatile cache that is switched on while a volume is in service', () => {
  test('is watched from then on: a loss of it fails the next flush', async () => {
    a.cacheSwitchedOn();
    noted.resolve();
    await rig.settle();
    expect(rig.volume.caps.volatileCache).toBe(true);
    expect((await rig.flush(a)).state).toBe('ok');
    expect((await write()).state).toBe('ok');
    await replaceA();
    expect(await rig.flush(a)).toMatchObject(TOLD);
    expect((await rig.flush(a)).state).toBe('ok');
  });

  test('may hold what was acknowledged before it was known', async () => {
    expect((await write()).state).toBe('ok');
    a.cacheSwitchedOn();
    noted.resolve();
    await replaceA();
    expect(await rig.flush(a)).toMatchObject(TOLD);
  });

  test('is noted for the next owner before anything else is acknowledged', async () => {
    const before = rig.write();
    a.cacheSwitchedOn();
    a.take().resolve();
    await rig.settle();
    const after = await write();
    expect([before.state, after.state]).toEqual(['open', 'open']);
    noted.resolve();
    await rig.settle();
    expect([before.state, after.state]).toEqual(['ok', 'ok']);
    expect((await write()).state).toBe('ok');
  });

  test('is found when another path shows it, too', async () => {
    const b = rig.add(1);
    noted.resolve();
    await rig.settle();
    expect(rig.volume.caps.volatileCache).toBe(true);
    a.lose(); // it has seen all that happened, and b has not been proven yet
    expect(await rig.flush(b)).toMatchObject(TOLD);
  });
});
