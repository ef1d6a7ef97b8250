import { beforeEach, describe, expect, test } from 'vitest';
import { ScriptedPath } from '../testkit/scripted-path.ts';
import { CacheWatch } from './cache-watch.ts';
import { PathEntry } from './path-entry.ts';

const CAPS = {
  sizeBytes: 1024 ** 2,
  blockBytes: 512,
  preferredBytes: 4096,
  maxIoBytes: 1024 ** 2,
  readOnly: false,
  volatileCache: true,
  fua: true,
  trim: false,
  writeZeroes: false,
  fastZero: false,
  extents: false,
  compareAndWriteBytes: 0,
  rotational: false,
};

let watch: CacheWatch;

function path(slot: number, addedMs: number): PathEntry {
  const meta = { portal: 'p', worker: 'w' };
  return new PathEntry(slot, new ScriptedPath(`${slot}`, CAPS), meta, addedMs);
}

/** A change is acknowledged at once, over a path that lives. */
function wrote(): void {
  watch.wrote(path(0, 0), watch.doubts);
}

/** What a flush that begins and ends now would be told. */
function flush(): boolean {
  return watch.complete(watch.begin());
}

beforeEach(() => {
  watch = new CacheWatch(true, false);
});

describe('the watch over the cache of the target', () => {
  test('the loss of the only path puts what was not flushed in doubt, once', () => {
    const only = path(0, 0);
    watch.add(only);
    wrote();
    expect(watch.remove(only)).toBe(true);
    expect(watch.lossPending).toBe(true);
    watch.add(path(0, 10));
    expect(flush()).toBe(false);
    expect(flush()).toBe(true);
    expect(watch.lossPending).toBe(false);
  });

  test('nothing is in doubt while another path has lived all the time', () => {
    const [a, b] = [path(0, 0), path(1, 1)];
    watch.add(a);
    watch.add(b);
    watch.answered(a, 1);
    wrote();
    expect(watch.remove(a)).toBe(false);
    expect(flush()).toBe(true);
  });

  test('a new session is no witness, so its old neighbour that never answered again takes the proof with it', () => {
    const [old, fresh] = [path(0, 0), path(1, 100)];
    watch.add(old);
    wrote();
    // The target has restarted; the network between it and the old path is cut, so that one seems to be well.
    watch.add(fresh);
    watch.answered(fresh, 120);
    watch.answered(old, 99);
    expect(watch.unproven).toBe(true);
    expect(watch.remove(old)).toBe(true);
    expect(flush()).toBe(false);
  });

  test('a flush goes over a witness while there are others', () => {
    const [old, fresh] = [path(0, 0), path(1, 100)];
    watch.add(old);
    expect(watch.forFlush([old], [old])).toEqual([old]);
    watch.add(fresh);
    expect(watch.forFlush([old, fresh], [old, fresh])).toEqual([old]);
    expect(old.probeSoon, 'the witness is asked at once').toBe(true);
    watch.answered(old, 100);
    expect(watch.forFlush([old, fresh], [old, fresh])).toEqual([old, fresh]);
  });

  test('a flush that no witness can carry counts as one after a loss', () => {
    const [old, fresh] = [path(0, 0), path(1, 100)];
    watch.add(old);
    wrote();
    watch.add(fresh);
    const mark = watch.begin();
    expect(watch.forFlush([fresh], [fresh])).toEqual([fresh]);
    expect(watch.complete(mark)).toBe(false);
  });

  test('what was flushed before is not in doubt', () => {
    const only = path(0, 0);
    watch.add(only);
    wrote();
    expect(flush()).toBe(true);
    expect(watch.remove(only)).toBe(false);
  });

  test('a loss that a former owner left behind fails the first flush', () => {
    watch = new CacheWatch(true, true);
    watch.add(path(0, 0));
    expect(watch.lossPending).toBe(true);
    expect(flush()).toBe(false);
    expect(flush()).toBe(true);
  });

  test('a target without a volatile cache has nothing to lose', () => {
    watch = new CacheWatch(false, true);
    const [a, b] = [path(0, 0), path(1, 1)];
    watch.add(a);
    watch.add(b);
    wrote();
    expect(watch.unproven).toBe(false);
    expect(watch.remove(a)).toBe(false);
    expect(watch.remove(b)).toBe(false);
    expect(flush()).toBe(true);
  });
});
