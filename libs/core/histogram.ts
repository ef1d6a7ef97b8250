/** Latency bounds in seconds that every Orion histogram uses: 100 µs to 30 s, about three a decade. */
export const LATENCY_BOUNDS_SECONDS: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
  30,
];

/**
 * Counts by bucket, as plain numbers: observing costs a short search and no allocation. Protocol libs own them and
 * telemetry reads them when it is scraped.
 */
export class Histogram {
  readonly bounds: readonly number[];
  /** One more than bounds: the last counts what is above them all. Not cumulative. */
  readonly counts: number[];
  sum = 0;
  count = 0;

  /** `bounds` are ascending upper bounds, inclusive. */
  constructor(bounds: readonly number[] = LATENCY_BOUNDS_SECONDS) {
    this.bounds = bounds;
    this.counts = new Array<number>(bounds.length + 1).fill(0);
  }

  observe(value: number): void {
    const bounds = this.bounds;
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (value <= bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.counts[low]! += 1;
    this.sum += value;
    this.count += 1;
  }
}
