import { describe, expect, test } from 'vitest';
import { sleep } from '../core/clock.ts';
import { OrionError } from '../core/errors.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import type { FailureNote, Init, SpawnOptions, Terminated } from './context.ts';
import { type Refusal, refuse } from './ref.ts';
import { DEFAULT_POLICY, judgeFailure } from './supervision.ts';
import { ActorSystem } from './system.ts';

interface Counter {
  add(by: number): number;
  total(): number;
  slow(ms: number): Promise<string>;
  fail(text: string): never;
  refuse(): Refusal;
}

const no = new OrionError({ code: 'TEST_NO', message: 'no', outcome: 'final' });
const SOON = { timeoutMs: 1000 };

function setUp() {
  const clock = new VirtualClock();
  const notes: FailureNote[] = [];
  const escalated: string[] = [];
  const system = new ActorSystem({
    clock,
    onFailure: (note) => notes.push(note),
    onEscalation: (name, error) => escalated.push(`${name}: ${error.message}`),
  });
  let inits = 0;
  const log: string[] = [];
  const init: Init<Counter> = (ctx) => {
    inits += 1;
    let total = 0;
    ctx.cleanup(() => log.push('cleanup'));
    return {
      add(by) {
        total += by;
        return total;
      },
      total: () => total,
      async slow(ms) {
        log.push('slow begins');
        await sleep(ctx.clock, ms);
        log.push('slow ends');
        return 'done';
      },
      fail(text) {
        total = 999;
        throw new Error(text);
      },
      refuse: () => refuse(no),
    };
  };
  const spawn = (options?: SpawnOptions) => system.spawn<Counter>('counter', init, options);
  return { clock, system, notes, escalated, log, spawn, inits: () => inits };
}

describe('an actor', () => {
  test('answers asks and takes tells, in the order in which they came', async () => {
    const { spawn } = setUp();
    const counter = spawn();
    expect(counter.tell('add', 2)).toBe(true);
    counter.tell('add', 3);
    expect(await counter.ask('total', undefined, SOON)).toBe(5);
    const answer: number = await counter.ask('add', 1, SOON);
    expect(answer).toBe(6);
  });

  test('handles one message at a time: an async handler holds the turn', async () => {
    const { clock, log, spawn } = setUp();
    const counter = spawn();
    const slow = counter.ask('slow', 50, SOON);
    const total = counter.ask('total', undefined, SOON).then(() => log.push('total'));
    await clock.advance(49);
    expect(log).toEqual(['slow begins']);
    await clock.advance(1);
    expect(await slow).toBe('done');
    await total;
    expect(log).toEqual(['slow begins', 'slow ends', 'total']);
  });

  test('a full mailbox refuses at once, and says that nothing was done', async () => {
    const { clock, spawn } = setUp();
    const counter = spawn({ mailboxMax: 2 });
    await clock.settle();
    void counter.ask('slow', 500, SOON);
    await clock.settle();
    expect(counter.tell('add', 1)).toBe(true);
    expect(counter.tell('add', 1)).toBe(true);
    expect(counter.tell('add', 1)).toBe(false);
    const error = await counter.ask('add', 1, SOON).catch((e) => e);
    expect(error).toMatchObject({ code: 'ACTOR_OVERLOADED', outcome: 'not-executed' });
    await clock.advance(500);
    expect(await counter.ask('total', undefined, SOON)).toBe(2);
  });

  test('an ask that had not begun at its deadline is never carried out, and says so', async () => {
    const { clock, spawn } = setUp();
    const counter = spawn();
    const slow = counter.ask('slow', 500, { timeoutMs: 100 }).catch((e) => e);
    await clock.settle();
    const waiting = counter.ask('add', 5, { timeoutMs: 100 }).catch((e) => e);
    await clock.advance(100);
    expect(await slow).toMatchObject({ code: 'ACTOR_TIMEOUT', outcome: 'unknown' });
    expect(await waiting).toMatchObject({ code: 'ACTOR_TIMEOUT', outcome: 'not-executed' });
    await clock.advance(500);
    expect(await counter.ask('total', undefined, SOON)).toBe(0);
    expect(clock.pending).toBe(0);
  });

  test('after a stall expired asks are dropped although their timers are late', async () => {
    const { clock, spawn } = setUp();
    const counter = spawn();
    await clock.settle();
    const asked = counter.ask('add', 5, { timeoutMs: 100 }).catch((e) => e);
    clock.stall(200);
    expect(await asked).toMatchObject({ code: 'ACTOR_TIMEOUT', outcome: 'not-executed' });
    expect(await counter.ask('total', undefined, SOON)).toBe(0);
  });

  test('an aborted ask rejects with the reason, and is not carried out if it had not begun', async () => {
    const { clock, spawn } = setUp();
    const counter = spawn();
    void counter.ask('slow', 100, SOON);
    const abort = new AbortController();
    const asked = counter.ask('add', 5, { ...SOON, signal: abort.signal });
    abort.abort(new Error('no longer wanted'));
    await expect(asked).rejects.toThrow('no longer wanted');
    await clock.advance(100);
    expect(await counter.ask('total', undefined, SOON)).toBe(0);
  });

  test('a refusal is an error as answer: the actor goes on with its state', async () => {
    const { spawn, inits } = setUp();
    const counter = spawn();
    counter.tell('add', 3);
    await expect(counter.ask('refuse', undefined, SOON)).rejects.toBe(no);
    expect(await counter.ask('total', undefined, SOON)).toBe(3);
    expect(inits()).toBe(1);
  });
});

describe('supervision', () => {
  test('a thrown error reaches who asked, and the actor starts anew from init, mailbox kept', async () => {
    const { clock, notes, log, spawn, inits } = setUp();
    const counter = spawn();
    counter.tell('add', 3);
    const failed = counter.ask('fail', 'broken', SOON).catch((e) => e);
    const after = counter.ask('add', 1, SOON);
    await clock.advance(100);
    expect(await failed).toMatchObject({ code: 'ACTOR_CRASHED', outcome: 'unknown' });
    expect(await after).toBe(1);
    expect(inits()).toBe(2);
    expect(log).toEqual(['cleanup']);
    expect(notes).toMatchObject([{ actor: 'counter', verdict: 'restart' }]);
    expect(notes[0]!.error.message).toBe('broken');
  });

  test('pauses before restarts grow, and after too many it escalates', async () => {
    const { clock, notes, escalated, spawn, inits } = setUp();
    const counter = spawn();
    const at: number[] = [];
    for (let i = 0; i < 6; i++) {
      const failed = counter.ask('fail', `no ${i}`, { timeoutMs: 60_000 }).catch(() => undefined);
      await clock.runUntil(() => notes.length === i + 1, 60_000);
      await failed;
      at.push(clock.nowMs());
    }
    expect(at).toEqual([0, 100, 300, 700, 1500, 3100]);
    expect(inits()).toBe(6);
    expect(escalated).toEqual(['counter: no 5']);
    expect((await counter.stopped)?.message).toBe('no 5');
    expect(counter.tell('add', 1)).toBe(false);
  });

  test('old failures are forgiven', () => {
    const policy = { ...DEFAULT_POLICY, restartsMax: 2, withinMs: 1000, backoffMsMax: 150 };
    expect(judgeFailure(policy, [], 0)).toEqual({ do: 'restart', afterMs: 100, failures: [0] });
    expect(judgeFailure(policy, [0], 10)).toMatchObject({ do: 'restart', afterMs: 150 });
    expect(judgeFailure(policy, [0, 10], 20)).toEqual({ do: 'escalate' });
    expect(judgeFailure(policy, [0, 10], 1005)).toMatchObject({ failures: [10, 1005] });
    expect(judgeFailure({ ...policy, onFailure: 'stop' }, [], 0)).toEqual({ do: 'stop' });
  });

  test('an init that fails is tried again', async () => {
    const { clock, system } = setUp();
    let tries = 0;
    const ref = system.spawn<{ ping(): string }>('late', async () => {
      tries += 1;
      if (tries < 3) throw new Error('not yet');
      return { ping: () => 'pong' };
    });
    const asked = ref.ask('ping', undefined, SOON);
    await clock.advance(1000);
    expect(await asked).toBe('pong');
    expect(tries).toBe(3);
  });

  test('with "stop" it is gone after its first failure, and those who wait are told', async () => {
    const { clock, escalated, spawn } = setUp();
    const counter = spawn({ supervision: { onFailure: 'stop' } });
    counter.tell('fail', 'broken');
    const waiting = counter.ask('total', undefined, SOON).catch((e) => e);
    await clock.settle();
    expect(await waiting).toMatchObject({ code: 'ACTOR_STOPPED', outcome: 'not-executed' });
    expect(escalated).toEqual([]);
  });

  test('a child that fails for good takes its parent along, which starts anew with a new child', async () => {
    const { clock, system, notes } = setUp();
    const spawned: string[] = [];
    interface Parent {
      poke(): void;
    }
    const parent = system.spawn<Parent>('parent', (ctx) => {
      spawned.push('parent');
      const child = ctx.spawn<{ fail(): void }>(
        'child',
        () => {
          spawned.push('child');
          return {
            fail() {
              throw new Error('child broken');
            },
          };
        },
        { supervision: { onFailure: 'escalate' } },
      );
      return { poke: () => void child.tell('fail') };
    });
    parent.tell('poke');
    await clock.advance(200);
    expect(notes.map(({ actor, verdict }) => `${actor} ${verdict}`)).toEqual([
      'parent/child escalate',
      'parent restart',
    ]);
    expect(spawned).toEqual(['parent', 'child', 'parent', 'child']);
  });
});

describe('context', () => {
  interface Watcher {
    tick(n: number): void;
    begin(): void;
    loaded(text: string): void;
    failed(error: unknown): void;
    gone(who: Terminated): void;
    crash(): void;
    seen(): string[];
  }

  function watcher(system: ActorSystem, more: (ctx: Parameters<Init<Watcher>>[0]) => void) {
    const seen: string[] = [];
    const ref = system.spawn<Watcher>('watcher', (ctx) => {
      more(ctx);
      return {
        tick: (n) => void seen.push(`tick ${n}`),
        begin: () => undefined,
        loaded: (text) => void seen.push(`loaded ${text}`),
        failed: (error) => void seen.push(`failed ${String(error)}`),
        gone: ({ name, error }) => void seen.push(`gone ${name} ${error?.message ?? 'well'}`),
        crash() {
          throw new Error('crash');
        },
        seen: () => seen,
      };
    });
    return { ref, seen };
  }

  test('after sends itself a message later; a restart forgets what was armed', async () => {
    const { clock, system } = setUp();
    let lives = 0;
    const { ref, seen } = watcher(system, (ctx) => {
      lives += 1;
      ctx.after(500, 'tick', lives);
      ctx.after(600, 'tick', 100).cancel();
    });
    await clock.advance(400);
    ref.tell('crash');
    await clock.advance(1000);
    expect(seen).toEqual(['tick 2']);
    expect(clock.pending).toBe(0);
  });

  test('pipe brings a result back as a message and leaves the turn free', async () => {
    const { clock, system } = setUp();
    const { ref, seen } = watcher(system, (ctx) => {
      ctx.pipe(
        sleep(ctx.clock, 100).then(() => 'a'),
        'loaded',
      );
      ctx.pipe(
        sleep(ctx.clock, 50).then(() => Promise.reject('b')),
        'loaded',
        'failed',
      );
    });
    expect(await ref.ask('seen', undefined, SOON)).toEqual([]);
    await clock.advance(100);
    expect(seen).toEqual(['failed b', 'loaded a']);
  });

  test('a piped rejection that nobody handles is a failure of the actor', async () => {
    const { clock, system, notes } = setUp();
    let lives = 0;
    watcher(system, (ctx) => {
      lives += 1;
      if (lives === 1) ctx.pipe(Promise.reject(new Error('lost')), 'loaded');
    });
    await clock.advance(200);
    expect(notes.map((note) => note.error.message)).toEqual(['lost']);
    expect(lives).toBe(2);
  });

  test('a result that comes after a restart is dropped', async () => {
    const { clock, system } = setUp();
    let lives = 0;
    const { ref, seen } = watcher(system, (ctx) => {
      lives += 1;
      if (lives === 1)
        ctx.pipe(
          sleep(ctx.clock, 500).then(() => 'old'),
          'loaded',
        );
    });
    await clock.settle();
    ref.tell('crash');
    await clock.advance(1000);
    expect(lives).toBe(2);
    expect(seen).toEqual([]);
  });

  test('what it has started itself goes before what others want', async () => {
    const { clock, system } = setUp();
    const order: string[] = [];
    interface Lanes {
      hold(): Promise<void>;
      own(): void;
      other(): void;
    }
    const ref = system.spawn<Lanes>('lanes', (ctx) => ({
      async hold() {
        ctx.after(10, 'own');
        await sleep(ctx.clock, 20);
      },
      own: () => void order.push('own'),
      other: () => void order.push('other'),
    }));
    ref.tell('hold');
    ref.tell('other');
    await clock.advance(20);
    expect(order).toEqual(['own', 'other']);
  });

  test('watch tells of the end of another, of one that failed, and of one that is gone already', async () => {
    const { clock, system, spawn } = setUp();
    const counter = spawn({ supervision: { onFailure: 'stop' } });
    const early = system.spawn<{ x(): void }>('early', () => ({ x: () => undefined }));
    await early.stop();
    const { seen } = watcher(system, (ctx) => {
      ctx.watch(counter, 'gone');
      ctx.watch(early, 'gone');
    });
    await clock.settle();
    expect(seen).toEqual(['gone early well']);
    counter.tell('fail', 'broken');
    await clock.settle();
    expect(seen[1]).toBe('gone counter broken');
  });

  test('stop ends children before cleanups, latest first, and lets the message at hand finish', async () => {
    const { clock, system } = setUp();
    const order: string[] = [];
    interface Node {
      work(): Promise<void>;
    }
    const ref = system.spawn<Node>('top', (ctx) => {
      for (const name of ['a', 'b']) {
        ctx.spawn<{ x(): void }>(name, (child) => {
          child.cleanup(() => order.push(`child ${name}`));
          return { x: () => undefined };
        });
        ctx.cleanup(() => order.push(`top ${name}`));
      }
      ctx.signal.addEventListener('abort', () => order.push('told'));
      return {
        async work() {
          await sleep(ctx.clock, 50);
          order.push('worked');
        },
      };
    });
    ref.tell('work');
    await clock.settle();
    const stopped = system.stop();
    await clock.advance(50);
    await stopped;
    expect(order).toEqual(['told', 'worked', 'child b', 'child a', 'top b', 'top a']);
    expect(clock.pending).toBe(0);
  });

  test('a name that is free again can be used again', async () => {
    const { system } = setUp();
    const init = () => ({ x: () => 1 });
    await system.spawn('same', init).stop();
    expect(await system.spawn<{ x(): number }>('same', init).ask('x', undefined, SOON)).toBe(1);
    expect(() => system.spawn('same', init)).toThrow('same exists');
  });

  test('a thousand small messages are handled in one go and in order', async () => {
    const { clock, system } = setUp();
    const { ref, seen } = watcher(system, () => undefined);
    for (let i = 0; i < 1000; i++) expect(ref.tell('tick', i)).toBe(true);
    await clock.settle();
    expect(seen).toHaveLength(1000);
    expect(seen[999]).toBe('tick 999');
  });
});
