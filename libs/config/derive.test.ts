import { expect, test } from 'vitest';
import { busyPollMs } from './derive.ts';
import type { OrionConfig } from './schema.ts';

const config = (count: number, busy_poll_us = 100) =>
  ({ node: { busy_poll_us }, workers: { count } }) as OrionConfig;

test.each([
  // cores, workers, embedded, worker, gateway
  [1, 1, 0, 0, 0],
  [2, 1, 0.1, 0.1, 0],
  [2, 2, 0.1, 0, 0],
  [3, 2, 0.1, 0.1, 0],
  [4, 2, 0.1, 0.1, 0.1],
])(
  'on %i cores with %i workers, who looks for events leaves a core to whoever is waited for',
  (cores, workers, embedded, worker, gateway) => {
    expect(busyPollMs(config(workers), 'embedded', cores)).toBe(embedded);
    expect(busyPollMs(config(workers), 'worker', cores)).toBe(worker);
    expect(busyPollMs(config(workers), 'gateway', cores)).toBe(gateway);
    expect(busyPollMs(config(workers), 'coordinator', cores)).toBe(0);
  },
);

test('nobody looks when it is switched off', () => {
  for (const role of ['embedded', 'worker', 'gateway'] as const) {
    expect(busyPollMs(config(1, 0), role, 64)).toBe(0);
  }
});
