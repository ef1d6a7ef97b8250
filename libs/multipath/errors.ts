import { defineErrors } from '../core/errors.ts';

export const multipathErrors = defineErrors('multipath', {
  MULTIPATH_NO_PATH: {
    text: 'no path to the volume was usable within the time that I/O may wait',
    hint: 'Look at `orion-iscsi multipath info`; the wait is no_path_retry_ms of the volume.',
    outcome: 'final',
    errno: 'EIO',
  },
  MULTIPATH_QUEUE_FULL: {
    text: 'more I/O waits for a path than may wait',
    hint: 'Look at `orion-iscsi multipath info`; the bound is no_path_queue_bytes of the volume.',
    outcome: 'final',
    errno: 'EIO',
  },
  MULTIPATH_NOT_FENCED: {
    text: 'the outcome of the write is unknown and its path could not be fenced in time',
    hint: 'The write may or may not be on the disk. The volume goes on when a portal of the target answers again.',
    outcome: 'final',
    errno: 'EIO',
  },
  MULTIPATH_CACHE_LOST: {
    text: 'the target may have lost acknowledged writes that were not flushed: it was out of reach or restarted',
    hint: 'Write again what was written since the last successful flush. This is reported once.',
    outcome: 'final',
    errno: 'EIO',
  },
  MULTIPATH_CLOSED: {
    text: 'the volume is closed on this gateway',
    hint: 'Connect again; another gateway may own the volume now.',
    outcome: 'not-executed',
    errno: 'ESHUTDOWN',
  },
  MULTIPATH_PATH_DIFFERS: {
    text: 'a path shows another logical unit than the volume is made of',
    hint: 'Was the LUN replaced or resized? The path is left out.',
    outcome: 'final',
  },
});
