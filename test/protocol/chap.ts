import { done, doneHere, type Group } from './row.ts';

const chap = 'libs/iscsi/chap.test.ts';
const tgt = 'test/interop/chap-tgt.test.ts';

export const chapRows: Group = {
  letter: 'C',
  title: 'CHAP',
  others:
    "libiscsi offers one algorithm and checks neither the target's choice nor reflections; open-iscsi checks most of it.",
  rows: [
    done(
      ['C01', '§12.1', 'PY'],
      'Where we have to authenticate, CHAP alone is offered, and a target that goes on without it is left.',
      [chap, 'a target that goes on %s is left'],
      [tgt, '%s is refused, and the error says where to look'],
    ),
    done(
      ['C02', '§12.1.3', 'PY'],
      'Algorithms are offered as a list in the order of preference, which always has MD5; SHA-1, SHA-256 and SHA3-256 are there too.',
      [chap, 'begins with MD5, and follows what is wished'],
      [tgt, 'each list that begins with MD5 works, and MD5 alone'],
    ),
    done(['C03', '§12.1.3', 'NY'], 'An algorithm that we did not offer ends the login.', [
      chap,
      'does not hold %j, and the login fails for it',
    ]),
    doneHere(
      ['C04', 'practice', '-?'],
      'A target that refuses the list is asked once more with MD5 alone.',
      [chap, 'is tried once more with MD5 alone where a list is refused'],
    ),
    done(
      ['C05', '§12.1.3', 'PY'],
      'Challenges of 1 to 1024 bytes, hexadecimal or base64, are answered with the digest over identifier, secret and challenge.',
      [chap, 'is the %s digest of identifier, secret and challenge'],
      [chap, 'is given to challenges of 1 to 1024 bytes, and to no others'],
      [tgt, 'one way and mutual, the right secrets open a session that does I/O'],
    ),
    done(
      ['C06', '§12.1.3', 'PY'],
      'The target has to answer a random challenge as long as the digest before the stage is left; answers are compared in constant time.',
      [
        chap,
        'is complete when the target has answered our challenge, which is as long as the digest',
      ],
      [tgt, 'a target that proves itself with %s than we know is left'],
    ),
    doneHere(
      ['C07', '§9.2.1', 'NP'],
      'An answer that our own secret makes is refused, a challenge of the target is never ours, and a challenge that we issued in this process is not answered.',
      [chap, 'refuses the answer that our own secret makes (§9.2.1)'],
      [chap, 'never asks what the target has asked (§9.2.1)'],
      [chap, 'answers no challenge that it has issued on another connection (§9.2.1)'],
    ),
    done(
      ['C08', '§9.2.1', 'NP'],
      'Secrets below 96 bits are refused unless allowed by name, and the two directions may not share one.',
      [chap, 'below 96 bits are refused in either direction, unless they are allowed'],
      [tgt, 'weak and equal secrets are not used at all'],
    ),
    done(
      ['C09', '§9.2', 'PY'],
      'The CHAP name is of its own, and secrets come from private files or the environment and are shown nowhere.',
      [chap, 'are seen in no error, and not when options are printed'],
      [tgt, 'shows the secrets nowhere'],
    ),
    doneHere(
      ['C10', '§9.2', '--'],
      'All connections of a session authenticate with the same method and identity, since they are opened with one set of options.',
      [
        'libs/iscsi/connections.test.ts',
        'adds them under its ISID and TSIH, each with a CID of its own, and says only what is per connection',
      ],
      [chap, 'is done with one method and under one name on all connections of a session (§9.2)'],
      [chap, 'opens a session with %s, one way and mutual, and lists targets'],
      [
        'libs/iscsi/login-keys.test.ts',
        'of a connection that joins a session end in the authentication method of the session (§9.2)',
      ],
    ),
  ],
};
