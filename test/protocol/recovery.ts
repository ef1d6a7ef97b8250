import { done, doneHere, type Group, partly } from './row.ts';

const tgt = 'test/interop/iscsi-tgt.test.ts';
const multipath = 'libs/multipath/device.test.ts';

export const recovery: Group = {
  letter: 'H',
  title: 'Error recovery and several connections',
  others:
    'both have recovery level 0 and one connection. libiscsi sends every command again after a break; in the kernel the SCSI layers above decide that.',
  rows: [
    doneHere(
      ['H01', '§7.1.5', 'YY'],
      'ErrorRecoveryLevel is negotiated, and everything up to the level that was agreed on is done.',
      ['libs/iscsi/retransmission.test.ts', 'a target that does not recover is held to level 0'],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'has its commands go on over another one, and nobody hears of it',
      ],
    ),
    partly(
      ['H02', '§7.1.4.4', 'PY'],
      'A lost session is opened anew under its ISID; commands are sent again only when it is certain that the old ones cannot act any more. A time to wait that the target names is kept, up to 30 s.',
      'DefaultTime2Wait is not waited for when a session is lost without a word: it protects a target from a storm of reassignments, of which there are none here, and the login begins the fence that held writes wait for.',
      [
        tgt,
        'a login with the same ISID ends the older session; its commands are unknown or done, never silent',
      ],
      [multipath, 'is not acknowledged before its old attempt is fenced, then it is sent again'],
      [
        'services/worker/slot-table.test.ts',
        'by event %i with %i s gets no login of that slot for %i ms',
      ],
      [
        'services/worker/slot-table.test.ts',
        'is logged in to again at once when the connection ends without a word',
      ],
    ),
    done(
      ['H03', 'SAM-5, practice', 'NP'],
      'A command that may not run twice is not sent again when it may have run; the caller learns that its outcome is unknown.',
      [
        'libs/iscsi/lun.test.ts',
        'COMPARE AND WRITE tells where the difference is, and is not sent again when it may have run',
      ],
      [multipath, 'is a success when the disk holds the new bytes after the fence'],
    ),
    done(
      ['H04', 'practice', 'PY'],
      'Requests wait for a path within a bound; logins are tried without end.',
      [multipath, 'I/O fails when no path comes in time'],
      [multipath, 'I/O waits, and goes on when a path comes'],
    ),
    doneHere(
      ['H05', '§11.16', 'NN'],
      'All four kinds of SNACK are sent where they are due.',
      [
        'libs/iscsi/retransmission.test.ts',
        'asks for the Data-In that is missing, and is done when it came',
      ],
      [
        'libs/iscsi/retransmission.test.ts',
        'that is missing is asked for, and those behind it count meanwhile but are not acknowledged',
      ],
      [
        'libs/iscsi/retransmission.test.ts',
        'acknowledges data that the target wants acknowledged, but not over a gap',
      ],
      [
        'libs/iscsi/retransmission.test.ts',
        'asks for all of it when it takes other segments now, and believes only the answer to that',
      ],
    ),
    doneHere(
      ['H06', '§11.16.4-7', 'NN'],
      'A SNACK names the task or none, the run that is missing, and a tag of its own, as its kind asks.',
      [
        'libs/iscsi/retransmission.test.ts',
        'asks for the Data-In that is missing, and is done when it came',
      ],
      [
        'libs/iscsi/retransmission.test.ts',
        'asks for all of it when it takes other segments now, and believes only the answer to that',
      ],
    ),
    doneHere(
      ['H07', '§11.7.2, §11.16.2', 'PN'],
      'A target that asks for an acknowledgement of data gets it once the data are whole; without recovery the wish is ignored.',
      [
        'libs/iscsi/retransmission.test.ts',
        'acknowledges data that the target wants acknowledged, but not over a gap',
      ],
      [
        'libs/iscsi/violations.test.ts',
        'a wish for an acknowledgement of data is ignored at recovery level 0 (§11.7.2)',
      ],
    ),
    doneHere(
      ['H08', '§11.16.1-2, §11.17.1', 'NN'],
      'Data are asked for before the status of their command is acknowledged; a SNACK that is rejected is followed by a stronger means.',
      [
        'libs/iscsi/retransmission.test.ts',
        'does not acknowledge its status, nor any behind it, before its data are whole',
      ],
      [
        'libs/iscsi/retransmission.test.ts',
        'fails alone when the target will not send the data again',
      ],
      [
        'libs/iscsi/retransmission.test.ts',
        'that the target will not send again ends the connection',
      ],
    ),
    doneHere(
      ['H09', '§7.2.2, §11.5.1', 'NN'],
      'Tasks of a failed connection are taken over by another one, after Time2Wait and before Time2Retain is over.',
      [
        'libs/iscsi/connection-recovery.test.ts',
        'has its commands go on over another one, and nobody hears of it',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'waits as long as the target wants before anything is done about it',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'keeps the times that are named once its end was noticed already',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'is waited for no longer than the target keeps its commands',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'takes what comes right behind the answer to the reassignment',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'ends the session when a reassignment is not answered, or the time of the target is over',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'does not run out while it waits for another one, and begins anew there',
      ],
    ),
    doneHere(
      ['H10', '§7.2.2', 'NN'],
      'A task that cannot be taken over ends the session, which is then opened anew.',
      [
        'libs/iscsi/connection-recovery.test.ts',
        'ends the session when a reassignment is answered with %i',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'ends the session when a reassignment is not answered, or the time of the target is over',
      ],
    ),
    done(
      ['H11', '§4.2.2, §4.2.5.1', 'NN'],
      'Connections share the numbers of commands, have their own of statuses, and a task stays with its connection.',
      [
        'libs/iscsi/connections.test.ts',
        'numbers its commands over all connections, and each connection counts its own status',
      ],
      ['libs/iscsi/connections.test.ts', 'keeps what belongs to a write on its connection'],
      [
        'libs/iscsi/connections.test.ts',
        'takes no PDU of a task from another connection than the one of the task',
      ],
      [
        'test/interop/lio-connections.test.ts',
        'does I/O over all of them, shows them, and has them all logged in anew on request',
      ],
    ),
    doneHere(
      ['H12', '§7.6, §7.14', 'NN'],
      'A connection that is lost is logged out over another one, and its commands end or go on there; at level 0 the session ends with it and is opened anew.',
      [
        'libs/iscsi/connection-recovery.test.ts',
        'is logged out over the other, and only then are its commands terminated',
      ],
      [
        'libs/iscsi/connections.test.ts',
        'is over with any of them at level 0, and what was on its way is unknown',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'has its commands go on over another one, and nobody hears of it',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        '%s has its commands go on after the time to wait that goes with it',
      ],
    ),
    done(
      ['H13', '§6.3.1, §11.13.5', 'NN'],
      'Further connections join with the handle of the session, negotiate what is theirs, and are done without where the target refuses.',
      [
        'libs/iscsi/connections.test.ts',
        'adds them under its ISID and TSIH, each with a CID of its own, and says only what is per connection',
      ],
      [
        'libs/iscsi/connections.test.ts',
        'stays with fewer when the target answers %s, and says so',
      ],
      [
        'test/interop/lio-connections.test.ts',
        'does I/O over all of them, shows them, and has them all logged in anew on request',
      ],
    ),
    done(
      ['H14', '§8.1.3, §8.3.1', 'PY'],
      'Connections and sessions go through the states of the RFC by one table, and show them.',
      [
        'libs/iscsi/connections.test.ts',
        'shows which connection the target wants logged out, until it is (§8.1.3)',
      ],
      [
        'libs/iscsi/connections.test.ts',
        'adds them under its ISID and TSIH, each with a CID of its own, and says only what is per connection',
      ],
      [
        'libs/iscsi/connections.test.ts',
        'is over with any of them at level 0, and what was on its way is unknown',
      ],
    ),
  ],
};
