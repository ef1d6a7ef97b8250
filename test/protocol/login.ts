import { done, doneHere, type Group, partly } from './row.ts';

const login = 'libs/iscsi/login.test.ts';
const rules = 'libs/iscsi/negotiation-rules.test.ts';
const FAILS = 'fails on %s, and drops the connection';
const BEGINS = 'begins with the security stage, says each key once, and takes what was agreed';
const tgt = 'test/interop/iscsi-tgt.test.ts';
const REINSTATES =
  'a login with the same ISID ends the older session; its commands are unknown or done, never silent';

export const loginRows: Group = {
  letter: 'B',
  title: 'Login, negotiation and identity',
  others:
    'libiscsi takes answers without checking them, has no rule for repeated keys or text in parts, and logs in with a new ISID after a break, so that nothing reinstates the old session.',
  rows: [
    done(
      ['B01', '§11.12', 'YY'],
      'Every request of a login is immediate and carries the same task tag, connection, ISID and TSIH, version 0, and a CmdSN that does not move.',
      [rules, 'all requests of one login carry the same identity, and no CmdSN is used up'],
    ),
    done(
      ['B02', '§6.3, §11.13.6', 'NP'],
      'The login goes from security to operational to full feature phase; a target that goes further than asked, or goes on unasked, is left.',
      [login, FAILS],
      [
        'libs/iscsi/login-keys.test.ts',
        'is the end of it when it goes on without having been asked to (§11.13.6)',
      ],
      ['libs/iscsi/login-keys.test.ts', 'is the end of it when it goes %s (§6.3)'],
    ),
    done(
      ['B03', '§6.3', 'PY'],
      'A target that does not go on yet is asked again with an empty request, in a bounded number of rounds.',
      [login, 'goes on asking when the target does not transit at once, but not for ever'],
    ),
    done(
      ['B04', '§6.2, §11.13.7', 'N?'],
      'Text that comes in parts is asked for with empty requests and parsed when it is whole; our own is cut into parts of 8192 bytes.',
      ['libs/iscsi/login.test.ts', 'joins an answer that comes in parts, cut inside a key'],
      [
        'libs/iscsi/login-keys.test.ts',
        'longer than a login PDU are cut, with C=1 and T=0 in all parts but the last (§11.12.2)',
      ],
    ),
    done(
      ['B05', '§13.12', 'YY'],
      'Login text in either direction keeps to segments of 8192 bytes.',
      [login, FAILS],
    ),
    done(
      ['B06', '§13.4, §13.5', 'YY'],
      'The first request names the initiator, and in a normal session the target; neither is said again.',
      [login, BEGINS],
    ),
    done(['B07', '§13.21', 'YY'], 'The first request says which kind of session it opens.', [
      rules,
      'a discovery session says so at once, and offers nothing that has no meaning in it',
    ]),
    done(
      ['B08', '§12', 'YY'],
      'Before the operational stage only names, session type, method and the keys of the method are sent.',
      [rules, 'the security stage carries no key that belongs to a later one'],
    ),
    done(
      ['B09', '§6.3', 'N?'],
      'No key is offered twice in a login, and one that the target says twice ends it.',
      [login, FAILS],
      [login, BEGINS],
    ),
    done(
      ['B10', '§6.2.1-2, §13', 'NP'],
      'An answer has to be a value of its key, in its range, and a possible result of what we offered.',
      ['libs/iscsi/keys.test.ts', '%s offered as %s may not be answered with "%s"'],
      [login, FAILS],
    ),
    done(
      ['B11', '§6.2', 'NP'],
      'What the target proposes is answered with the result, or with Reject, Irrelevant or NotUnderstood, and the last never for a key of the RFC.',
      [
        'libs/iscsi/login-keys.test.ts',
        'on its own account is answered: with the result, Reject, Irrelevant or NotUnderstood',
      ],
      ['libs/iscsi/login.test.ts', 'answers what the target proposes, and what it does not know'],
    ),
    done(
      ['B12', '§6.1', 'PY'],
      'Text is pairs that end with a zero byte, with bounds for keys and for the whole; numbers may be hexadecimal, binary values base64; case counts.',
      ['libs/iscsi/text.test.ts', '%j as a number is %j'],
      ['libs/iscsi/text.test.ts', '%j as binary is %j'],
      ['libs/iscsi/text.test.ts', 'refuses %s'],
    ),
    partly(
      ['B13', '§4.2.7', 'PP'],
      'Names are checked for their type, form and 223 bytes, and sent in one form: NFKC and lower case.',
      'Names are held to letters, digits, marks and the punctuation of RFC 3722; its other tables (bidirectional text, unassigned characters) are not there.',
      ['libs/iscsi/text.test.ts', '%s is one'],
      ['libs/iscsi/text.test.ts', '%j is none'],
      [rules, 'a name goes out in lower case and in one form of its characters'],
    ),
    done(
      ['B14', '§10.1.1, §11.12.5', 'PY'],
      'A path slot has one ISID, of the random format, in every process and after every restart; slots of one target differ.',
      [rules, 'a path slot has the same ISID wherever and whenever it is made'],
      [tgt, REINSTATES],
    ),
    done(
      ['B15', '§6.3.1', 'PY'],
      'Name, ISID, TSIH and connection number decide between a new session, reinstatement, and one more connection.',
      [
        'libs/iscsi/connections.test.ts',
        'adds them under its ISID and TSIH, each with a CID of its own, and says only what is per connection',
      ],
      [
        'libs/iscsi/connections.test.ts',
        'does not take up a session that got its handle from the target after it',
      ],
      [
        'test/interop/lio-connections.test.ts',
        'does I/O over all of them, shows them, and has them all logged in anew on request',
      ],
    ),
    done(
      ['B16', '§11.13.3', 'NY'],
      'The handle of the session comes with the last response of the login, and is not 0.',
      [login, FAILS],
    ),
    done(
      ['B17', '§6.3.5', 'NY'],
      'A path logs in again under its old ISID, so that what its predecessor left on the target is ended before anything newer is sent.',
      [tgt, REINSTATES],
      ['test/faults/ghost-write.test.ts', 'cannot put it over a newer one when %s'],
    ),
    doneHere(
      ['B18', '§6.3.4', 'NN'],
      'A connection that failed is replaced by a login with its number and the handle of the session.',
      [
        'libs/iscsi/connection-recovery.test.ts',
        'is logged in again in its own place when it was the only one',
      ],
    ),
    done(
      ['B19', '§6.3.1, §13.9', 'NP'],
      'The first whole response has to name the portal group; it is compared with the configured one.',
      [
        'libs/iscsi/login-keys.test.ts',
        'that answers has to be the expected one, where one is (§13.9)',
      ],
      ['libs/iscsi/login-keys.test.ts', 'may have the tag 0, and has to have one'],
      ['libs/iscsi/connections.test.ts', 'does not take a portal of another group in'],
    ),
    done(
      ['B20', '§11.13.5', 'PY'],
      'A refusal is told by its name with what to do, the connection ends, and its numbers are not used.',
      [login, 'names the refusal %i'],
      [tgt, 'a wrong target name and a port without listener are told apart'],
    ),
    done(
      ['B21', '§11.13.5, §13.8', 'PY'],
      'Redirections are followed to every address that they name, in a bounded number of hops; one for good is told, one for now is forgotten with the next login.',
      [login, 'follows a redirection, and not one that goes in a circle'],
      [
        'libs/iscsi/login-keys.test.ts',
        'for good is told, one for now is not, and the next login begins at home again',
      ],
      [
        'libs/iscsi/login-keys.test.ts',
        'goes to the mapped address, with the default port, and past addresses that do not answer',
      ],
      ['libs/iscsi/login-keys.test.ts', 'into another portal group than it says is refused'],
      [
        'services/worker/slot-table.test.ts',
        'a path that is redirected is still that of its portal, and begins there the next time',
      ],
    ),
    done(
      ['B22', '§13', 'YY'],
      'A discovery session offers no key that has no meaning in it.',
      [rules, 'a discovery session says so at once, and offers nothing that has no meaning in it'],
      [
        'libs/iscsi/login-keys.test.ts',
        'of a discovery session leave out what means nothing there (§13.21)',
      ],
    ),
    doneHere(
      ['B23', '§13.23', 'NN'],
      'TaskReporting is offered with all three values; without an answer the rules of RFC 3720 hold.',
      [
        'libs/iscsi/login-keys.test.ts',
        'hold TaskReporting with all that is below it, and the protocol level (§13.23, RFC 7144)',
      ],
      [
        'libs/iscsi/login-keys.test.ts',
        'of keys of later documents fall back to the defaults with %s',
      ],
    ),
    doneHere(
      ['B24', 'RFC 7144 §7.1.1, §13.24', 'NN'],
      'Protocol level 2 is offered; without an answer its functions are not used.',
      [
        'libs/iscsi/login-keys.test.ts',
        'hold TaskReporting with all that is below it, and the protocol level (§13.23, RFC 7144)',
      ],
      [
        'libs/iscsi/login-keys.test.ts',
        'of keys of later documents fall back to the defaults with %s',
      ],
      ['libs/iscsi/task-management.test.ts', 'function %i is not sent at protocol level 1'],
    ),
    doneHere(
      ['B25', '§13.26', 'NN'],
      'A description of the node architecture from a target is taken and changes nothing; none of ours is sent.',
      [rules, 'what a target says of its architecture changes nothing'],
    ),
    done(
      ['B26', '§6.2, §13.22', 'P?'],
      'Private keys of a target are answered NotUnderstood, and the login goes on.',
      [rules, 'keys that nobody knows are answered NotUnderstood, and the login goes on'],
    ),
  ],
};
