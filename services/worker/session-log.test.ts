import { expect, test } from 'vitest';
import type { IscsiSession } from '#iscsi/session.ts';
import type { SessionEvent } from '#iscsi/session-control.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { type EventLog, LINES_MAX, logSession, PERIOD_MS } from './session-log.ts';

const PORTAL = '192.0.2.1:3260';

type Line = readonly [level: string, fields: Readonly<Record<string, unknown>>, text: string];

/** What is written in the log of a session that says these things. */
function rig() {
  const clock = new VirtualClock();
  const lines: Line[] = [];
  const told: ((event: SessionEvent) => void)[] = [];
  const ended: ((cause: Error) => void)[] = [];
  const session = {
    portal: PORTAL,
    onEvent: (fn: (event: SessionEvent) => void) => told.push(fn),
    onClosed: (fn: (cause: Error) => void) => ended.push(fn),
  };
  const log = {
    info: (fields: object, text: string) => lines.push(['info', fields as never, text]),
    warn: (fields: object, text: string) => lines.push(['warn', fields as never, text]),
  };
  logSession(session as unknown as IscsiSession, log as unknown as EventLog, clock);
  return {
    clock,
    lines,
    say: (...events: SessionEvent[]) => {
      for (const event of events) for (const fn of told) fn(event);
    },
    end: () => {
      for (const fn of ended) fn(new Error('over'));
    },
  };
}

const lost = (reason: string | null): SessionEvent => ({
  ...{ kind: 'connection', cid: 1, state: 'CLEANUP_WAIT', portal: '192.0.2.2:3260', reason },
});
const vendor: SessionEvent = { kind: 'async', event: 255, vendorCode: 7 };

test.each<[string, SessionEvent, Line]>([
  [
    'a reject with its reason',
    { kind: 'reject', reason: 'InvalidPduField', pdu: 'ScsiCommand' },
    [
      'warn',
      { portal: PORTAL, reason: 'InvalidPduField', pdu: 'ScsiCommand' },
      'the target rejects ScsiCommand: InvalidPduField (RFC 7143 §11.17)',
    ],
  ],
  [
    'an event of a vendor',
    vendor,
    [
      'info',
      { portal: PORTAL, event: 255, vendorCode: 7 },
      'asynchronous message of the target: Vendor (RFC 7143 §11.9.1)',
    ],
  ],
  [
    'an event that nobody knows',
    { kind: 'async', event: 77, vendorCode: 0 },
    [
      'warn',
      { portal: PORTAL, event: 77, vendorCode: 0 },
      'asynchronous message of the target: unknown (0x4d) (RFC 7143 §11.9.1)',
    ],
  ],
  [
    'the wish for a logout',
    { kind: 'logout-requested' },
    ['warn', { portal: PORTAL }, 'the target asks for a logout'],
  ],
  [
    'the wish for a negotiation',
    { kind: 'negotiation-requested' },
    ['info', { portal: PORTAL }, 'the target asks for a negotiation'],
  ],
  [
    'commands that were ended',
    { kind: 'tasks-terminated', lun: Buffer.from('0001000000000000', 'hex'), count: 3 },
    [
      'warn',
      { portal: PORTAL, lun: '0001000000000000', commands: 3 },
      'the target has ended commands for the sake of somebody else',
    ],
  ],
  [
    'a connection that is lost, with the reason',
    lost('the target is silent'),
    [
      'warn',
      { portal: '192.0.2.2:3260', cid: 1, state: 'CLEANUP_WAIT', err: 'the target is silent' },
      'connection 1 was lost, or did not come',
    ],
  ],
  [
    'a connection that is back',
    lost(null),
    ['info', { portal: '192.0.2.2:3260', cid: 1, state: 'CLEANUP_WAIT' }, 'connection 1 is in use'],
  ],
])('the log has %s', (_, event, line) => {
  const { say, lines } = rig();
  say(event);
  expect(lines).toEqual([line]);
});

test('what a target has a part in is printable and short', () => {
  const { say, lines } = rig();
  say(lost(`MaxBurstLength=\x1b[2J\x1b]0;owned\x07${'a'.repeat(100_000)}`));
  const err = String(lines[0]![1].err);
  expect(err).toMatch(/^MaxBurstLength=\?\[2J\?\]0;owned\?a+$/);
  expect(err.length).toBeLessThan(1000);
});

test('a flood of one kind is counted, hides no other kind, and the next line says how many there were', async () => {
  const { clock, say, lines, end } = rig();
  for (let i = 0; i < 1000; i++) say(vendor);
  say(lost('gone'));
  expect(lines.map(([level]) => level)).toEqual([...Array(LINES_MAX).fill('info'), 'warn']);
  await clock.advance(PERIOD_MS);
  say(vendor);
  expect(lines.at(-1)).toMatchObject([
    'info',
    { leftOut: 1000 - LINES_MAX },
    expect.stringMatching(/asynchronous/),
  ]);
  say(vendor);
  expect(lines.at(-1)![1]).not.toHaveProperty('leftOut');
  expect(lines).toHaveLength(LINES_MAX + 3);
  end();
  expect(lines).toHaveLength(LINES_MAX + 3);
});

test('the end of a session says what no other line did', () => {
  const { say, lines, end } = rig();
  for (let i = 0; i < LINES_MAX + 4; i++) say(vendor);
  end();
  expect(lines.at(-1)).toEqual([
    'warn',
    { portal: PORTAL, event: 'async', leftOut: 4 },
    'events were not logged',
  ]);
});
