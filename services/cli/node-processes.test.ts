import { describe, expect, test } from 'vitest';
import { loadConfig } from '#config/load.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { NodeProcesses } from './node-processes.ts';
import type { ChildHandle, ExitStatus } from './supervised.ts';

const quiet = { info: () => {}, warn: () => {} };

function setUp(withNats = true) {
  const clock = new VirtualClock();
  const events: string[] = [];
  const hopeless: string[] = [];
  const ready: string[] = [];
  const children = new Map<string, FakeChild>();
  let pid = 100;

  class FakeChild implements ChildHandle {
    readonly pid = ++pid;
    readonly id: string;
    say: (message: unknown) => void = () => {};
    exit: (status: ExitStatus) => void = () => {};

    constructor(id: string) {
      this.id = id;
      events.push(`start ${id}`);
      children.set(id, this);
    }
    kill(signal: string): void {
      events.push(`${signal} ${this.id}`);
      this.exit({ code: null, signal });
    }
    drain(): void {
      events.push(`drain ${this.id}`);
      clock.after(100, () => {
        events.push(`end ${this.id}`);
        this.exit({ code: 0, signal: null });
      });
    }
    onExit(fn: (status: ExitStatus) => void): void {
      this.exit = fn;
    }
    onMessage(fn: (message: unknown) => void): void {
      this.say = fn;
    }
  }

  const { config } = loadConfig({
    flags: ['node.name=n1'],
    readFile: () => '',
    hostname: 'h',
  });
  const processes = new NodeProcesses({
    config,
    clock,
    log: quiet,
    spawnRole: (_role, id) => new FakeChild(id),
    ...(withNats
      ? { nats: { spawn: () => new FakeChild('n1-nats'), ready: async () => true } }
      : {}),
    onReady: (volume, uris) => ready.push(`${volume} ${uris.join(' ')}`),
    onHopeless: (line, exitCode) => hopeless.push(`${exitCode} ${line}`),
    onChange: () => {},
  });
  return { clock, events, hopeless, ready, children, processes };
}

describe('the processes of a node', () => {
  test('start with the bus, then all roles', async () => {
    const { events, processes } = setUp();
    await processes.start();
    expect(events).toEqual([
      'start n1-nats',
      'start n1-c0',
      'start n1-w0',
      'start n1-w1',
      'start n1-g0',
    ]);
    expect(processes.list().map(({ role, id }) => `${role} ${id}`)).toEqual([
      'coordinator n1-c0',
      'worker n1-w0',
      'worker n1-w1',
      'gateway n1-g0',
      'nats n1-nats',
    ]);
  });

  test('end in an order in which clients lose nothing: gateway, workers, coordinator, bus', async () => {
    const { clock, events, processes } = setUp();
    await processes.start();
    events.length = 0;
    const stopped = processes.stop();
    await clock.advance(1000);
    await stopped;
    expect(events).toEqual([
      'drain n1-g0',
      'end n1-g0',
      'drain n1-w0',
      'drain n1-w1',
      'end n1-w0',
      'end n1-w1',
      'drain n1-c0',
      'end n1-c0',
      'drain n1-nats',
      'end n1-nats',
    ]);
  });

  test("do not include a bus that is somebody else's", async () => {
    const { events, processes } = setUp(false);
    await processes.start();
    expect(events).not.toContain('start n1-nats');
  });

  test('say which volumes can be read', async () => {
    const { children, ready, processes } = setUp();
    await processes.start();
    children.get('n1-g0')!.say({ type: 'ready', volume: 'v', uris: ['nbd://x/v'] });
    expect(ready).toEqual(['v nbd://x/v']);
  });

  test('are given up when one says at its first start that it cannot', async () => {
    const { children, hopeless, processes } = setUp();
    await processes.start();
    const line = 'cannot listen on 127.0.0.1:8080: the address is in use';
    children.get('n1-g0')!.say({ type: 'failed', line, exitCode: 1 });
    children.get('n1-g0')!.say({ type: 'failed', line, exitCode: 1 });
    expect(hopeless).toEqual([`1 ${line}`]);
  });

  test('are given up when one ends three times before it was up', async () => {
    const { clock, children, hopeless, processes } = setUp();
    await processes.start();
    for (let i = 0; i < 3; i++) {
      expect(hopeless).toEqual([]);
      children.get('n1-w1')!.exit({ code: 1, signal: null });
      await clock.advance(5000);
    }
    expect(hopeless).toEqual(['1 n1-w1 ended 3 times before it was up; its log above says why']);
  });

  test('are started again for ever once they were up', async () => {
    const { clock, children, events, hopeless, processes } = setUp();
    await processes.start();
    for (let i = 0; i < 10; i++) {
      children.get('n1-w0')!.say({ type: 'started' });
      children.get('n1-w0')!.exit({ code: null, signal: 'SIGKILL' });
      await clock.advance(10_000);
      for (const child of children.values()) child.say({ type: 'alive' });
    }
    children.get('n1-w0')!.say({ type: 'failed', line: 'x', exitCode: 1 });
    expect(hopeless).toEqual([]);
    expect(events.filter((event) => event === 'start n1-w0')).toHaveLength(11);
  });

  test('may talk nonsense without harm', async () => {
    const { children, hopeless, ready, processes } = setUp();
    await processes.start();
    for (const nonsense of [null, 7, 'x', {}, { type: 'ready' }, { type: 'failed', line: 3 }]) {
      children.get('n1-w0')!.say(nonsense);
    }
    expect([...hopeless, ...ready]).toEqual([]);
  });
});
