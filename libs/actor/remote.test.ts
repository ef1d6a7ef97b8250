import { describe, expect, test } from 'vitest';
import { MemoryBusHub, type MemoryBusKnobs } from '../bus/memory/hub.ts';
import { sleep } from '../core/clock.ts';
import { OrionError } from '../core/errors.ts';
import { seededRng } from '../core/rng.ts';
import { VirtualClock } from '../testkit/virtual-clock.ts';
import { type Refusal, refuse } from './ref.ts';
import { expose, remoteRef } from './remote.ts';
import { ActorSystem } from './system.ts';

interface Slot {
  claim(request: { epoch: number }): { portal: string } | Refusal;
  count(): number;
  slow(): Promise<void>;
  secret(): string;
}

const isClaim = (message: unknown): message is { epoch: number } =>
  typeof (message as { epoch?: unknown } | null)?.epoch === 'number';
const isNothing = (message: unknown): message is undefined => message === undefined;

function setUp(knobs: Partial<MemoryBusKnobs> = {}) {
  const clock = new VirtualClock();
  const hub = new MemoryBusHub({ clock, rng: seededRng(1), knobs });
  const system = new ActorSystem({ clock });
  let claims = 0;
  let highest = 0;
  const local = system.spawn<Slot>('slot', (ctx) => ({
    claim({ epoch }) {
      if (epoch < highest) {
        return refuse(
          new OrionError({
            code: 'EPOCH_STALE',
            message: 'older epoch',
            outcome: 'not-executed',
            fields: { epoch, highest },
          }),
        );
      }
      highest = epoch;
      claims += 1;
      return { portal: `p${epoch}` };
    },
    count: () => claims,
    slow: () => sleep(ctx.clock, 5000),
    secret: () => 'secret',
  }));
  const subject = (verb: string): string => `test.slot.${verb}`;
  const bus = hub.connect('server');
  const ignored: string[] = [];
  expose<Slot>({
    bus,
    clock,
    ref: local,
    subject,
    verbs: { claim: isClaim, count: isNothing, slow: isNothing },
    onIgnored: (_, verb) => ignored.push(verb),
  });
  const client = hub.connect('client');
  const remote = remoteRef<Slot>({ bus: client, clock, rng: seededRng(2), name: 'slot', subject });
  return { clock, hub, client, local, remote, subject, ignored };
}

const SOON = { timeoutMs: 1000 };

describe('an actor in another process', () => {
  test('is asked and told with the types of the actor itself', async () => {
    const { clock, remote } = setUp();
    const reply = await remote.ask('claim', { epoch: 3 }, SOON);
    expect(reply.portal).toBe('p3');
    expect(remote.tell('claim', { epoch: 4 })).toBe(true);
    await clock.settle();
    expect(await remote.ask('count', undefined, SOON)).toBe(2);
  });

  test('refuses with its own error, outcome and fields', async () => {
    const { remote } = setUp();
    await remote.ask('claim', { epoch: 3 }, SOON);
    const error = await remote.ask('claim', { epoch: 2 }, SOON).catch((e) => e);
    expect(error).toMatchObject({
      code: 'EPOCH_STALE',
      outcome: 'not-executed',
      fields: { epoch: 2, highest: 3 },
    });
  });

  test('a message of the wrong shape and a verb that is not exposed never reach it', async () => {
    const { clock, remote, client, subject, local, ignored } = setUp();
    const bad = await remote.ask('claim', { epoch: 'x' as never }, SOON).catch((e) => e);
    expect(bad).toMatchObject({ code: 'ACTOR_BAD_MESSAGE', outcome: 'not-executed' });
    const naked = await client.request(subject('claim'), 'garbage', SOON).catch((e) => e);
    expect(naked).toMatchObject({ code: 'ACTOR_BAD_MESSAGE' });
    const hidden = await remote.ask('secret', undefined, SOON).catch((e) => e);
    expect(hidden).toMatchObject({ code: 'BUS_NO_RESPONDER' });
    remote.tell('claim', { epoch: 'x' as never });
    await clock.settle();
    expect(ignored).toEqual(['claim']);
    expect(await local.ask('count', undefined, SOON)).toBe(0);
  });

  test('nobody there: certainly not carried out', async () => {
    const { hub, clock } = setUp();
    const nobody = remoteRef<Slot>({
      bus: hub.connect('x'),
      clock,
      rng: seededRng(3),
      name: 'nobody',
      subject: (verb) => `test.nobody.${verb}`,
    });
    const error = await nobody.ask('count', undefined, SOON).catch((e) => e);
    expect(error).toMatchObject({ code: 'BUS_NO_RESPONDER', outcome: 'not-executed' });
  });

  test('what arrives twice is carried out once', async () => {
    const { remote, hub } = setUp();
    hub.knobs.duplication = 1;
    await remote.ask('claim', { epoch: 1 }, SOON);
    await remote.ask('claim', { epoch: 2 }, SOON);
    hub.knobs.duplication = 0;
    expect(await remote.ask('count', undefined, SOON)).toBe(2);
  });

  test('what arrives long after its deadline is not carried out', async () => {
    const { clock, remote, hub, local } = setUp();
    hub.knobs.delayMs = { min: 5000, max: 5000 };
    const asked = remote.ask('claim', { epoch: 1 }, SOON).catch((e) => e);
    await clock.advance(20_000);
    expect(await asked).toMatchObject({ code: 'BUS_TIMEOUT', outcome: 'unknown' });
    expect(await local.ask('count', undefined, SOON)).toBe(0);
  });

  test('a deadline that passes while it works leaves the outcome unknown', async () => {
    const { clock, remote } = setUp();
    const asked = remote.ask('slow', undefined, SOON).catch((e) => e);
    await clock.advance(1000);
    expect(await asked).toMatchObject({ outcome: 'unknown' });
  });
});
