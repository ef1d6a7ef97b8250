import { expect, test } from 'vitest';
import type { Member, Membership } from '#cluster/membership.ts';
import { VirtualClock } from '#testkit/virtual-clock.ts';
import { Workers, type WorkersOptions } from './workers.ts';

function rig() {
  const clock = new VirtualClock();
  const known: string[] = [];
  const membership = { members: () => known.map((id) => ({ id }) as Member) } as Membership;
  const workers = new Workers({ clock, membership } as unknown as WorkersOptions);
  const stop = new AbortController();
  let state = 'waits';
  const hears = (): void => {
    void workers.heard(stop.signal).then(
      () => {
        state = 'heard';
      },
      () => {
        state = 'given up';
      },
    );
  };
  return { clock, known, stop, hears, state: () => state };
}

test('a gateway that knows a worker does not wait for others', async () => {
  const { clock, known, hears, state } = rig();
  known.push('w0');
  hears();
  await clock.advance(0);
  expect(state()).toBe('heard');
});

test('one that knows none waits for the first, and until all others that live must have been heard', async () => {
  const { clock, known, hears, state } = rig();
  hears();
  await clock.advance(20_000);
  expect(state()).toBe('waits');
  known.push('w0');
  await clock.advance(1_000);
  expect(state()).toBe('waits');
  await clock.advance(500);
  expect(state()).toBe('heard');
});

test('it waits no longer when the volume is closed', async () => {
  const { clock, stop, hears, state } = rig();
  hears();
  await clock.advance(100);
  stop.abort();
  await clock.advance(0);
  expect(state()).toBe('given up');
});
