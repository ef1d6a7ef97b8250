import type { BlockCapabilities } from '#block/device.ts';
import { COMPARE_AND_WRITE_BYTES_MAX } from '#core/limits.ts';

/** What a volume can, by what its first path can. */
export function volumeCaps(caps: BlockCapabilities, readOnly: boolean): BlockCapabilities {
  return {
    ...caps,
    readOnly: caps.readOnly || readOnly,
    compareAndWriteBytes: Math.min(caps.compareAndWriteBytes, COMPARE_AND_WRITE_BYTES_MAX),
  };
}
