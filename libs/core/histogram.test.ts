import { expect, test } from 'vitest';
import { Histogram } from './histogram.ts';

test('a value counts in the first bucket whose bound is not below it, or in the last', () => {
  const histogram = new Histogram([1, 2, 5]);
  for (const value of [0, 1, 1.0001, 2, 5, 5.1, 1000]) histogram.observe(value);
  expect(histogram.counts).toEqual([2, 2, 1, 2]);
  expect(histogram.count).toBe(7);
  expect(histogram.sum).toBeCloseTo(1014.1001);
});

test('the usual bounds go from 100 µs to 30 s, upwards', () => {
  const { bounds, counts } = new Histogram();
  expect([bounds[0], bounds.at(-1)]).toEqual([0.0001, 30]);
  expect([...bounds].sort((a, b) => a - b)).toEqual(bounds);
  expect(counts).toHaveLength(bounds.length + 1);
});
