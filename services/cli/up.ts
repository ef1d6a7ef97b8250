import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import type { LoadedConfig } from '#config/load.ts';
import type { OrionConfig } from '#config/schema.ts';
import { systemClock } from '#core/clock.ts';
import { systemRng } from '#core/rng.ts';
import type { Logger } from '#telemetry/log.ts';
import { Exit } from './exit-code.ts';
import { loggerOf, warnOfIdleKeys } from './logs.ts';
import { type NatsPlan, planNats, spawnNats, untilNatsGreets } from './nats-server.ts';
import { NodeProcesses } from './node-processes.ts';
import { untilOrphansEnd } from './orphans.ts';
import { type Output, ReadyLines } from './output.ts';
import { spawnRole } from './spawn-child.ts';
import {
  lockStateDir,
  prepareStateDir,
  removeNodeFile,
  writeNodeFile,
  writePrivate,
} from './state-dir.ts';
import { type StopSignals, stopSignals } from './stop-signals.ts';

/** The configuration that the children read. */
const EFFECTIVE_FILE = 'effective.toml';

/** Runs the node as processes until it is told to stop. Resolves the exit code. */
export async function up(loaded: LoadedConfig, output: Output): Promise<number> {
  const { config } = loaded;
  const { state_dir: stateDir } = config.node;
  const log = loggerOf(config, 'supervisor');
  warnOfIdleKeys(loaded, log);
  prepareStateDir(stateDir);
  const lock = lockStateDir(stateDir);
  try {
    await untilOrphansEnd(stateDir, systemClock, log);
    return await superviseNode(config, stateDir, output, log);
  } finally {
    removeNodeFile(stateDir);
    rmSync(join(stateDir, EFFECTIVE_FILE), { force: true });
    lock.release();
  }
}

async function superviseNode(
  given: OrionConfig,
  stateDir: string,
  output: Output,
  log: Logger,
): Promise<number> {
  const clock = systemClock;
  const stop = stopSignals(() => clock.nowMs());
  const nats = given.bus.url === '' ? await planNats(stateDir, given.node.name, systemRng) : null;
  const config = nats === null ? given : { ...given, bus: { ...given.bus, url: nats.url } };
  // Children read this copy: a file that is edited while the node runs must not give it two minds.
  const effective = join(stateDir, EFFECTIVE_FILE);
  writePrivate(effective, stringify(config));
  const ready = new ReadyLines(output);
  let exitCode: number = Exit.Ok;
  const processes: NodeProcesses = new NodeProcesses({
    config,
    clock,
    log,
    spawnRole: (role, id) => spawnRole([role, '--supervised', '--config', effective, '--id', id]),
    ...(nats === null ? {} : { nats: natsParts(nats, stop, log) }),
    onReady: (_volume, uris) => ready.show(uris),
    onHopeless(line, code) {
      output.error(line);
      exitCode = code;
      stop.ask('a process cannot start');
    },
    onChange: () =>
      writeNodeFile(stateDir, {
        v: 1,
        mode: 'processes',
        cluster: config.node.cluster,
        pid: process.pid,
        url: config.bus.url,
        processes: processes.list(),
      }),
  });
  stop.onSecond(() => {
    log.warn('asked again: everything is killed');
    processes.kill();
    process.exit(Exit.Failed);
  });
  try {
    await processes.start();
    log.info({ reason: await stop.first }, 'stopping');
  } finally {
    await processes.stop();
  }
  log.info('stopped');
  return exitCode;
}

function natsParts(plan: NatsPlan, stop: StopSignals, log: Logger) {
  const gaveUp = new AbortController();
  void stop.first.then((reason) => gaveUp.abort(new Error(reason))); // does not reject
  return {
    spawn: () => spawnNats(plan, systemClock, log),
    async ready() {
      try {
        await untilNatsGreets(plan, systemClock, gaveUp.signal);
      } catch (error) {
        if (!stop.wasAsked) throw error;
      }
      return !stop.wasAsked;
    },
  };
}
