import { done, doneHere, type Group } from './row.ts';

const control = 'libs/iscsi/session-control.test.ts';
const session = 'libs/iscsi/session.test.ts';
const tgt = 'test/interop/iscsi-tgt.test.ts';
const LOGS_OUT = 'event %i lets what was sent finish, takes nothing new, and logs out';

export const controlRows: Group = {
  letter: 'G',
  title: 'Pings, events, rejects, task management, logout',
  others:
    'libiscsi knows few asynchronous events and leaves all recovery of commands to its caller; open-iscsi has the whole ladder of aborts and resets.',
  rows: [
    doneHere(
      ['G01', '§11.18', 'PY'],
      'A ping of the target is answered at once, with its tag and LUN, without a number of its own.',
      [control, 'are answered with their tag and LUN, without a CmdSN of their own'],
    ),
    done(['G02', '§11.19.1', 'YY'], 'A NOP-In without any tag only moves the window.', [
      session,
      'closed at zero lets pings through, and is opened by a NOP-In',
    ]),
    done(
      ['G03', '§11.18.3', 'PY'],
      'Our pings are immediate; data in them have to come back unchanged.',
      [
        'libs/iscsi/pings.test.ts',
        'comes after silence, is immediate, takes no CmdSN, and carries data that are new each time',
      ],
      [
        'libs/iscsi/pings.test.ts',
        'whose echo is another is a violation: bytes change on this connection',
      ],
      [
        'test/interop/iscsi-tgt.test.ts',
        'a target that is killed loses the session at once; one that is frozen is found out by pings',
      ],
    ),
    done(
      ['G04', 'practice', 'NY'],
      'Only silence is pinged: whatever arrives is a sign of life.',
      [session, 'no ping goes out while anything comes in'],
      [
        tgt,
        'a target that is killed loses the session at once; one that is frozen is found out by pings',
      ],
    ),
    doneHere(
      ['G05', '§11.9.1', 'NP'],
      'A SCSI event is told to the unit that it is about, as the unit attention that it is.',
      [
        'libs/iscsi/async-events.test.ts',
        'reaches the unit that it is about as unit attention %i/%i',
      ],
    ),
    doneHere(
      ['G06', '§11.9.1', 'YY'],
      'A target that asks for a logout gets one in its time; nothing new is sent, and what was sent may finish.',
      [control, LOGS_OUT],
    ),
    doneHere(
      ['G07', '§7.1.4.3, §11.9.1', 'PP'],
      'A target that drops a connection ends that one, and the session where nothing else is left of it; one that drops all ends the session. The times that it names are kept by the recovery and by the next login, up to 30 s of waiting; a longer wait ends the session instead.',
      ['libs/iscsi/async-events.test.ts', 'end the session and say how long to wait'],
      [
        'libs/iscsi/connection-recovery.test.ts',
        '%s has its commands go on after the time to wait that goes with it',
      ],
      [
        'libs/iscsi/connection-recovery.test.ts',
        'keeps the times that are named once its end was noticed already',
      ],
      [
        'services/worker/slot-table.test.ts',
        'by event %i with %i s gets no login of that slot for %i ms',
      ],
      [
        'libs/cluster/failover.test.ts',
        'a try that comes too early for the target is made again when its time is over, at the same worker',
      ],
    ),
    doneHere(
      ['G08', '§11.9.1', 'YP'],
      'A target that wants to negotiate anew is asked to with an empty text request in its time, and what it declares holds from then on.',
      [
        'libs/iscsi/async-events.test.ts',
        'is answered with an empty text request, and what the target declares holds',
      ],
    ),
    doneHere(
      ['G09', '§4.2.3.4, §11.9.1', 'NN'],
      'When tasks are aborted for all at once, their data stop, the event is acknowledged, and then they are over.',
      [
        'libs/iscsi/async-events.test.ts',
        'stops the data of the unit, then is acknowledged, then ends each task that the target has ended',
      ],
      ['libs/iscsi/async-events.test.ts', 'is a violation where FastAbort was not negotiated'],
    ),
    doneHere(['G10', '§11.9.1', 'NY'], 'Vendor events and unknown ones are told and do no harm.', [
      'libs/iscsi/async-events.test.ts',
      'events of vendors, and events that nobody knows, are told and do no harm',
    ]),
    doneHere(
      ['G11', '§7.3, §11.17', 'PP'],
      'A reject is told with its reason; a command that never began is over as not executed, and reasons that mean a broken protocol end the session.',
      [
        'libs/iscsi/rejections.test.ts',
        'has a name for each reason, which is told with what was rejected',
      ],
      ['libs/iscsi/rejections.test.ts', 'of write data leaves the command to its own answer'],
      ['libs/iscsi/rejections.test.ts', 'for reason %i ends the session'],
    ),
    done(
      ['G12', '§11.5.1, RFC 7144 §9', 'YY'],
      'All functions 1 to 8 can be asked for, and 9 to 12 where protocol level 2 was agreed on.',
      [
        'libs/iscsi/task-management.test.ts',
        'function %i carries what §11.5 and RFC 7144 §6.3 have it carry, is immediate, and gives the answer',
      ],
      ['libs/iscsi/task-management.test.ts', 'function %i is not sent at protocol level 1'],
      [
        'test/interop/iscsi-tgt.test.ts',
        'a LOGICAL UNIT RESET under load terminates or completes each command, and the path goes on',
      ],
    ),
    doneHere(
      ['G13', '§11.5.1, §11.5.5', 'YY'],
      'ABORT TASK names the task and its number, on the connection of the task.',
      [
        'libs/iscsi/abort-ladder.test.ts',
        'is aborted by its tag and CmdSN, and is terminated when the target says so',
      ],
      [
        'libs/iscsi/task-management.test.ts',
        'about an immediate task give their own CmdSN for that of the task',
      ],
    ),
    done(
      ['G14', '§11.5.3-4', 'YY'],
      'Other functions name no task, and the LUN where they are about one.',
      [
        'libs/iscsi/task-management.test.ts',
        'function %i carries what §11.5 and RFC 7144 §6.3 have it carry, is immediate, and gives the answer',
      ],
    ),
    doneHere(
      ['G15', '§11.5.1', 'NY'],
      'After an abort of many the data that were asked for still go out, unless FastAbort was agreed on.',
      [
        'libs/iscsi/abort-ladder.test.ts',
        'are answered to the end (§4.2.3.3), and then only the answer of the command tells that it has ended',
      ],
      ['libs/iscsi/abort-ladder.test.ts', 'are not, for a target that wants no data any more'],
      ['libs/iscsi/abort-ladder.test.ts', 'are not, where FastAbort was negotiated (§4.2.3.4)'],
    ),
    doneHere(
      ['G16', '§11.6.1, RFC 7144 §9', 'YY'],
      'All responses to task management are told apart; a task that is not there any more has just been answered.',
      ['libs/iscsi/task-management.test.ts', 'responses have names'],
      [
        'libs/iscsi/abort-ladder.test.ts',
        'that the target does not know any more is a race: its answer may come behind',
      ],
    ),
    doneHere(
      ['G17', '§7.11, practice', 'NY'],
      'What is not answered is aborted, then the unit is reset, then the session ends; memory is free only when the target cannot ask for it any more.',
      [
        'libs/iscsi/abort-ladder.test.ts',
        'are a reset of the unit where that is allowed: once for all its commands, and those after it go on',
      ],
      [
        'libs/iscsi/abort-ladder.test.ts',
        'are a reset of the target after that, and in the end the session is given up',
      ],
      [
        'libs/iscsi/abort-ladder.test.ts',
        'keeps its memory until the socket has let go of it, whatever the target says',
      ],
    ),
    doneHere(
      ['G18', '§7.2.2, §11.14', 'PP'],
      'A logout closes the session, closes a connection, or removes one for recovery; nothing follows it.',
      ['libs/iscsi/logout.test.ts', 'with reason %i names the connection %i'],
      ['libs/iscsi/logout.test.ts', 'for recovery is not sent below ErrorRecoveryLevel 2'],
      ['libs/iscsi/logout.test.ts', 'is the last thing that is sent on its connection'],
    ),
    doneHere(
      ['G19', '§11.15', 'NP'],
      'The four answers to a logout are told apart, and the times in them read.',
      [
        'libs/iscsi/logout.test.ts',
        'with reason %i at level %i that is answered with %i gives a time to wait of %s',
      ],
      [
        'libs/iscsi/logout.test.ts',
        'that the target does not carry out says how it is called, and ends the session all the same',
      ],
    ),
    done(
      ['G20', 'practice', 'PY'],
      'Login and logout have their times, so that a target that hangs cannot hold up an end.',
      [control, 'a target that does not answer the logout cannot hold us'],
      ['libs/iscsi/login.test.ts', 'gives up a target that says nothing'],
    ),
  ],
};
