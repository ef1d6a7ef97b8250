import { done, doneHere, type Group } from './row.ts';

const transfer = 'libs/iscsi/transfer.test.ts';
const violations = 'libs/iscsi/violations.test.ts';
const rules = 'libs/iscsi/wire-rules.test.ts';
const lun = 'libs/iscsi/lun.test.ts';
const tgt = 'test/interop/iscsi-tgt.test.ts';
const TOLD = '%s ends the session with that cause';
const MODES = 'with InitialR2T=%s and ImmediateData=%s sends what it may, then what is asked for';
const MANY = 'many reads and writes of many sizes at once leave what was written';

export const transfers: Group = {
  letter: 'F',
  title: 'Commands, data and residuals',
  others:
    'libiscsi checks neither R2T nor the numbers of data, looks at the service response only beside a residual, and builds LUNs anew from a number.',
  rows: [
    done(
      ['F01', '§11.2.1.7, SAM-5', 'NY'],
      'The 8 bytes of a LUN are sent as they came.',
      [rules, 'a LUN goes out as the 8 bytes that it is'],
      [
        'libs/iscsi/lun-facts.test.ts',
        'sends the 8 bytes of the LUN as they are, in every command (F01)',
      ],
    ),
    done(
      ['F02', '§13.10, §13.11', 'YY'],
      'All four combinations of InitialR2T and ImmediateData work.',
      [transfer, MODES],
      [tgt, MANY],
    ),
    done(
      ['F03', '§11.3.4, §13.10-14', 'YY'],
      'Immediate data keep to the first burst, the segment of the target and the command; with unsolicited data they fill the first burst exactly.',
      [transfer, MODES],
    ),
    done(
      ['F04', '§11.3.1', 'YY'],
      'The command says that it is final when no unsolicited data follow.',
      [transfer, MODES],
    ),
    done(
      ['F05', '§11.7.4-7, §11.8.5', 'YY'],
      'Data go out with the tag and LUN of their R2T, numbered from 0 in each sequence, without gaps, in segments that the target takes, the last one marked.',
      [transfer, MODES],
      [tgt, MANY],
    ),
    done(
      ['F06', '§11.8', 'NY'],
      'An R2T has to be for a write that is there, in its turn, for 1 to MaxBurstLength bytes inside the command that begin where the last one ended, with a tag.',
      [violations, TOLD],
      ['libs/iscsi/extended-command.test.ts', 'with an R2T %s ends the session'],
      ['libs/iscsi/retransmission.test.ts', 'is not asked for bytes beyond those that come next'],
    ),
    done(
      ['F07', '§11.8, §13.17', 'PY'],
      'Several R2Ts of one command are answered in the order of arrival; a recovery R2T may ask for bytes again. GOOD before every byte was asked for is an error.',
      [transfer, 'answers several R2T of one command in the order of arrival'],
      [
        'libs/iscsi/retransmission.test.ts',
        'asks for an R2T that is missing, and serves one that comes twice once',
      ],
      ['libs/iscsi/retransmission.test.ts', 'sends again what a recovery R2T asks for'],
      [
        'libs/iscsi/retransmission.test.ts',
        'is short where the R2T that was missing asks for less than the gap',
      ],
      [
        'libs/iscsi/retransmission.test.ts',
        'are served until every byte was sent at level %i, and GOOD before that is short',
      ],
      [
        'libs/iscsi/extended-command.test.ts',
        'takes no GOOD for data that were not asked for, unless a residual says so',
      ],
    ),
    done(
      ['F08', '§11.7.3, §11.7.5', 'NY'],
      'Data of a read come numbered, in order and inside the command; a status comes only with the last.',
      [violations, TOLD],
      [transfer, 'is one command, filled from several Data-In with the status in the last'],
    ),
    doneHere(
      ['F09', '§11.8.2', 'NP'],
      'R2T and data of a bidirectional command share one numbering.',
      [
        'libs/iscsi/extended-command.test.ts',
        'says both lengths, and R2Ts and Data-In share one numbering',
      ],
      ['libs/iscsi/extended-command.test.ts', 'with an R2T %s ends the session'],
    ),
    done(
      ['F10', '§11.4.8', 'N?'],
      'A response that counts other data than came ends the session.',
      [rules, 'a response that counts other data than came is a violation'],
    ),
    done(
      ['F11', '§11.4.3', 'NY'],
      'The service response is looked at before the status, which means nothing when the target failed.',
      [rules, 'a failure of the target counts before any status and flag beside it'],
    ),
    done(
      ['F12', '§11.4.5', 'PY'],
      'Residuals count only with their flag, never both of them, never above the length; data that are short of the length are an error.',
      [rules, 'residuals are taken by their flags, which exclude each other'],
      [transfer, 'that brings less than was asked is an error, with or without a residual'],
      ['libs/iscsi/extended-command.test.ts', 'with both residuals of one side is a violation'],
    ),
    done(
      ['F13', '§11.4.5.3', 'YY'],
      'Commands with an allocation length take what came, whatever was left over.',
      [rules, 'an answer longer than its allocation length is no error'],
    ),
    done(
      ['F14', '§11.4.7', 'PY'],
      'Sense data stand behind their length, which has to fit; what follows is not taken for sense.',
      [rules, 'sense ends where its length says, and response data may follow'],
      [violations, TOLD],
    ),
    done(
      ['F15', 'SPC-4', 'PY'],
      'Sense of both formats is read; an error of an earlier command is told to the next flush, not to the command that brought it.',
      ['libs/scsi/answers.test.ts', 'of both formats say the same'],
      [lun, 'a deferred error is kept for the next flush, once'],
    ),
    done(
      ['F16', '§11.3.1', 'PP'],
      'Commands are sent with the SIMPLE attribute, and others can be asked for.',
      ['libs/iscsi/extended-command.test.ts', 'sends task attribute %i when it is asked to'],
      ['libs/iscsi/extended-command.test.ts', 'sends SIMPLE when nothing is said'],
    ),
  ],
};
