import { defineErrors } from '../core/errors.ts';

const fenced = 'Look at the target: somebody else may have taken the logical unit over.';

export const scsiErrors = defineErrors('scsi', {
  SCSI_MEDIUM_ERROR: {
    text: 'the medium cannot be read or written at this place',
    hint: 'Rewrite the blocks or restore them from a backup; look at the disks of the target.',
    outcome: 'final',
  },
  SCSI_HARDWARE_ERROR: {
    text: 'the target reports a hardware failure',
    hint: 'Look at the log of the target.',
    outcome: 'final',
  },
  SCSI_ILLEGAL_REQUEST: {
    text: 'the target refuses the command as illegal',
    hint: 'Check what the logical unit supports; this is a bug if it claimed to support the command.',
    outcome: 'final',
    errno: 'EINVAL',
  },
  SCSI_BLOCK_SIZE: {
    text: 'the logical unit has blocks of a size that no block client can work with',
    hint: 'Format it to 512 or 4096 bytes a block on the target (sg_format --format --size=512, which erases it), or map another one.',
    outcome: 'final',
    errno: 'EINVAL',
  },
  SCSI_OUT_OF_RANGE: {
    text: 'the block address is beyond the end of the logical unit',
    hint: 'Check whether the logical unit has shrunk.',
    outcome: 'final',
    errno: 'EINVAL',
  },
  SCSI_UNSUPPORTED: {
    text: 'the logical unit does not support the command',
    hint: 'Look at the capabilities of the volume.',
    outcome: 'final',
    errno: 'ENOTSUP',
  },
  SCSI_NO_LUN: {
    text: 'there is no such logical unit',
    hint: 'Check the LUN number, and that the target maps it to this initiator.',
    outcome: 'final',
  },
  SCSI_WRITE_PROTECTED: {
    text: 'the logical unit is write-protected',
    hint: 'Have the write protection removed on the target.',
    outcome: 'final',
    errno: 'EPERM',
  },
  SCSI_NO_SPACE: {
    text: 'the target has no space left for the write',
    hint: 'Grow the thin pool on the target, or trim what is not needed.',
    outcome: 'final',
    errno: 'ENOSPC',
  },
  SCSI_MISCOMPARE: {
    text: 'the blocks do not hold what was expected',
    hint: 'Read them again; somebody else has changed them.',
    outcome: 'final',
  },
  SCSI_NOT_READY: {
    text: 'the logical unit is not ready',
    hint: 'Wait for it to become ready, or look at the target.',
    outcome: 'not-executed',
  },
  SCSI_NO_MEDIUM: {
    text: 'the logical unit has no medium',
    hint: 'Load the medium, or bring the logical unit online on the target.',
    outcome: 'final',
  },
  SCSI_PATH_STANDBY: {
    text: 'the logical unit cannot be used through this target port',
    hint: 'Use a port whose access state is active.',
    outcome: 'not-executed',
  },
  SCSI_UNIT_ATTENTION: {
    text: 'the logical unit keeps reporting unit attentions',
    hint: 'Look at the target: something resets or changes the logical unit again and again.',
    outcome: 'not-executed',
  },
  SCSI_ABORTED: {
    text: 'the target aborted the command',
    hint: 'It may be sent again.',
    outcome: 'terminated',
  },
  SCSI_BUSY: {
    text: 'the logical unit is busy',
    hint: 'Reduce the load, or the number of commands in flight.',
    outcome: 'not-executed',
  },
  SCSI_ACA_ACTIVE: {
    text: 'an auto contingent allegiance holds the logical unit, and could not be cleared',
    hint: 'Another initiator of this name set it: end it there, or reset the logical unit.',
    outcome: 'not-executed',
  },
  SCSI_UNIT_CHANGED: {
    text: 'behind the LUN stands another logical unit than before',
    hint: 'Look at what the target maps to this LUN; nothing is sent to the other one.',
    outcome: 'not-executed',
  },
  SCSI_COPY_ABORTED: {
    text: 'the target began to copy and did not finish',
    hint: 'The destination may hold a part of it: copy again.',
    outcome: 'final',
  },
  SCSI_RESERVATION_CONFLICT: {
    text: 'another initiator holds a reservation',
    hint: fenced,
    outcome: 'not-executed',
    errno: 'EPERM',
  },
  SCSI_CHECK_CONDITION: {
    text: 'the target failed the command',
    hint: 'Look up the sense codes and the log of the target.',
    outcome: 'final',
  },
  SCSI_DEFERRED_ERROR: {
    text: 'the target reports that an earlier write, already acknowledged, has failed',
    hint: 'Data may be lost: check the file system, and the disks of the target.',
    outcome: 'final',
  },
  SCSI_BAD_DATA: {
    text: 'the target answered a command with data that make no sense',
    hint: 'Report it to the vendor of the target.',
    outcome: 'final',
  },
});

export type ScsiErrorCode = keyof (typeof scsiErrors)['specs'];
