import { done, type Group } from './row.ts';

const rules = 'libs/iscsi/negotiation-rules.test.ts';
const tgt = 'test/interop/iscsi-tgt.test.ts';
const LISTS = 'discovery lists the target with a portal of its own, and logs out';

export const discoveryRows: Group = {
  letter: 'D',
  title: 'Discovery',
  others: 'libiscsi asks for everything once and takes answers of one part only.',
  rows: [
    done(
      ['D01', '§11.10, appendix C', 'YY'],
      'SendTargets=All is asked in a discovery session, a name or nothing where less is wanted, in one final text request without a target tag.',
      [tgt, LISTS],
      [rules, 'an answer to SendTargets in several parts is asked for part by part'],
      [
        'libs/iscsi/negotiation-rules.test.ts',
        'a normal session may ask for the portals of its own target',
      ],
    ),
    done(
      ['D02', '§11.10.4, §11.11', 'NY'],
      'An answer in parts is asked for with the tag of each part until it is whole, within bounds.',
      [rules, 'an answer to SendTargets in several parts is asked for part by part'],
    ),
    done(
      ['D03', '§13.8, appendix C', 'YY'],
      'Addresses belong to the name before them; names, IPv4, IPv6 in brackets, ports and tags are understood; a target without any is at the portal that was asked.',
      [rules, 'addresses belong to the target before them, in every form of the RFC'],
      [tgt, LISTS],
    ),
    done(
      ['D04', '§4.4, appendix C', 'NY'],
      'Portals with one tag are one group, which a session may span; other tags are other sessions.',
      [
        'libs/iscsi/negotiation-rules.test.ts',
        'portals with one tag are one group, which a session may span; other tags are other groups',
      ],
      ['libs/iscsi/connections.test.ts', 'spreads over the portals it was given'],
      [
        'test/interop/iscsi-lio.test.ts',
        'discovery lists both portal groups, with addresses behind the translation',
      ],
    ),
    done(
      ['D05', '§13.21, §7.4', 'YY'],
      'A discovery session sends nothing but SendTargets and the logout, not even a ping, and answers pings.',
      [rules, 'a discovery session asks, answers pings, and logs out, nothing else'],
      [
        'libs/iscsi/discovery.test.ts',
        'waits for an answer that takes long without a ping of its own (§13.21)',
      ],
    ),
  ],
};
