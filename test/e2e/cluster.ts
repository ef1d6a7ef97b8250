import { join, resolve } from 'node:path';
import {
  type ContainerRuntimeClient,
  GenericContainer,
  getContainerRuntimeClient,
  ImageName,
  Network,
  type StartedNetwork,
  type StartedTestContainer,
  Wait,
} from 'testcontainers';

/** The cluster of compose.yaml, container by container, with the same images, files and variables. */

const ROOT = resolve(import.meta.dirname, '../..');
const CONFIG = '/etc/orion/orion.toml';
const START_MS = 120_000;
const LOG_LINES = 15;

const HTTP_PORT = 8080;
const NBD_PORT = 10809;

process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';

/** Images that compose.yaml lets one replace, where the usual ones cannot be pulled. */
const env = (name: string, usual: string): string => process.env[name] ?? usual;
const buildArgs = {
  BASE_IMAGE: env('BASE_IMAGE', 'debian:bookworm-slim'),
  BUILD_IMAGE: env('BUILD_IMAGE', 'node:24-bookworm-slim'),
};
const natsImage = env('NATS_IMAGE', 'nats:2.11-alpine');

/** Why there can be no test, or null: no engine, or an image that is neither there nor can be pulled. */
export async function unavailableReason(): Promise<string | null> {
  let engine: ContainerRuntimeClient;
  try {
    engine = await getContainerRuntimeClient();
  } catch {
    return 'no Docker engine answers';
  }
  for (const name of [...neededImages(), natsImage]) {
    const wanted = ImageName.fromString(name);
    try {
      if (!(await engine.image.exists(wanted))) await engine.image.pull(wanted);
    } catch {
      return `the image ${name} is not there and cannot be pulled`;
    }
  }
  return null;
}

function neededImages(): string[] {
  const { ORION_IMAGE, TGT_IMAGE } = process.env;
  if (ORION_IMAGE !== undefined && TGT_IMAGE !== undefined) return [ORION_IMAGE, TGT_IMAGE];
  return [buildArgs.BASE_IMAGE, buildArgs.BUILD_IMAGE];
}

export interface Cluster {
  readonly workers: readonly StartedTestContainer[];
  readonly gateway: StartedTestContainer;
  readonly baseUrl: string;
  stop(): Promise<void>;
}

export async function startCluster(): Promise<Cluster> {
  const network = await new Network().start();
  const started: StartedTestContainer[] = [];
  const logs: string[] = [];
  const stop = async (): Promise<void> => {
    for (const container of started.toReversed()) await container.stop({ timeout: 0 });
    await network.stop();
  };
  try {
    const start = async (container: GenericContainer): Promise<StartedTestContainer> => {
      const running = await container
        .withStartupTimeout(START_MS)
        .withLogConsumer((stream) => stream.on('data', (line) => logs.push(String(line).trim())))
        .start();
      started.push(running);
      return running;
    };
    const program = await image('ORION_IMAGE', 'deploy/docker/Dockerfile', 'orion-e2e');
    const target = await image('TGT_IMAGE', 'deploy/docker/tgt.Dockerfile', 'orion-e2e-tgt');
    await start(nats(network));
    await start(
      named(new GenericContainer(target), network, 'target').withWaitStrategy(
        Wait.forLogMessage(/^target iqn/m),
      ),
    );
    const ours = (name: string, role: string, extra: Record<string, string> = {}) =>
      named(new GenericContainer(program), network, name)
        .withCommand([role, '--config', CONFIG])
        .withUser('10001:10001')
        .withCopyFilesToContainer([
          { source: join(ROOT, 'deploy/compose/orion.toml'), target: CONFIG },
        ])
        .withTmpFs({ '/var/lib/orion': 'uid=10001,gid=10001,mode=0700' })
        .withEnvironment({ ORION_NODE_NAME: name, ORION_TELEMETRY_OTLP_ENDPOINT: '', ...extra });
    await start(ours('coordinator', 'coordinator'));
    const workers: StartedTestContainer[] = [];
    for (const name of ['worker1', 'worker2']) {
      const link = {
        ORION_WORKERS_LINK_LISTEN: '0.0.0.0:7420',
        ORION_WORKERS_LINK_ADVERTISE: `${name}:7420`,
      };
      workers.push(await start(ours(name, 'worker', link)));
    }
    const gateway = await start(
      ours('gateway', 'gateway')
        .withExposedPorts(HTTP_PORT, NBD_PORT)
        .withWaitStrategy(Wait.forHttp('/v1/volumes/vol1', HTTP_PORT)),
    );
    const baseUrl = `http://${gateway.getHost()}:${gateway.getMappedPort(HTTP_PORT)}`;
    return { workers, gateway, baseUrl, stop };
  } catch (error) {
    await stop();
    const tail = logs.slice(-LOG_LINES).join('\n  ');
    throw new Error(`${(error as Error).message}; the last that containers said:\n  ${tail}`, {
      cause: error,
    });
  }
}

/** The image that the variable names, else one that is built here. Returns its name. */
async function image(variable: string, dockerfile: string, name: string): Promise<string> {
  const given = process.env[variable];
  if (given !== undefined) return given;
  await GenericContainer.fromDockerfile(ROOT, dockerfile)
    .withBuildArgs(buildArgs)
    .build(name, { deleteOnExit: false });
  return name;
}

function nats(network: StartedNetwork): GenericContainer {
  return named(new GenericContainer(natsImage), network, 'nats')
    .withEntrypoint(['nats-server', '-c', '/etc/nats/nats.conf'])
    .withCopyFilesToContainer([
      { source: join(ROOT, 'deploy/nats/nats.conf'), target: '/etc/nats/nats.conf' },
    ])
    .withWaitStrategy(Wait.forLogMessage(/Server is ready/));
}

function named(container: GenericContainer, network: StartedNetwork, name: string) {
  return container.withNetwork(network).withNetworkAliases(name);
}
