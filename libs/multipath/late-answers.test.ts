// What is acknowledged in the very moment in which the target's cache is put in doubt: answer and loss come in one chunk
// of a link, or the loss first. A flush afterwards must not say that such a write is durable (failover.md I5).
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import type { ScriptedPath } from '../testkit/scripted-path.ts';
import { block, VolumeRig, watch } from './testing/volume-rig.ts';

let rig: VolumeRig;
let a: ScriptedPath;

/** Path a is gone, and another session has its slot. */
async function replaceA(): Promise<void> {
  await rig.volume.fenced(0);
  a = rig.add(0);
}

beforeEach(() => {
  rig = new VolumeRig();
  a = rig.add(0);
});

afterEach(() => rig.volume.close());

describe('a write that is acknowledged', () => {
  test('together with the loss of the last path fails the next flush, and no other', async () => {
    const write = rig.write();
    a.take().resolve();
    a.lose();
    await rig.settle();
    expect(write.state).toBe('ok');
    await replaceA();
    expect(await rig.flush(a)).toMatchObject({ error: { code: 'MULTIPATH_CACHE_LOST' } });
    expect((await rig.flush(a)).state).toBe('ok');
  });

  test('after the loss of its path was told fails the next flush', async () => {
    const write = rig.write();
    const sent = a.take();
    a.lose();
    await rig.settle();
    sent.resolve();
    await rig.settle();
    expect(write.state).toBe('ok');
    await replaceA();
    expect(await rig.flush(a)).toMatchObject({ error: { code: 'MULTIPATH_CACHE_LOST' } });
  });

  test('over a lost path is no doubt while another one has lived all the time, and is one with its loss', async () => {
    const write = rig.write();
    const b = rig.add(1);
    await rig.clock.advance(250);
    for (const path of [a, b]) for (const op of path.ops.splice(1)) op.resolve(); // probes
    const sent = a.take();
    a.lose();
    await rig.settle();
    sent.resolve();
    await rig.settle();
    expect(write.state).toBe('ok');
    b.ops.length = 0;
    b.lose();
    await rig.volume.fenced(1);
    expect(await rig.flush(rig.add(1))).toMatchObject({ error: { code: 'MULTIPATH_CACHE_LOST' } });
  });

  test('together with the news of a reset fails the next flush', async () => {
    const write = rig.write();
    a.take().resolve();
    a.attention(0x29, 0x01);
    await rig.settle();
    expect(write.state).toBe('ok');
    expect(await rig.flush(a)).toMatchObject({ error: { code: 'MULTIPATH_CACHE_LOST' } });
  });

  test('together with the echo of our own reset fails none', async () => {
    const write = rig.write();
    rig.volume.wasReset();
    a.take().resolve();
    a.attention(0x29, 0x00);
    await rig.settle();
    expect(write.state).toBe('ok');
    expect((await rig.flush(a)).state).toBe('ok');
  });

  test('over a path that lives is no doubt, although the last witness went meanwhile', async () => {
    const { volume } = rig;
    watch(volume.read(0, block(0), NO_DEADLINE)); // over a, so that the write goes over b
    const b = rig.add(1);
    const write = rig.write();
    const sent = b.take();
    a.lose();
    await rig.settle();
    sent.resolve();
    b.take().resolve();
    await rig.settle();
    expect(write.state).toBe('ok');
    expect((await rig.flush(b)).state).toBe('ok');
  });
});

describe('a compare-and-write that was found done after the fence', () => {
  test('is unflushed as any other: a loss of the cache fails the next flush', async () => {
    const { volume } = rig;
    const done = watch(volume.compareAndWrite(0, block(1, 512), block(2, 512), NO_DEADLINE));
    a.lose();
    await rig.settle();
    await replaceA();
    await rig.settle();
    const read = a.take();
    block(2, 512).copy(read.buffer);
    read.resolve();
    await rig.settle();
    expect(done).toMatchObject({ state: 'ok', value: -1 });
    a.attention(0x29, 0x01);
    expect(await rig.flush(a)).toMatchObject({ error: { code: 'MULTIPATH_CACHE_LOST' } });
  });
});
