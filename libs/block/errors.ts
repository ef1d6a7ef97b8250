import { defineErrors } from '../core/errors.ts';

export const blockErrors = defineErrors('block', {
  BLOCK_OUT_OF_RANGE: {
    text: 'the request reaches beyond the end of the device',
    hint: 'Check the offset and the length against the size of the volume.',
    outcome: 'final',
    errno: 'EINVAL',
  },
  BLOCK_UNALIGNED: {
    text: 'the request is not on block boundaries',
    hint: 'Offset and length must be multiples of the block size that the volume reports.',
    outcome: 'final',
    errno: 'EINVAL',
  },
  BLOCK_READ_ONLY: {
    text: 'the device is read-only',
    hint: 'Write to another volume, or have the write protection removed.',
    outcome: 'final',
    errno: 'EPERM',
  },
  BLOCK_NO_SPACE: {
    text: 'the device has no space left for the write',
    hint: 'Grow the thin pool on the target, or trim what is not needed.',
    outcome: 'final',
    errno: 'ENOSPC',
  },
  BLOCK_UNSUPPORTED: {
    text: 'the device cannot do this',
    hint: 'Look at the capabilities of the volume.',
    outcome: 'final',
    errno: 'ENOTSUP',
  },
  BLOCK_MEDIUM: {
    text: 'the medium is unreadable at this place',
    hint: 'Rewrite the blocks or restore them from a backup.',
    outcome: 'final',
    errno: 'EIO',
  },
  BLOCK_INJECTED: {
    text: 'an error that was asked for by a fault filter',
    hint: 'Take the filter out of the stack.',
    outcome: 'final',
    errno: 'EIO',
  },
  BLOCK_CLOSED: {
    text: 'the device is closed',
    hint: 'Open the volume again.',
    outcome: 'not-executed',
    errno: 'ESHUTDOWN',
  },
});
