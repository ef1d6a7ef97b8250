import { describe, expect, test } from 'vitest';
import { MemoryBusHub } from '../bus/memory/hub.ts';
import type { Heartbeat, Role } from '../contracts/messages.ts';
import { subjects } from '../contracts/subjects.ts';
import { seededRng } from '../core/rng.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { Membership } from './membership.ts';

const names = subjects('test');

function setUp() {
  const clock = new VirtualClock();
  const hub = new MemoryBusHub({ clock, rng: seededRng(1) });
  const start = (id: string, role: Role = 'worker', incarnation = '1') => {
    const bornMs = clock.nowMs();
    const state = { link: `unix:/${id}`, load: 0, draining: false };
    const changes: string[] = [];
    const self = (): Heartbeat => ({
      role,
      id,
      incarnation,
      node: 'n1',
      pid: 1,
      uptimeMs: clock.nowMs() - bornMs,
      ...state,
    });
    const bus = hub.connect(id);
    const membership = new Membership({
      bus,
      subjects: names,
      clock,
      self,
      onChange: ({ what, member }) => changes.push(`${what} ${member.id}:${member.incarnation}`),
    });
    membership.start();
    return { membership, changes, state, bus, self };
  };
  return { clock, hub, start };
}

describe('membership', () => {
  test('who sends heartbeats is a member within a second, also in its own eyes', async () => {
    const { clock, start } = setUp();
    const a = start('a', 'coordinator');
    const b = start('b');
    await clock.advance(1000);
    expect(a.membership.members().map((member) => member.id)).toEqual(['a', 'b']);
    expect(a.membership.members('worker').map((member) => member.id)).toEqual(['b']);
    expect(b.membership.member('coordinator', 'a')?.state).toBe('alive');
    expect(a.changes).toEqual(['joined a:1', 'joined b:1']);
  });

  test('announce tells at once', async () => {
    const { clock, start } = setUp();
    const a = start('a');
    const b = start('b');
    await clock.advance(1000);
    b.state.link = 'elsewhere:1';
    b.membership.announce();
    await clock.settle();
    expect(a.membership.member('worker', 'b')?.link).toBe('elsewhere:1');
    expect(a.changes.at(-1)).toBe('moved b:1');
  });

  test('silence makes a suspect, more silence a leave, a heartbeat before that a recovery', async () => {
    const { clock, hub, start } = setUp();
    const a = start('a');
    start('b');
    await clock.advance(1000);
    hub.partition([['b']]);
    await clock.advance(4000);
    expect(a.changes.at(-1)).toBe('suspect b:1');
    expect(a.membership.member('worker', 'b')?.state).toBe('suspect');
    hub.heal();
    await clock.advance(1000);
    expect(a.changes.at(-1)).toBe('recovered b:1');
    hub.partition([['b']]);
    await clock.advance(14_000);
    expect(a.changes.slice(-2)).toEqual(['suspect b:1', 'left b:1']);
    expect(a.membership.members().map((member) => member.id)).toEqual(['a']);
  });

  test('stop says farewell: others need not wait', async () => {
    const { clock, start } = setUp();
    const a = start('a');
    const b = start('b');
    await clock.advance(1000);
    b.membership.stop();
    await clock.settle();
    expect(a.changes.at(-1)).toBe('left b:1');
    await clock.advance(5000);
    expect(a.membership.members()).toHaveLength(1);
  });

  test('one that drains leaves at once, and joins again when it no longer does', async () => {
    const { clock, start } = setUp();
    const a = start('a');
    const b = start('b');
    await clock.advance(1000);
    b.state.draining = true;
    b.membership.announce();
    await clock.settle();
    expect(a.changes.at(-1)).toBe('left b:1');
    b.state.draining = false;
    await clock.advance(1000);
    expect(a.changes.at(-1)).toBe('joined b:1');
  });

  test('a new incarnation is a leave and a join; what the old process still says is ignored', async () => {
    const { clock, start } = setUp();
    const a = start('a');
    start('b');
    await clock.advance(1000);
    start('b', 'worker', '2');
    await clock.advance(3000);
    expect(a.changes.slice(2)).toEqual(['left b:1', 'joined b:2']);
    expect(a.membership.member('worker', 'b')?.incarnation).toBe('2');
  });

  test('a doubted member is suspect until it is heard again', async () => {
    const { clock, start } = setUp();
    const a = start('a');
    start('b');
    await clock.advance(1000);
    a.membership.doubt('worker', 'b');
    a.membership.doubt('worker', 'nobody');
    expect(a.changes.at(-1)).toBe('suspect b:1');
    await clock.advance(1000);
    expect(a.changes.at(-1)).toBe('recovered b:1');
  });

  test('while the bus is away nobody is called gone, and those who stay away are found after it', async () => {
    const { clock, hub, start } = setUp();
    const a = start('a');
    const b = start('b');
    start('c');
    await clock.advance(1000);
    hub.serverDown();
    await clock.advance(60_000);
    await b.bus.close();
    expect(a.changes).toEqual(['joined a:1', 'joined b:1', 'joined c:1']);
    hub.serverUp();
    await clock.advance(20_000);
    expect(a.changes.slice(3)).toEqual(['suspect b:1', 'left b:1']);
  });

  test('a stall of our own makes nobody a suspect', async () => {
    const { clock, start } = setUp();
    const a = start('a');
    start('b');
    await clock.advance(1000);
    clock.stall(30_000);
    await clock.advance(3000);
    expect(a.changes).toEqual(['joined a:1', 'joined b:1']);
  });

  test("what is no heartbeat, or comes under a stranger's name, is counted and ignored", async () => {
    const { clock, start } = setUp();
    const a = start('a');
    const b = start('b');
    await clock.advance(1000);
    const { badMessages } = a.membership;
    b.bus.publish(names.heartbeat('worker', 'x'), 'garbage');
    b.bus.publish(names.heartbeat('worker', 'x'), { ...b.self(), load: 7 });
    b.bus.publish(names.heartbeat('worker', 'x'), b.self());
    b.bus.publish(names.heartbeat('worker', 'x'), null);
    await clock.settle();
    expect(a.membership.badMessages - badMessages).toBe(4);
    expect(a.membership.members().map((member) => member.id)).toEqual(['a', 'b']);
  });

  test('a flood of names does not grow without bound', async () => {
    const { clock, start } = setUp();
    const a = start('a');
    const b = start('b');
    for (let i = 0; i < 2000; i++) {
      const id = `ghost-${i}`;
      b.bus.publish(names.heartbeat('worker', id), { ...b.self(), id });
    }
    await clock.settle();
    expect(a.membership.members().length).toBeLessThanOrEqual(1024);
    await clock.advance(20_000);
    expect(a.membership.members()).toHaveLength(2);
  });
});
