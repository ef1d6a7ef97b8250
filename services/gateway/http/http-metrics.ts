import type { Server } from 'node:http';
import type { Counter, MetricsRegistry } from '#telemetry/metrics.ts';

const PROTO = { proto: 'http' };

/** The numbers of the HTTP door, in the metrics that it shares with NBD. */
export interface HttpMetrics {
  readonly bytesRead: Counter;
  readonly bytesWritten: Counter;
  /** Data requests under way. */
  readonly inflight: { value: number };
  /** A request has ended. `op` names the route, never the address. */
  finished(op: string, status: number, seconds: number): void;
}

export function createHttpMetrics(registry: MetricsRegistry, server: Server): HttpMetrics {
  const inflight = { value: 0 };
  const bytes = (dir: string): Counter =>
    registry.counter('orion_bytes_total', 'Payload bytes by protocol and direction', {
      ...PROTO,
      dir,
    });
  registry.gauge('orion_inflight', 'Data requests under way', () => [
    { labels: PROTO, value: inflight.value },
  ]);
  let connections = 0;
  server.on('connection', (socket) => {
    connections += 1;
    socket.once('close', () => {
      connections -= 1;
    });
  });
  registry.gauge('orion_connections', 'Open client connections', () => [
    { labels: { ...PROTO, tls: 'false' }, value: connections },
  ]);
  return {
    bytesRead: bytes('read'),
    bytesWritten: bytes('write'),
    inflight,
    finished(op, status, seconds) {
      const labels = { ...PROTO, op };
      const requests = 'Requests by protocol, operation and result';
      registry.counter('orion_requests_total', requests, {
        ...labels,
        code: String(status),
      }).value += 1;
      registry
        .histogram('orion_request_seconds', 'Time from request to end of answer', labels)
        .observe(seconds);
    },
  };
}
