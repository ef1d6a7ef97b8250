import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { systemRng } from '../core/rng.ts';
import { nodeSharedMemory } from './node-shared-memory.ts';
import type { SharedRegion } from './shared-memory.ts';

const BYTES = 1024 * 1024;
const shared = nodeSharedMemory(systemRng)!;
const open: SharedRegion[] = [];

afterEach(() => {
  for (const region of open.splice(0)) region.release();
});

function offer() {
  const region = shared.offer(BYTES);
  open.push(region);
  return region;
}

describe('shared memory', () => {
  test('shows each side what the other one writes', () => {
    const ours = offer();
    const theirs = shared.open(ours.name, BYTES);
    open.push(theirs);
    ours.bytes.write('from here', 4096);
    theirs.bytes.write('from there', BYTES - 10);
    expect(theirs.bytes.toString('latin1', 4096, 4105)).toBe('from here');
    expect(ours.bytes.toString('latin1', BYTES - 10)).toBe('from there');
  });

  test('is private to each side once it was let go, and views of it stay harmless', () => {
    const ours = offer();
    const theirs = shared.open(ours.name, BYTES);
    open.push(theirs);
    const view = ours.bytes.subarray(8192, 8200);
    view.write('before');
    ours.release();
    ours.release();
    expect(view.every((byte) => byte === 0)).toBe(true);
    theirs.bytes.write('after', 8192);
    view.fill(7);
    expect(theirs.bytes.toString('latin1', 8192, 8197)).toBe('after');
    expect(view.every((byte) => byte === 7)).toBe(true);
  });

  test('cannot be opened any more after the name was settled', () => {
    const ours = offer();
    ours.settle();
    ours.settle();
    expect(() => shared.open(ours.name, BYTES)).toThrow();
  });

  test('is not taken where it is another memory than the one that was meant, or of another size', () => {
    const ours = offer();
    const [path] = ours.name.split('#');
    expect(() => shared.open(`${path}#${'0'.repeat(32)}`, BYTES)).toThrow('somebody else');
    expect(() => shared.open(ours.name, BYTES * 2)).toThrow(`${BYTES} bytes and not`);
  });

  test.each(['/etc/passwd', '/proc/1/fd/../environ#00', '', '/proc/self/fd/1', '/proc/1/fd/1'])(
    'is not looked for in %j',
    (name) => {
      expect(() => shared.open(name, BYTES)).toThrow('is no shared memory');
    },
  );

  test('is not taken from somebody who could shrink it under the reader', () => {
    const path = join(tmpdir(), `orion-unsealed-${process.pid}`);
    const fd = openSync(path, 'w+', 0o600);
    writeSync(fd, Buffer.alloc(BYTES));
    const name = `/proc/${process.pid}/fd/${fd}#${'0'.repeat(32)}`;
    expect(() => shared.open(name, BYTES)).toThrow('not fixed');
    closeSync(fd);
    rmSync(path);
  });
});
