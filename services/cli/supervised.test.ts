import { beforeEach, describe, expect, test } from 'vitest';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { type ChildHandle, type ExitStatus, Supervised } from './supervised.ts';

class FakeChild implements ChildHandle {
  readonly pid: number;
  readonly got: string[] = [];
  diesOnDrain = true;
  #onExit: (status: ExitStatus) => void = () => {};
  #onMessage: (message: unknown) => void = () => {};

  constructor(pid: number) {
    this.pid = pid;
  }

  kill(signal: 'SIGTERM' | 'SIGKILL'): void {
    this.got.push(signal);
    if (signal === 'SIGKILL') this.exit(null, signal);
  }

  drain(): void {
    this.got.push('drain');
    if (this.diesOnDrain) this.exit(0, null);
  }

  onExit(fn: (status: ExitStatus) => void): void {
    this.#onExit = fn;
  }

  onMessage(fn: (message: unknown) => void): void {
    this.#onMessage = fn;
  }

  exit(code: number | null, signal: string | null): void {
    this.#onExit({ code, signal });
  }

  say(message: unknown): void {
    this.#onMessage(message);
  }
}

const quiet = { info: () => {}, warn: () => {} };

describe('a supervised process', () => {
  let clock: VirtualClock;
  let children: FakeChild[];
  let heard: unknown[];
  let refuses: boolean;
  let supervised: Supervised;

  beforeEach(() => {
    clock = new VirtualClock();
    children = [];
    heard = [];
    refuses = false;
    supervised = new Supervised({
      id: 'n1-w0',
      clock,
      log: quiet,
      start() {
        if (refuses) throw new Error('no such program');
        children.push(new FakeChild(100 + children.length));
        return children.at(-1)!;
      },
      onMessage: (message) => heard.push(message),
    });
    supervised.start();
  });

  const child = (): FakeChild => children.at(-1)!;

  test('is started again after waits that double from 0.2 s to 10 s', async () => {
    const waits: number[] = [];
    for (let i = 0; i < 8; i++) {
      child().exit(1, null);
      expect(supervised.pid).toBeNull();
      const endedMs = clock.nowMs();
      const count = children.length;
      await clock.runUntil(() => children.length > count, 20_000);
      waits.push(clock.nowMs() - endedMs);
    }
    expect(waits).toEqual([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    expect(supervised.restarts).toBe(8);
  });

  test('has the shortest wait again after 30 s of life', async () => {
    for (let i = 0; i < 4; i++) {
      child().exit(1, null);
      await clock.advance(10_000);
    }
    for (let i = 0; i < 31; i++) {
      child().say('alive');
      await clock.advance(1000);
    }
    child().exit(null, 'SIGKILL');
    await clock.advance(200);
    expect(children).toHaveLength(6);
  });

  test('is killed when it says nothing for 15 s, and started again', async () => {
    await clock.advance(10_000);
    child().say('alive');
    await clock.advance(14_000);
    expect(child().got).toEqual([]);
    await clock.advance(4200);
    expect(children[0]!.got).toEqual(['SIGKILL']);
    expect(children).toHaveLength(2);
    expect(heard).toEqual(['alive']);
  });

  test('is not killed because the supervisor itself was stopped for a while', async () => {
    await clock.advance(1000);
    clock.stall(60_000);
    await clock.advance(1000);
    expect(child().got).toEqual([]);
    child().say('alive');
    await clock.advance(10_000);
    expect(children).toHaveLength(1);
  });

  test('is tried again when it cannot even be made', async () => {
    refuses = true;
    child().exit(1, null);
    await clock.advance(5000);
    refuses = false;
    await clock.advance(10_000);
    expect(supervised.pid).toBe(101);
  });

  test('is drained when it is stopped, and does not come back', async () => {
    await supervised.stop(1000);
    expect(child().got).toEqual(['drain']);
    await clock.advance(60_000);
    expect(children).toHaveLength(1);
  });

  test('is killed when it does not drain in time', async () => {
    child().diesOnDrain = false;
    let isStopped = false;
    const stopped = supervised.stop(1000).then(() => {
      isStopped = true;
    });
    await clock.advance(999);
    expect(isStopped).toBe(false);
    await clock.advance(1);
    await stopped;
    expect(child().got).toEqual(['drain', 'SIGKILL']);
  });

  test('is not started any more when it is stopped while it waits', async () => {
    child().exit(1, null);
    await supervised.stop(1000);
    await clock.advance(60_000);
    expect(children).toHaveLength(1);
    expect(clock.pending).toBe(0);
  });
});
