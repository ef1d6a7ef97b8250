import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NO_DEADLINE } from '../block/device.ts';
import { seededRng } from '../core/rng.ts';
import { outcomeError, type ScriptedOp, ScriptedPath } from '../testkit/scripted-path.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { MultipathDevice } from './device.ts';
import { block, CAPS, NO_PATH_RETRY_MS, watch } from './testing/volume-rig.ts';

let clock: VirtualClock;
let a: ScriptedPath;
let b: ScriptedPath;
let volume: MultipathDevice;
let lost: number[];

const settle = (): Promise<void> => clock.advance(0);

beforeEach(() => {
  clock = new VirtualClock();
  lost = [];
  volume = new MultipathDevice({
    name: 'v',
    caps: CAPS,
    clock,
    rng: seededRng(1),
    policy: 'queue-length',
    noPathRetryMs: NO_PATH_RETRY_MS,
    noPathQueueBytes: 64 * 1024,
    probeIdleMs: 5_000,
    onPathLost: (slot) => lost.push(slot),
  });
  a = new ScriptedPath('a', CAPS);
  b = new ScriptedPath('b', CAPS);
});

afterEach(() => volume.close());

/** Only path a is there; b joins later, so that a test knows where an I/O is. */
function onlyA(): void {
  volume.addPath(0, a, { portal: 'pa', worker: 'wa' });
}
function addB(): void {
  volume.addPath(1, b, { portal: 'pb', worker: 'wb' });
}

describe('a write of unknown outcome', () => {
  test('is not acknowledged before its old attempt is fenced, then it is sent again', async () => {
    onlyA();
    const write = watch(volume.write(0, block(1), 0, NO_DEADLINE));
    addB();
    a.lose();
    await settle();
    expect(lost).toEqual([0]);
    expect(volume.needsFence(0)).toBe(true);
    expect(write.state).toBe('open');
    expect(b.ops).toHaveLength(0);
    await volume.fenced(0);
    await settle();
    expect(write.state).toBe('open');
    b.take().resolve();
    await settle();
    expect(write.state).toBe('ok');
  });

  test('keeps every overlapping write back, and no other', async () => {
    onlyA();
    const first = watch(volume.write(4096, block(1), 0, NO_DEADLINE));
    addB();
    a.lose();
    await settle();
    const overlapping = watch(volume.write(6144, block(2), 0, NO_DEADLINE));
    const beside = watch(volume.write(8192 + 2048, block(3, 512), 0, NO_DEADLINE));
    await settle();
    expect(b.ops.map((op) => op.offset)).toEqual([8192 + 2048]);
    b.take().resolve();
    await volume.fenced(0);
    await settle();
    expect(b.ops.map((op) => op.offset)).toEqual([4096]);
    b.take().resolve();
    await settle();
    expect(b.ops.map((op) => op.offset)).toEqual([6144]);
    b.take().resolve();
    await settle();
    expect([first.state, overlapping.state, beside.state]).toEqual(['ok', 'ok', 'ok']);
  });

  test('does not keep reads back', async () => {
    onlyA();
    watch(volume.write(0, block(1), 0, NO_DEADLINE));
    addB();
    a.lose();
    await settle();
    const read = watch(volume.read(0, block(0), NO_DEADLINE));
    b.take().resolve();
    await settle();
    expect(read.state).toBe('ok');
  });

  test('fails in time when it cannot be fenced, and its range stays closed until it is', async () => {
    onlyA();
    const write = watch(volume.write(0, block(1), 0, NO_DEADLINE));
    addB();
    a.lose();
    await clock.advance(NO_PATH_RETRY_MS + 1_000);
    expect(write.error).toMatchObject({ code: 'MULTIPATH_NOT_FENCED' });
    const next = watch(volume.write(0, block(2), 0, NO_DEADLINE));
    await settle();
    const writes = (): ScriptedOp[] => b.ops.filter((op) => op.kind === 'write');
    expect(writes()).toHaveLength(0);
    await volume.fenced(0);
    await settle();
    // The failed write is not repeated: its client was told.
    expect(writes().map((op) => op.buffer[0])).toEqual([2]);
    writes()[0]!.resolve();
    await settle();
    expect(next.state).toBe('ok');
  });

  test('lets an overlapping write fail in time too, rather than wait for ever', async () => {
    onlyA();
    watch(volume.write(0, block(1), 0, NO_DEADLINE));
    addB();
    a.lose();
    await settle();
    const next = watch(volume.write(0, block(2), 0, NO_DEADLINE));
    await clock.advance(NO_PATH_RETRY_MS + 1_000);
    expect(next.error).toMatchObject({ code: 'MULTIPATH_NO_PATH' });
  });
});

describe('what is certain is retried without a fence', () => {
  test('a read of a lost path goes to another one at once', async () => {
    onlyA();
    const read = watch(volume.read(0, block(0), NO_DEADLINE));
    addB();
    a.lose();
    await settle();
    b.take().resolve();
    await settle();
    expect(read.state).toBe('ok');
  });

  test('a write that was certainly not executed goes to another path at once', async () => {
    onlyA();
    const write = watch(volume.write(0, block(1), 0, NO_DEADLINE));
    addB();
    a.lose('not-executed');
    await settle();
    expect(volume.needsFence(0)).toBe(false);
    b.take().resolve();
    await settle();
    expect(write.state).toBe('ok');
  });

  test('a write that was terminated by a reset is sent again', async () => {
    onlyA();
    const write = watch(volume.write(0, block(1), 0, NO_DEADLINE));
    a.take().reject(outcomeError('terminated'));
    await clock.advance(20);
    a.take().resolve();
    await settle();
    expect(write.state).toBe('ok');
  });

  test('a busy target is asked again after a pause, on the same path if there is no other', async () => {
    onlyA();
    const write = watch(volume.write(0, block(1), 0, NO_DEADLINE));
    a.take().reject(outcomeError('not-executed', 'busy'));
    await settle();
    expect(a.ops).toHaveLength(0);
    await clock.advance(20);
    a.take().resolve();
    await settle();
    expect(write.state).toBe('ok');
  });

  test('an answer of the device itself reaches the client unchanged', async () => {
    onlyA();
    const error = outcomeError('final', 'medium error');
    const read = watch(volume.read(0, block(0), NO_DEADLINE));
    a.take().reject(error);
    await settle();
    expect(read.error).toBe(error);
    expect(lost).toEqual([]);
  });
});

describe('without a path', () => {
  test('I/O waits, and goes on when a path comes', async () => {
    const read = watch(volume.read(0, block(0), NO_DEADLINE));
    await clock.advance(5_000);
    onlyA();
    a.take().resolve();
    await settle();
    expect(read.state).toBe('ok');
  });

  test('I/O fails when no path comes in time', async () => {
    const read = watch(volume.read(0, block(0), NO_DEADLINE));
    await clock.advance(NO_PATH_RETRY_MS + 1_000);
    expect(read.error).toMatchObject({ code: 'MULTIPATH_NO_PATH' });
  });

  test('no more bytes wait than may', async () => {
    const many = Array.from({ length: 17 }, (_, i) =>
      watch(volume.write(i * 4096, block(1), 0, NO_DEADLINE)),
    );
    await settle();
    expect(many.filter((write) => write.state === 'failed')).toHaveLength(1);
    expect(many[16]!.error).toMatchObject({ code: 'MULTIPATH_QUEUE_FULL' });
  });
});

describe('a flush', () => {
  async function write(fill: number): Promise<void> {
    const done = volume.write(0, block(fill), 0, NO_DEADLINE);
    a.take().resolve();
    await done;
  }
  async function flush(): Promise<void> {
    const done = volume.flush(NO_DEADLINE);
    a.take().resolve();
    await done;
  }

  test('fails once when the target restarted between the write and the flush', async () => {
    onlyA();
    await write(1);
    a.attention(0x29, 0x01);
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
    await flush();
  });

  test('succeeds when the target restarted with nothing unflushed', async () => {
    onlyA();
    await write(1);
    await flush();
    a.attention(0x29, 0x01);
    await flush();
  });

  test('fails for every client that was waiting for one when the loss was found', async () => {
    onlyA();
    await write(1);
    const one = watch(volume.flush(NO_DEADLINE));
    const two = watch(volume.flush(NO_DEADLINE));
    a.attention(0x29, 0x01);
    a.take().resolve();
    a.take().resolve();
    await settle();
    expect([one.state, two.state]).toEqual(['failed', 'failed']);
  });

  test('is not failed by the unit attention of our own reset', async () => {
    onlyA();
    await write(1);
    await volume.quiesce(100);
    volume.unquiesce(true);
    a.attention(0x29, 0x00);
    await flush();
  });

  test('is not failed by a path that logged in before our own reset and reports it', async () => {
    onlyA();
    await write(1);
    volume.addPath(1, b, { portal: 'pb', worker: 'wb' }, true);
    b.attention(0x29, 0x00);
    await flush();
  });

  test('fails when the target restarted after what was sent since our own reset had succeeded', async () => {
    onlyA();
    await volume.quiesce(100);
    volume.unquiesce(true);
    await write(1);
    a.attention(0x29, 0x01);
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
  });

  test('fails once when for a while no path was left that would have told of a restart', async () => {
    onlyA();
    await write(1);
    a.lose();
    await volume.fenced(0);
    a = new ScriptedPath('a2', CAPS);
    volume.addPath(0, a, { portal: 'pa', worker: 'wa' });
    await expect(flush()).rejects.toMatchObject({ code: 'MULTIPATH_CACHE_LOST' });
  });
});

describe('a compare-and-write of unknown outcome', () => {
  async function unknownCas(): Promise<{ state: string; value?: number }> {
    onlyA();
    const cas = watch(volume.compareAndWrite(0, block(1, 512), block(2, 512), NO_DEADLINE));
    addB();
    a.lose();
    await settle();
    await volume.fenced(0);
    await settle();
    return cas;
  }

  test('is a success when the disk holds the new bytes after the fence', async () => {
    const cas = await unknownCas();
    const read = b.take();
    expect(read.kind).toBe('read');
    block(2, 512).copy(read.buffer);
    read.resolve();
    await settle();
    expect(cas).toMatchObject({ state: 'ok', value: -1 });
    expect(b.ops).toHaveLength(0);
  });

  test('is sent again when the disk still holds the expected bytes', async () => {
    const cas = await unknownCas();
    const read = b.take();
    block(1, 512).copy(read.buffer);
    read.resolve();
    await settle();
    expect(b.ops.map((op) => op.kind)).toEqual(['caw']);
    b.take().resolve(-1);
    await settle();
    expect(cas).toMatchObject({ state: 'ok', value: -1 });
  });

  test('is a miscompare when the disk holds something else', async () => {
    const cas = await unknownCas();
    const read = b.take();
    block(1, 512).copy(read.buffer);
    read.buffer[17] = 9;
    read.resolve();
    await settle();
    expect(cas).toMatchObject({ state: 'ok', value: 17 });
  });
});

describe('the map', () => {
  test('retires a path only when nothing is in flight on it', async () => {
    onlyA();
    addB();
    const io = watch(volume.read(0, block(0), NO_DEADLINE));
    const busy = a.ops.length > 0 ? a : b;
    const retired = watch(volume.retire(busy === a ? 0 : 1, 1_000));
    await settle();
    expect(retired.state).toBe('open');
    busy.take().resolve();
    await settle();
    expect(retired).toMatchObject({ state: 'ok', value: true });
    expect(io.state).toBe('ok');
    expect(volume.readyCount).toBe(1);
  });

  test('quiesce holds new I/O back and returns when the old is done', async () => {
    onlyA();
    watch(volume.read(0, block(0), NO_DEADLINE));
    const quiet = watch(volume.quiesce(1_000));
    const held = watch(volume.read(4096, block(0), NO_DEADLINE));
    await settle();
    expect(quiet.state).toBe('open');
    expect(a.ops).toHaveLength(1);
    a.take().resolve();
    await settle();
    expect(quiet.state).toBe('ok');
    volume.unquiesce(false);
    a.take().resolve();
    await settle();
    expect(held.state).toBe('ok');
  });

  test('an idle path is asked for a sign of life, and is out while the unit refuses', async () => {
    onlyA();
    await clock.advance(6_000);
    const probe = a.take();
    expect(probe.kind).toBe('probe');
    probe.reject(outcomeError('final', 'not ready'));
    await settle();
    expect(volume.readyCount).toBe(0);
    // Sooner than one that works: nobody else will find out that it does.
    await clock.advance(1_500);
    a.take().resolve();
    await settle();
    expect(volume.readyCount).toBe(1);
  });
});
