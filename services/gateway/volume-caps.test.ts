import { expect, test } from 'vitest';
import { LINK_PAYLOAD_BYTES_MAX } from '#core/limits.ts';
import { CAPS } from '#multipath/testing/volume-rig.ts';
import { volumeCaps } from './volume-caps.ts';

test('a volume promises no compare-and-write that does not fit a frame of the link', () => {
  const caps = volumeCaps({ ...CAPS, compareAndWriteBytes: 4 * LINK_PAYLOAD_BYTES_MAX }, false);
  expect(2 * caps.compareAndWriteBytes).toBe(LINK_PAYLOAD_BYTES_MAX);
  expect(volumeCaps(CAPS, false).compareAndWriteBytes).toBe(CAPS.compareAndWriteBytes);
});

test('a volume is read-only when it is configured so, or its unit is', () => {
  expect(volumeCaps(CAPS, false).readOnly).toBe(false);
  expect(volumeCaps(CAPS, true).readOnly).toBe(true);
  expect(volumeCaps({ ...CAPS, readOnly: true }, false).readOnly).toBe(true);
});
