import { processId, type RoleName } from '#config/derive.ts';
import type { LoadedConfig } from '#config/load.ts';
import { every, systemClock } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';
import { systemRng } from '#core/rng.ts';
import type { Logger } from '#telemetry/log.ts';
import { startTracing } from '#telemetry/traces.ts';
import { connectBus } from './buses.ts';
import { ALIVE_EVERY_MS, type ChildMessage, isDrain } from './child-messages.ts';
import { cliErrors } from './errors.ts';
import { Exit, exitCodeOf } from './exit-code.ts';
import { hostNetwork } from './host-network.ts';
import { explained } from './listen-errors.ts';
import { dieOnBugs, loggerOf, warnOfIdleKeys } from './logs.ts';
import { type Output, ReadyLines } from './output.ts';
import { startService } from './services.ts';
import { prepareStateDir } from './state-dir.ts';
import { type StopSignals, stopSignals } from './stop-signals.ts';

/** Time for a service to finish its work; the supervisor waits a little longer before it kills. */
const CLOSE_MS = 12_000;

export interface RoleOptions {
  readonly role: RoleName;
  /** Left out: the first of its kind on this node. */
  readonly id?: string;
  /** Started by our own supervisor, with a channel to it. */
  readonly isSupervised: boolean;
}

/** Runs one service until it is told to stop. Resolves the exit code. */
export async function runRole(
  loaded: LoadedConfig,
  options: RoleOptions,
  output: Output,
): Promise<number> {
  const { config } = loaded;
  const { role, isSupervised } = options;
  const id = options.id ?? processId(config, role, 0);
  const log = loggerOf(config, role, id);
  if (config.bus.url === '') {
    throw cliErrors.make('CLI_USAGE', {
      message: `a ${role} on its own needs bus.url`,
      hint: 'Set it to your nats-server, or use "orion-iscsi up", which starts one.',
    });
  }
  dieOnBugs(log);
  const stop = stopSignals(() => systemClock.nowMs());
  stop.onSecond(() => process.exit(Exit.Failed));
  const parent = isSupervised ? new Parent(stop) : null;
  const ready = new ReadyLines(output);
  if (!isSupervised) warnOfIdleKeys(loaded, log);
  try {
    prepareStateDir(config.node.state_dir);
    await serve(
      loaded,
      role,
      id,
      log,
      stop,
      (volume, uris) => {
        if (parent === null) ready.show(uris);
        else parent.say({ type: 'ready', volume, uris: [...uris] });
      },
      () => parent?.say({ type: 'started' }),
    );
    return Exit.Ok;
  } catch (error) {
    const told = explained(error);
    if (parent === null) throw told;
    log.error({ err: error }, 'start failed');
    parent.say({ type: 'failed', line: errorText(told), exitCode: exitCodeOf(told) });
    return exitCodeOf(told);
  } finally {
    parent?.close();
  }
}

async function serve(
  { config }: LoadedConfig,
  role: RoleName,
  id: string,
  log: Logger,
  stop: StopSignals,
  onReady: (volume: string, uris: readonly string[]) => void,
  onStarted: () => void,
): Promise<void> {
  // The gateway samples and exports its own; the others export the spans of sampled requests.
  const { otlp_endpoint: endpoint } = config.telemetry;
  const tracing = startTracing({
    endpoint: role === 'gateway' ? '' : endpoint,
    service: `orion-${role}`,
    resource: { 'service.instance.id': id, 'host.name': config.node.name },
    clock: systemClock,
  });
  const bus = await connectBus({
    url: config.bus.url,
    name: id,
    clock: systemClock,
    rng: systemRng,
    log,
  });
  bus.onStatus((status) => {
    if (status === 'disconnected') {
      log.warn('the bus is away: I/O goes on; changes of paths and owners wait until it is back');
    } else if (status === 'connected') log.info('the bus is back');
  });
  try {
    const host = hostNetwork(config, role);
    const deps = { config, id, bus, clock: systemClock, rng: systemRng, log, ...host };
    const service = await startService(role, deps, onReady);
    onStarted();
    log.info({ reason: await stop.first }, 'draining');
    const bound = systemClock.after(CLOSE_MS, () => {
      log.error({ boundMs: CLOSE_MS }, 'draining does not end: given up');
      process.exit(Exit.Failed);
    });
    await service.close();
    bound.cancel();
  } finally {
    await bus.close();
    await tracing.close();
  }
}

/** The supervisor, seen from a child. Without it the child has no reason to live. */
class Parent {
  readonly #alive = every(systemClock, ALIVE_EVERY_MS, () => this.say({ type: 'alive' }));

  constructor(stop: StopSignals) {
    process.on('message', (message) => {
      if (isDrain(message)) stop.ask('drain');
    });
  }

  say(message: ChildMessage): void {
    if (process.connected) process.send?.(message);
  }

  close(): void {
    this.#alive.cancel();
  }
}
