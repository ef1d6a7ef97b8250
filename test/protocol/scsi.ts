import { done, doneHere, type Group } from './row.ts';

const lun = 'libs/iscsi/lun.test.ts';
const answers = 'libs/scsi/answers.test.ts';
const commands = 'libs/scsi/commands.test.ts';
const UNDERSTOOD = 'are understood';
const AT_ONCE = '%s is told at once';

export const scsiRows: Group = {
  letter: 'I',
  title: 'The SCSI of a block gateway',
  others:
    "libiscsi has the commands and leaves to its caller what answers mean; for open-iscsi this column is the kernel's disk and multipath layers, by general knowledge.",
  rows: [
    done(
      ['I01', 'SPC-4', 'YY'],
      'An attach asks whether the unit is ready until the attentions of the login are gone, within bounds; a reservation or a missing medium does not stop it.',
      ['test/interop/iscsi-tgt.test.ts', 'a LUN is attached with its identity, size and abilities'],
      [
        'libs/iscsi/lun-facts.test.ts',
        'takes unit attentions away, and asks nothing that changes the unit (I01, I25)',
      ],
      [
        'libs/iscsi/lun-facts.test.ts',
        'of a unit that keeps reporting unit attentions ends after a bounded number',
      ],
    ),
    done(
      ['I02', 'SPC-4', 'YY'],
      'The list of LUNs is read in its whole length; a controller at LUN 0 is not taken for a disk.',
      [
        'libs/iscsi/lun-commands.test.ts',
        'is asked for again in full when it is longer, and LUNs are what the target wrote',
      ],
      ['test/interop/scsi-tgt.test.ts', 'REPORT LUNS gives LUNs that can be attached as they came'],
      [
        'test/interop/iscsi-tgt.test.ts',
        'the controller at LUN 0 is no disk, and a LUN that is not there says so',
      ],
    ),
    done(
      ['I03', 'SPC-4', 'YY'],
      'Inquiry data are read with 255 bytes first, pages only when they are listed and then in full; a page that is refused is done without.',
      [
        'libs/iscsi/lun-facts.test.ts',
        'a page that is longer than asked for is asked for in full (I03)',
      ],
      ['test/interop/iscsi-tgt.test.ts', 'a LUN is attached with its identity, size and abilities'],
    ),
    done(
      ['I04', 'SPC-4', 'PY'],
      'A unit is known by the best of its own designators, and paths are put together only when they show the same one.',
      [
        'libs/iscsi/lun-facts.test.ts',
        'knows the unit by %s, of those that are of the unit itself (I04)',
      ],
      ['test/interop/iscsi-istgt.test.ts', 'LUNs have their identity, size and block length'],
      [
        'test/faults/replaced-unit.test.ts',
        'no write reaches another unit behind the same LUN, and a write that waits goes to its own',
      ],
    ),
    done(
      ['I05', 'practice', 'YN'],
      'Every new session reads identity and capacity again before its first write; a path that differs is refused.',
      [
        'test/faults/bad-target.test.ts',
        'that shrinks fails what lies behind its end, and nothing else',
      ],
      [
        'test/faults/replaced-unit.test.ts',
        'no write reaches another unit behind the same LUN, and a write that waits goes to its own',
      ],
      [
        'libs/iscsi/lun-watch.test.ts',
        'nothing is sent to another unit that stands behind the LUN now',
      ],
    ),
    done(
      ['I06', 'SBC-3', 'YY'],
      'The capacity is read by the 16-byte command, and by the 10-byte one where that is all there is.',
      [
        'libs/iscsi/lun-facts.test.ts',
        'works with blocks of %i bytes, and asks READ CAPACITY(10) where (16) is not known',
      ],
      ['test/interop/iscsi-tgt.test.ts', 'a LUN is attached with its identity, size and abilities'],
    ),
    done(
      ['I07', 'SBC-3', 'YY'],
      'Reads and writes take the short form where it fits, are cut to what the unit takes, and never cross its end.',
      [commands, '%s'],
      ['libs/iscsi/transfer.test.ts', 'longer than a command is cut, and done when all parts are'],
      [
        'libs/iscsi/lun-facts.test.ts',
        'of the device are kept to: transfer, UNMAP, WRITE SAME, COMPARE AND WRITE (I07, I11, I12, I14)',
      ],
      [
        'test/interop/scsi-tgt.test.ts',
        'blocks beyond 2 TiB are read and written with 16-byte commands',
      ],
    ),
    done(
      ['I08', 'SBC-3', 'YY'],
      'A write through the cache uses FUA where the unit has it, and a flush behind it where it has not.',
      [
        'libs/iscsi/lun-facts.test.ts',
        'FUA goes with the write only where the device honours it, else a flush follows (I08)',
      ],
    ),
    done(
      ['I09', 'SPC-4, SBC-3', 'YY'],
      'Write cache and write protection are read from the mode pages; not to know is to assume a cache and a unit that takes writes.',
      [
        'libs/iscsi/lun-facts.test.ts',
        'not to know the mode is to assume a cache, and that it may be written (I09)',
      ],
      ['libs/iscsi/lun-facts.test.ts', 'mode %i with cache %i'],
    ),
    done(
      ['I10', 'SBC-3', 'YY'],
      'A flush is a SYNCHRONIZE CACHE of everything, in the longer form where the shorter is unknown; its errors reach the client.',
      [
        'libs/iscsi/lun-attach.test.ts',
        'a flush takes the longer form where the shorter is unknown, and its error is told',
      ],
      ['test/interop/iscsi-tgt.test.ts', 'flush, trim, zeroes, probe'],
    ),
    done(
      ['I11', 'SBC-3', 'YY'],
      'UNMAP is used where the unit says so, in pieces of what it takes.',
      [
        'libs/iscsi/lun-commands.test.ts',
        'pieces of an UNMAP keep to its length, and end at its granularity',
      ],
      ['test/interop/iscsi-tgt.test.ts', 'flush, trim, zeroes, probe'],
    ),
    done(
      ['I12', 'SBC-3', 'YY'],
      'Zeroes are made by WRITE SAME in the form that the unit takes, and written out where it takes none.',
      [
        'libs/iscsi/lun-commands.test.ts',
        'WRITE SAME(16) with UNMAP, without, WRITE SAME(10), plain writes: what is refused is not tried again',
      ],
      ['test/interop/iscsi-tgt.test.ts', 'flush, trim, zeroes, probe'],
    ),
    done(
      ['I13', 'SBC-3', '-Y'],
      'Blocks are deallocated for zeroing only where the unit says that they read as zeroes then.',
      [
        'libs/iscsi/lun-facts.test.ts',
        'deallocated blocks are zero only where READ CAPACITY (%s) and the page (%s) agree (I13)',
      ],
      [
        'libs/iscsi/lun-commands.test.ts',
        'UNMAP is asked for only where blocks then read as zeroes',
      ],
      [
        'test/interop/lio-scsi.test.ts',
        'trims, zeroes and extents do as the limits of the unit say',
      ],
    ),
    done(
      ['I14', 'SBC-3', 'YP'],
      'COMPARE AND WRITE keeps to the length that the unit takes, and a difference is told by its place.',
      [
        lun,
        'COMPARE AND WRITE tells where the difference is, and is not sent again when it may have run',
      ],
      [
        'libs/iscsi/lun-commands.test.ts',
        'finds the place itself where the device tells none, or one that cannot be',
      ],
      [
        'test/interop/lio-scsi.test.ts',
        'COMPARE AND WRITE exchanges what is equal, and says where the first difference is',
      ],
    ),
    done(
      ['I15', 'SBC-3', 'YN'],
      'Allocation is asked for page by page; not to know is to assume that everything is allocated.',
      [
        'libs/iscsi/lun-commands.test.ts',
        'are asked for page by page, merged and cut to what was asked',
      ],
      ['libs/iscsi/lun-commands.test.ts', 'count as allocated where the device %s'],
      [
        'test/interop/scsi-tgt.test.ts',
        'LUN %i with blocks of %i: what is written, zeroed and trimmed shows in its extents',
      ],
    ),
    done(['I16', 'SBC-3', 'YY'], 'Rotation rate and provisioning are read from their pages.', [
      answers,
      UNDERSTOOD,
    ]),
    done(
      ['I17', 'SPC-4', 'YY'],
      'Reservations are made on every path under its own nexus, and made again when the nexus was lost; a conflict is final.',
      ['libs/iscsi/lun-watch.test.ts', 'are made again after a nexus loss, before any other I/O'],
      [
        'libs/iscsi/lun-watch.test.ts',
        'that were preempted (2A/%i) are not made again: that would undo a fence',
      ],
      [
        'test/interop/scsi-tgt.test.ts',
        'a reservation keeps others from writing, and a preempted path knows that it was fenced',
      ],
      [
        'test/interop/lio-scsi.test.ts',
        'PREEMPT AND ABORT fences a registered path: its writes fail, and it does not register again',
      ],
    ),
    done(
      ['I18', 'SPC-4', 'PY'],
      'The states of target port groups are read and paths are ordered by them.',
      [
        'libs/scsi/target-port-groups.test.ts',
        'is understood with the short and with the extended header',
      ],
      ['test/interop/lio-scsi.test.ts', 'the port group of each portal is known from the login'],
      [
        'test/interop/lio-scsi.test.ts',
        'two port groups change places under load: no client sees an error, and no byte is wrong',
      ],
      [
        'test/interop/lio-access.test.ts',
        'change places under load: the client sees no error, no byte is wrong, and the status tells the state',
      ],
      [
        'libs/multipath/access.test.ts',
        'standby, unavailable, offline and transitioning paths get no I/O, for as long as that lasts',
      ],
    ),
    done(
      ['I19', 'SPC-4', 'NY'],
      'A transition is waited out on the same path, standby and unavailable lead to another, and a change of state is looked up anew.',
      [
        'libs/iscsi/lun-watch.test.ts',
        'after 2A/06 the groups are read before the command goes out again',
      ],
      [
        'libs/iscsi/lun-watch.test.ts',
        '02/04/%i fails over at once, and is known before the I/O has failed',
      ],
      [
        'libs/iscsi/lun-watch.test.ts',
        '02/04/0A is tried again on the same path after a pause, and asked about until it is over',
      ],
      [
        'test/interop/lio-scsi.test.ts',
        'two port groups change places under load: no client sees an error, and no byte is wrong',
      ],
    ),
    done(
      ['I20', 'SPC-4', 'PP'],
      'Unit attentions are told by what they mean and the command is sent again; changed data of the unit are read anew.',
      ['libs/iscsi/lun-watch.test.ts', '%i/%i is told, and the command is sent again'],
      [
        'libs/iscsi/lun-watch.test.ts',
        'a unit that grew is larger from then on, one that shrank is told of',
      ],
      [
        'libs/iscsi/lun-watch.test.ts',
        'mode parameters that changed are read again: a cache that was switched on is flushed',
      ],
      [
        'test/faults/bad-target.test.ts',
        'that grows is larger for new clients when both paths show it, also over new sessions',
      ],
    ),
    done(
      ['I21', 'SAM-5', 'NY'],
      'A unit that is busy or full is asked again after growing random pauses, and gets fewer commands at once.',
      [
        'libs/iscsi/lun-window.test.ts',
        'shrinks by half at %s, and what does not fit waits instead of being refused',
      ],
      ['libs/iscsi/lun-window.test.ts', 'grows by one for each window of good answers'],
      [
        'libs/iscsi/lun.test.ts',
        'BUSY for ever is given up after a bounded number of tries, as not executed',
      ],
    ),
    done(
      ['I22', 'SAM-5', 'YY'],
      'A reservation conflict is told at once, an abort by others is tried again, and an auto contingent allegiance is cleared.',
      ['libs/scsi/answers.test.ts', 'status %i: %s, %s'],
      ['libs/iscsi/lun-watch.test.ts', 'is cleared, and the command sent again'],
    ),
    done(
      ['I23', 'SPC-4', 'PY'],
      'Every sense and status has an error with a text, a hint, an errno and what is known of the outcome.',
      [answers, 'has an answer to every sense and every status'],
      [lun, AT_ONCE],
    ),
    done(
      ['I24', 'SPC-4', 'YN'],
      'Copies inside a target are left to it by EXTENDED COPY.',
      ['libs/iscsi/lun-commands.test.ts', 'are done by the target, in segments that it takes'],
      [
        'test/interop/lio-scsi.test.ts',
        'EXTENDED COPY is done by the target, without a byte of it through us',
      ],
      [
        'test/interop/scsi-tgt.test.ts',
        'a copy goes through us where the target knows no EXTENDED COPY',
      ],
    ),
    doneHere(['I25', 'SBC-3', 'YP'], 'Nothing is started, stopped or locked unasked.', [
      'libs/iscsi/lun-facts.test.ts',
      'takes unit attentions away, and asks nothing that changes the unit (I01, I25)',
    ]),
    done(
      ['I26', 'practice', 'PY'],
      'A command has longer than it takes to notice that a target is silent, and one that makes progress has more time, within a bound.',
      ['libs/iscsi/session.test.ts', 'a command that makes progress gets more time'],
      ['libs/iscsi/abort-ladder.test.ts', 'is aborted when its data come drop by drop'],
    ),
  ],
};
