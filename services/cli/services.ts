import type { RoleName } from '#config/derive.ts';
import type { RunningService, ServiceDeps } from '#contracts/service.ts';

export type ReadyListener = (volume: string, uris: readonly string[]) => void;

/** Starts a service. Its code is loaded only by the process that runs it. */
export async function startService(
  role: RoleName,
  deps: ServiceDeps,
  onReady: ReadyListener,
): Promise<RunningService> {
  switch (role) {
    case 'coordinator':
      return (await import('../coordinator/app.ts')).startCoordinator(deps);
    case 'worker':
      return (await import('../worker/app.ts')).startWorker(deps);
    case 'gateway': {
      const gateway = await (await import('../gateway/app.ts')).startGateway(deps);
      gateway.onReady(onReady);
      return gateway;
    }
  }
}
