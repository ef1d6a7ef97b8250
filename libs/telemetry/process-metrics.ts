import { monitorEventLoopDelay } from 'node:perf_hooks';
import { memoryUsage, version as nodeVersion, resourceUsage, uptime } from 'node:process';
import type { MetricsRegistry } from './metrics.ts';

const LAG_RESOLUTION_MS = 20;

export interface ProcessMetricsOptions {
  readonly version: string;
  readonly role: string;
}

/** What every process says of itself: build, memory, CPU, and how late its event loop is. Returns what stops it. */
export function registerProcessMetrics(
  registry: MetricsRegistry,
  options: ProcessMetricsOptions,
): () => void {
  const lag = monitorEventLoopDelay({ resolution: LAG_RESOLUTION_MS });
  lag.enable();
  const build = { version: options.version, role: options.role, node: nodeVersion };
  registry.gauge('orion_build_info', 'What runs; the value is always 1', () => [
    { labels: build, value: 1 },
  ]);
  registry.gauge(
    'orion_event_loop_lag_seconds',
    'How late the event loop ran, 99th percentile since the last scrape',
    () => {
      const late = Math.max(0, lag.percentile(99) / 1e9 - LAG_RESOLUTION_MS / 1000);
      lag.reset();
      return late;
    },
  );
  registry.gauge('orion_process_resident_bytes', 'Resident memory', () => memoryUsage.rss());
  registry.gauge('orion_process_uptime_seconds', 'Time since the process started', () => uptime());
  registry.counterFrom('orion_process_cpu_seconds_total', 'CPU time spent', () => {
    const { userCPUTime, systemCPUTime } = resourceUsage();
    return [
      { labels: { mode: 'user' }, value: userCPUTime / 1e6 },
      { labels: { mode: 'system' }, value: systemCPUTime / 1e6 },
    ];
  });
  return () => lag.disable();
}
