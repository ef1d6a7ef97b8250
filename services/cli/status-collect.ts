import { Type as T } from 'typebox';
import { Value } from 'typebox/value';
import type { Bus } from '#bus/bus.ts';
import type { OrionConfig } from '#config/schema.ts';
import { checked } from '#contracts/check.ts';
import { Heartbeat, ProcessStatus, ReconnectRequest } from '#contracts/messages.ts';
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
/** Draining, logging out, logging in: gateway and worker have bounds for each. */
const RECONNECT_MS = 30_000;
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

function askBus(url: string, cluster: string, ids: string[] | null): Promise<ProcessStatus[]> {
  return withBus(url, (bus) => collectProcesses(bus, cluster, systemClock, ids));
}

async function withBus<T>(url: string, ask: (bus: Bus) => Promise<T>): Promise<T> {
  const bus = await connectBus({
    url,
    name: 'status',
    clock: systemClock,
    rng: systemRng,
    connectTimeoutMs: CONNECT_MS,
  });
  try {
    return await ask(bus);
  } finally {
    await bus.close();
  }
}

/** What the control socket of an embedded node is asked for. */
const ReconnectOrder = T.Object({ gateway: T.String(), path: ReconnectRequest });

/** Passes an order on to a gateway. */
export function orderReconnect(bus: Bus, cluster: string, order: unknown): Promise<unknown> {
  const { gateway, path } = checked(ReconnectOrder, order, 'reconnect order');
  return bus.request(subjects(cluster).reconnect(gateway), path, { timeoutMs: RECONNECT_MS });
}

/** Has a path logged in anew by the gateway that owns it, and waits until that is done. */
export function askToReconnect(
  config: OrionConfig,
  gateway: string,
  path: ReconnectRequest,
): Promise<unknown> {
  const { state_dir: stateDir, cluster } = config.node;
  const file = readNodeFile(stateDir);
  const order = { gateway, path };
  if (file?.mode === 'embedded') {
    return askControl(controlSocket(stateDir), 'reconnect', order, RECONNECT_MS);
  }
  return withBus(file?.url ?? config.bus.url, (bus) =>
    orderReconnect(bus, file?.cluster ?? cluster, order),
  );
}
