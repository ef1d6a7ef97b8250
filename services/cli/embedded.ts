import { rmSync } from 'node:fs';
import type { Bus } from '#bus/bus.ts';
import { MemoryBusHub } from '#bus/memory/hub.ts';
import { processId, type RoleName } from '#config/derive.ts';
import type { LoadedConfig } from '#config/load.ts';
import type { OrionConfig } from '#config/schema.ts';
import type { RunningService } from '#contracts/service.ts';
import { systemClock } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';
import { systemRng } from '#core/rng.ts';
import type { LocalWorkers } from '#link/host.ts';
import type { Logger } from '#telemetry/log.ts';
import { serveControl } from './control.ts';
import { Exit } from './exit-code.ts';
import { hostNetwork } from './host-network.ts';
import { explained } from './listen-errors.ts';
import { dieOnBugs, loggerOf, warnOfIdleKeys } from './logs.ts';
import { untilOrphansEnd } from './orphans.ts';
import { type Output, ReadyLines } from './output.ts';
import { type ReadyListener, startService } from './services.ts';
import {
  controlSocket,
  lockStateDir,
  prepareStateDir,
  removeNodeFile,
  writeNodeFile,
} from './state-dir.ts';
import { collectProcesses, orderReconnect } from './status-collect.ts';
import { type StopSignals, stopSignals } from './stop-signals.ts';

/** Time for everything to finish its work; then the process ends without. */
const CLOSE_MS = 15_000;

/** All roles in this process over the in-process bus. */
export interface EmbeddedNode extends RunningService {
  /** A client of the node's bus. */
  readonly bus: Bus;
}

export async function startEmbedded(
  config: OrionConfig,
  log: Logger,
  onReady: ReadyListener,
): Promise<EmbeddedNode> {
  const hub = new MemoryBusHub({
    clock: systemClock,
    rng: systemRng,
    onHandlerError: (error, subject) =>
      log.warn({ subject, error: errorText(error) }, 'bus handler failed'),
  });
  const local: LocalWorkers = new Map();
  const host = hostNetwork(config, 'embedded');
  const running: { service: RunningService; bus: Bus }[] = [];
  const close = async (): Promise<void> => {
    // Newest first: the gateway finishes its clients' I/O over workers that still live.
    for (const { service, bus } of running.splice(0).reverse()) {
      await service.close();
      await bus.close();
    }
  };
  try {
    for (const [role, index] of rolesOf(config)) {
      const id = processId(config, role, index);
      const bus = hub.connect(id);
      const deps = {
        config,
        id,
        bus,
        clock: systemClock,
        ...host,
        rng: systemRng,
        log: log.child({ role, id }),
        local,
      };
      running.push({ service: await startService(role, deps, onReady), bus });
    }
  } catch (error) {
    await close();
    throw error;
  }
  const own = hub.connect('control');
  return {
    bus: own,
    async close() {
      await close();
      await own.close();
    },
  };
}

/** In the order of their start. */
export function rolesOf(config: OrionConfig): (readonly [RoleName, number])[] {
  const workers = Array.from({ length: config.workers.count }, (_, i) => ['worker', i] as const);
  return [['coordinator', 0], ...workers, ['gateway', 0]];
}

/** What a caller wants to do beside: the demo prints what to try next. */
export interface EmbeddedHooks {
  readonly onReady?: ReadyListener;
  readonly log?: Logger;
  readonly stop?: StopSignals;
}

/** Runs the node in this process until it is told to stop. Resolves the exit code. */
export async function upEmbedded(
  loaded: LoadedConfig,
  output: Output,
  hooks: EmbeddedHooks = {},
): Promise<number> {
  const { config } = loaded;
  const stateDir = config.node.state_dir;
  const log = hooks.log ?? loggerOf(config, 'orion');
  dieOnBugs(log);
  warnOfIdleKeys(loaded, log);
  prepareStateDir(stateDir);
  const lock = lockStateDir(stateDir);
  const stop = hooks.stop ?? stopSignals(() => systemClock.nowMs());
  stop.onSecond(() => process.exit(Exit.Failed));
  try {
    await untilOrphansEnd(stateDir, systemClock, log);
    const ready = new ReadyLines(output);
    await runUntilStopped(config, log, stop, (volume, uris) => {
      ready.show(uris);
      hooks.onReady?.(volume, uris);
    });
    return Exit.Ok;
  } catch (error) {
    throw explained(error);
  } finally {
    removeNodeFile(stateDir);
    lock.release();
  }
}

async function runUntilStopped(
  config: OrionConfig,
  log: Logger,
  stop: StopSignals,
  onReady: ReadyListener,
): Promise<void> {
  const { state_dir: stateDir, cluster } = config.node;
  // Whoever is told of a volume may ask for the status at once: that is made possible first.
  const early: Parameters<ReadyListener>[] = [];
  let tell: ReadyListener = (...args) => early.push(args);
  const node = await startEmbedded(config, log, (...args) => tell(...args));
  const socket = controlSocket(stateDir);
  const ids = rolesOf(config).map(([role, index]) => processId(config, role, index));
  const control = await serveControl(socket, {
    status: () => collectProcesses(node.bus, cluster, systemClock, ids),
    reconnect: (request) => orderReconnect(node.bus, cluster, request),
  });
  const processes = ids.map((id, at) => ({
    role: rolesOf(config)[at]![0],
    id,
    pid: process.pid,
    restarts: 0,
  }));
  writeNodeFile(stateDir, {
    v: 1,
    mode: 'embedded',
    cluster,
    pid: process.pid,
    url: '',
    processes,
  });
  tell = onReady;
  for (const args of early) tell(...args);
  log.info({ reason: await stop.first }, 'draining');
  const bound = systemClock.after(CLOSE_MS, () => {
    log.error({ boundMs: CLOSE_MS }, 'draining does not end: given up');
    process.exit(Exit.Failed);
  });
  await control.close();
  rmSync(socket, { force: true });
  await node.close();
  bound.cancel();
}
