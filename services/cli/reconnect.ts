import { Value } from 'typebox/value';
import type { OrionConfig } from '#config/schema.ts';
import { type PathStatus, type ProcessStatus, ReconnectReply } from '#contracts/messages.ts';
import { errorText } from '#core/errors.ts';
import { cliErrors } from './errors.ts';
import { Exit } from './exit-code.ts';
import { type CommonOptions, loadCliConfig } from './load-config.ts';
import { type Output, table } from './output.ts';
import { askNode, askToReconnect } from './status-collect.ts';

/** The most paths that one command logs in anew at the same time, each of another volume. */
const VOLUMES_AT_ONCE_MAX = 16;

export interface ReconnectOptions extends CommonOptions {
  readonly target?: string;
  readonly volume?: string;
  readonly path?: string;
  readonly all?: boolean;
}

interface Order {
  readonly gateway: string;
  readonly path: PathStatus;
}

interface Outcome {
  readonly volume: string;
  readonly path: number;
  readonly portal: string;
  readonly worker: string;
  readonly ok: boolean;
  readonly detail: string;
}

/**
 * `session reset`: logs sessions out and in again in good order. The paths of one volume go one after the other, so that
 * the others carry it meanwhile.
 */
export async function reconnectCommand(options: ReconnectOptions, output: Output): Promise<number> {
  const { config } = loadCliConfig(options);
  checkOptions(options);
  const byVolume = new Map<string, Order[]>();
  for (const order of select(await askNode(config), options)) {
    byVolume.set(order.path.volume, [...(byVolume.get(order.path.volume) ?? []), order]);
  }
  if (byVolume.size === 0) {
    throw cliErrors.make('CLI_USAGE', {
      message: 'no path is like that',
      hint: '"orion-iscsi multipath info" shows the volumes and their paths.',
    });
  }
  const outcomes = await inTurns(config, [...byVolume.values()]);
  output.line(output.json ? JSON.stringify(outcomes, null, 2) : textOf(outcomes));
  return outcomes.every(({ ok }) => ok) ? Exit.Ok : Exit.Failed;
}

function checkOptions({ target, volume, path, all }: ReconnectOptions): void {
  if (path !== undefined && (volume === undefined || !/^\d{1,5}$/.test(path))) {
    throw cliErrors.make('CLI_USAGE', {
      message: '--path is the number of a path of --volume',
      hint: '"orion-iscsi multipath info" shows the numbers, as SLOT.',
    });
  }
  if (target === undefined && volume === undefined && all !== true) {
    throw cliErrors.make('CLI_USAGE', {
      message: 'say which sessions',
      hint: 'With --volume NAME (and --path NUMBER), --target NAME, or --all.',
    });
  }
}

/** The paths that are meant, each with the gateway that owns it. */
function select(processes: readonly ProcessStatus[], options: ReconnectOptions): Order[] {
  const { target, volume, path } = options;
  return processes.flatMap((one) => {
    const targets = new Map(one.volumes.map(({ name, target: of }) => [name, of]));
    return one.paths
      .filter(
        (candidate) =>
          (target === undefined || targets.get(candidate.volume) === target) &&
          (volume === undefined || candidate.volume === volume) &&
          (path === undefined || candidate.slot === Number(path)),
      )
      .map((candidate) => ({ gateway: one.id, path: candidate }));
  });
}

async function inTurns(config: OrionConfig, volumes: readonly (readonly Order[])[]) {
  const waiting = [...volumes];
  const outcomes: Outcome[] = [];
  const worker = async (): Promise<void> => {
    for (let orders = waiting.shift(); orders !== undefined; orders = waiting.shift()) {
      for (const order of orders) outcomes.push(await reconnect(config, order));
    }
  };
  await Promise.all(Array.from({ length: VOLUMES_AT_ONCE_MAX }, worker));
  return outcomes;
}

async function reconnect(config: OrionConfig, { gateway, path }: Order): Promise<Outcome> {
  const { volume, slot, portal, worker } = path;
  const named = { volume, path: slot, portal, worker };
  try {
    const reply = await askToReconnect(config, gateway, { volume, slot });
    if (!Value.Check(ReconnectReply, reply)) throw new Error('the gateway is of another version');
    return { ...named, ...reply, ok: true, detail: 'logged in anew' };
  } catch (error) {
    return { ...named, ok: false, detail: errorText(error) };
  }
}

function textOf(outcomes: readonly Outcome[]): string {
  return table(
    ['VOLUME', 'PATH', 'PORTAL', 'WORKER', 'RESULT'],
    outcomes.map(({ volume, path, portal, worker, ok, detail }) => [
      volume,
      path,
      portal,
      worker,
      ok ? detail : `failed: ${detail}`,
    ]),
  );
}
