import { Type as T } from 'typebox';
import { Value } from 'typebox/value';
import type { Bus } from '#bus/bus.ts';
import type { OrionConfig } from '#config/schema.ts';
import { Heartbeat, ProcessStatus } from '#contracts/messages.ts';
import { subjects } from '#contracts/subjects.ts';
import { type Clock, sleep, systemClock } from '#core/clock.ts';
import { isOrionError } from '#core/errors.ts';
import { systemRng } from '#core/rng.ts';
import { connectBus } from './buses.ts';
import { askControl } from './control.ts';
import { cliErrors } from './errors.ts';
import { controlSocket, type NodeFile, readNodeFile } from './state-dir.ts';

/** Every process says once a second that it lives; a little more is listened. */
const LISTEN_MS = 1200;
const ANSWER_MS = 2000;
const CONNECT_MS = 3000;
/** More processes than any cluster has: a flood of forged heartbeats must not fill the memory. */
const PROCESSES_MAX = 10_000;

/** What each living process says of itself; those that do not answer are left out. */
export async function collectProcesses(
  bus: Bus,
  cluster: string,
  clock: Clock,
  knownIds: readonly string[] | null,
): Promise<ProcessStatus[]> {
  const subject = subjects(cluster);
  const ids = knownIds ?? (await listenForIds(bus, subject.heartbeats, clock));
  const answers = await Promise.all(
    ids.map((id) =>
      bus.request(subject.status(id), {}, { timeoutMs: ANSWER_MS }).catch((error) => {
        if (isOrionError(error)) return null; // dead, or busy: it is missing from the list
        throw error;
      }),
    ),
  );
  return answers.filter((answer) => Value.Check(ProcessStatus, answer));
}

async function listenForIds(bus: Bus, subject: string, clock: Clock): Promise<string[]> {
  const ids = new Set<string>();
  const heard = bus.subscribe(subject, ({ data }) => {
    if (Value.Check(Heartbeat, data) && ids.size < PROCESSES_MAX) ids.add(data.id);
  });
  await sleep(clock, LISTEN_MS);
  heard.unsubscribe();
  return [...ids];
}

/** Asks whatever runs for this configuration: the node of its state directory, or the cluster on its bus. */
export async function askNode(config: OrionConfig): Promise<ProcessStatus[]> {
  const stateDir = config.node.state_dir;
  const file = readNodeFile(stateDir);
  if (file?.mode === 'embedded') {
    const data = await askControl(controlSocket(stateDir), 'status');
    if (Value.Check(T.Array(ProcessStatus), data)) return data;
    throw cliErrors.make('CLI_NO_ANSWER', { message: 'the node runs another version' });
  }
  const url = file?.url ?? config.bus.url;
  if (url === '') {
    throw cliErrors.make('CLI_NOT_RUNNING', { message: `nothing runs on ${stateDir}` });
  }
  const found = await askBus(url, file?.cluster ?? config.node.cluster, ownIds(config, file));
  if (found.length > 0) return found;
  throw cliErrors.make('CLI_NOT_RUNNING', {
    message: `no process of cluster "${config.node.cluster}" answers on the bus`,
  });
}

/** On a bus of our own there is nobody else: no need to listen for others. */
function ownIds(config: OrionConfig, file: NodeFile | null): string[] | null {
  if (file === null || config.bus.url !== '') return null;
  return file.processes.filter(({ role }) => role !== 'nats').map(({ id }) => id);
}

async function askBus(
  url: string,
  cluster: string,
  ids: string[] | null,
): Promise<ProcessStatus[]> {
  const bus = await connectBus({
    url,
    name: 'status',
    clock: systemClock,
    rng: systemRng,
    connectTimeoutMs: CONNECT_MS,
  });
  try {
    return await collectProcesses(bus, cluster, systemClock, ids);
  } finally {
    await bus.close();
  }
}
