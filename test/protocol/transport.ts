import { done, doneHere, type Group } from './row.ts';

const rules = 'libs/iscsi/wire-rules.test.ts';
const negotiation = 'libs/iscsi/negotiation-rules.test.ts';
const violations = 'libs/iscsi/violations.test.ts';
const digests = 'libs/iscsi/digests.test.ts';
const TOLD = '%s ends the session with that cause';

export const transport: Group = {
  letter: 'A',
  title: 'Transport, PDUs and digests',
  others:
    "libiscsi gives up at any additional header, and its data digest is known only after the bytes stand in the caller's buffer; both still propose the obsolete markers.",
  rows: [
    done(
      ['A01', '§15', 'YY'],
      'A portal without a port is asked on 3260; 860 is used only where it was written.',
      [negotiation, 'a portal without a port is on 3260, and on no other'],
    ),
    done(
      ['A02', '§11.1, §11.2.1.5-6', 'YY'],
      'A header has 48 bytes; lengths of segments leave their pad bytes out, and the pad bytes are zeros up to the next word.',
      [rules, 'segments of any length end on a word, with zeros'],
      ['libs/iscsi/vectors/captured.test.ts', 'is encoded to the same bytes'],
    ),
    done(
      ['A03', '§11.2', 'YY'],
      'Bits that belong to no field leave as 0 and are not looked at when they arrive.',
      [rules, 'bits that belong to no field are sent as 0 and mean nothing on receipt'],
    ),
    done(
      ['A04', '§13.12', 'YY'],
      'A segment longer than what we declared (8192 bytes in the login) ends the connection before anything is allocated for it.',
      [violations, TOLD],
      ['libs/iscsi/login.test.ts', 'fails on %s, and drops the connection'],
    ),
    doneHere(
      ['A05', '§11.2.2.1-4', 'NP'],
      'Long CDBs and the read length of a bidirectional command go out in additional headers; those of a target are parsed within their bounds and passed over.',
      [
        'libs/iscsi/extended-command.test.ts',
        'sends the rest of it in an additional header, and reads as any other',
      ],
      [
        'libs/iscsi/extended-command.test.ts',
        'says both lengths, and R2Ts and Data-In share one numbering',
      ],
      [
        'libs/iscsi/extended-command.test.ts',
        'of the target that do not hold what they say (%s) end the session',
      ],
    ),
    done(
      ['A06', '§11.2.3, §13.1', 'YY'],
      'The header digest is about the whole header, the data digest about data and pad bytes; an empty segment has none, and the login has none.',
      [digests, 'carry reads and writes of all sizes and in all modes of writing'],
      [digests, 'carry text whose length is no multiple of 4'],
      [
        'test/interop/digests-tgt.test.ts',
        'HeaderDigest=%s and DataDigest=%s carry reads and writes of all sizes',
      ],
    ),
    done(
      ['A07', '§13.1, appendix A.4', 'YY'],
      'CRC32C agrees with the five examples of the RFC and goes out low byte first.',
      ['libs/wire/crc32c.test.ts', 'gives the digest of RFC 7143 for %s'],
      [
        'libs/iscsi/pdu/digest.test.ts',
        'stand behind the header, low byte first, as in the appendix of RFC 7143',
      ],
    ),
    done(
      ['A08', '§7.8', 'YY'],
      'After a header with a wrong digest nothing more of that stream is read: the connection ends.',
      [digests, 'in the header of a failed flush is noticed by the header digest'],
    ),
    done(
      ['A09', '§7.8', 'PY'],
      'A read succeeds only after the digest of every segment was right; a wrong one is asked for again from recovery level 1 on, and ends the connection at level 0.',
      [digests, 'in data is noticed by the data digest, and the read does not succeed'],
      [
        'libs/iscsi/retransmission.test.ts',
        'never takes a damaged segment, and asks for it at once',
      ],
    ),
    done(
      ['A10', '§13.25', 'PP'],
      'The marker keys of RFC 3720 are never proposed; a target that proposes one is answered Reject.',
      ['libs/iscsi/login.test.ts', 'answers what the target proposes, and what it does not know'],
      [
        'libs/iscsi/negotiation-rules.test.ts',
        'keys that nobody knows are answered NotUnderstood, and the login goes on',
      ],
    ),
    done(
      ['A11', '§7.14', 'YY'],
      'Connections send without delay, have a limit for connecting and a TCP keepalive beside the pings; their end or reset is told at once.',
      [
        'test/interop/iscsi-tgt.test.ts',
        'a target that is killed loses the session at once; one that is frozen is found out by pings',
      ],
      [negotiation, 'a portal that takes no connection is given up in time'],
      [
        'libs/wire/node-network.test.ts',
        'a connection sends without delay, and notices by itself a peer that has vanished',
      ],
    ),
  ],
};
