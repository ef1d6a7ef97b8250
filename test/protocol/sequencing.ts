import { done, doneHere, type Group } from './row.ts';

const session = 'libs/iscsi/session.test.ts';
const control = 'libs/iscsi/session-control.test.ts';
const rules = 'libs/iscsi/wire-rules.test.ts';
const tgt = 'test/interop/iscsi-tgt.test.ts';

export const sequencing: Group = {
  letter: 'E',
  title: 'Numbers and tags',
  others:
    'neither has a way to get back a status or a command that was lost; libiscsi takes windows without the first check.',
  rows: [
    done(
      ['E01', '§4.2.2.1', 'YY'],
      'Commands of a session are numbered one by one, in serial arithmetic of 32 bits.',
      [session, 'wraps around at 2^32'],
      [tgt, 'many reads and writes of many sizes at once leave what was written'],
    ),
    done(['E02', '§4.2.2.1', 'YY'], 'No command is sent beyond MaxCmdSN; it waits its turn.', [
      session,
      'is kept: what does not fit waits its turn, and CmdSN has no hole',
    ]),
    done(
      ['E03', '§4.2.2.1', 'PY'],
      'ExpCmdSN and MaxCmdSN are taken only forward, and not at all when they contradict each other.',
      [session, 'is not moved back, and not by numbers that make no sense'],
    ),
    done(
      ['E04', '§4.2.2.1', 'YY'],
      'A closed window stops neither pings nor task management, and a NOP-In opens it.',
      [session, 'closed at zero lets pings through, and is opened by a NOP-In'],
    ),
    doneHere(
      ['E05', '§4.2.2.1, §11.17.1', 'PY'],
      'Immediate requests carry the next CmdSN and do not use it up; one that the target has no room for comes again later.',
      [
        'libs/iscsi/task-management.test.ts',
        'are few at a time: more wait for their turn, and a reset goes in front of them',
      ],
      [
        'libs/iscsi/task-management.test.ts',
        'that the target has no room for are sent again later, with the same tag',
      ],
      [
        'libs/iscsi/session-control.test.ts',
        'are answered with their tag and LUN, without a CmdSN of their own',
      ],
    ),
    done(
      ['E06', '§4.2.2.1', 'YY'],
      'A command gets its number when it is sent, so that one that is given up before leaves no hole.',
      [session, 'is kept: what does not fit waits its turn, and CmdSN has no hole'],
    ),
    done(
      ['E07', '§4.2.2.2, §11.8.3, §11.19.2', 'YY'],
      'Statuses are acknowledged per connection; R2T, pings of the target and data without status do not count.',
      [rules, 'ExpStatSN counts answers, and neither R2T nor pings nor data without a status'],
    ),
    done(
      ['E08', '§4.2.2.2, §7.9', 'NN'],
      'A status that is missing is asked for from recovery level 1 on, and ends the session at level 0; one far from what is expected is a failed connection.',
      ['libs/iscsi/violations.test.ts', '%s ends the session with that cause'],
      [
        'libs/iscsi/retransmission.test.ts',
        'that is missing is asked for, and those behind it count meanwhile but are not acknowledged',
      ],
      ['libs/iscsi/retransmission.test.ts', 'far ahead of what is expected is a failed connection'],
    ),
    done(
      ['E09', '§11.2.1.8', 'PY'],
      'Task tags are unique in a session, never all ones, and carry a generation, so that a late answer finds no later task.',
      [rules, 'task tags do not repeat while a task lives, and are never all ones'],
      [control, 'one that is not answered in time fails, and its late answer does no harm'],
    ),
    done(
      ['E10', '§7.13', 'YY'],
      'An answer to nothing, or of the wrong kind, ends the session; so do data and R2Ts for a request that is no command.',
      ['libs/iscsi/violations.test.ts', '%s ends the session with that cause'],
      [
        'libs/iscsi/violations.test.ts',
        '%s under the tag of a ping, in the place of a %s that is done, ends the session at recovery level %i (§7.13)',
      ],
    ),
    doneHere(
      ['E11', '§7.2.1', 'NN'],
      'A command is sent again under its own numbers only to close a gap that the target has.',
      [
        'libs/iscsi/retransmission.test.ts',
        'goes out again under its number when the target could not read it, and only then',
      ],
    ),
  ],
};
