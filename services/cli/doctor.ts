import { existsSync } from 'node:fs';
import type { LoadedConfig } from '#config/load.ts';
import type { OrionConfig } from '#config/schema.ts';
import { systemClock } from '#core/clock.ts';
import { errorText } from '#core/errors.ts';
import { systemRng } from '#core/rng.ts';
import { parseAddress, type StreamSink } from '#wire/network.ts';
import { nodeNetwork } from '#wire/node-network.ts';
import { connectBus } from './buses.ts';
import { Exit } from './exit-code.ts';
import { findProgram } from './find-program.ts';
import { type CommonOptions, fileOf, loadCliConfig } from './load-config.ts';
import { type Output, table } from './output.ts';
import { isPortFree } from './ports.ts';
import { prepareStateDir, readNodeFile } from './state-dir.ts';

const CONNECT_TIMEOUT_MS = 3000;
const NODE_MAJOR_MIN = 24;

type Verdict = 'ok' | 'warn' | 'fail';

interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly detail: string;
}

/** Clients that people use on volumes; none is needed to run. */
const CLIENTS = [
  ['nbdinfo', 'libnbd-bin'],
  ['qemu-io', 'qemu-utils'],
  ['nbd-client', 'nbd-client'],
  ['curl', 'curl'],
] as const;

/** `doctor`: looks at everything that a node needs. Resolves the exit code. */
export async function doctor(options: CommonOptions, output: Output): Promise<number> {
  const findings: Finding[] = [checkNode(), checkSharedMemory()];
  const { loaded, finding } = loadFor(options);
  findings.push(finding);
  if (loaded !== null) {
    const { config } = loaded;
    const running = readNodeFile(config.node.state_dir);
    findings.push(checkStateDir(config), await checkBus(config));
    findings.push(checkRunning(running !== null, config));
    if (running === null) findings.push(...(await checkListeners(config)));
    findings.push(...(await checkPortals(config)));
  }
  findings.push(...CLIENTS.map(([program, packageName]) => checkClient(program, packageName)));
  if (output.json) output.line(JSON.stringify(findings, null, 2));
  else {
    const rows = findings.map(({ check, verdict, detail }) => [verdict, check, detail]);
    output.line(table(['', 'CHECK', 'DETAIL'], rows));
  }
  return findings.some(({ verdict }) => verdict === 'fail') ? Exit.Failed : Exit.Ok;
}

function checkNode(): Finding {
  const isGood = Number(process.versions.node.split('.')[0]) >= NODE_MAJOR_MIN;
  const detail = isGood
    ? process.version
    : `${process.version}; ${NODE_MAJOR_MIN} or newer is needed`;
  return { check: 'Node.js', verdict: isGood ? 'ok' : 'fail', detail };
}

/** Only the speed of gateway and worker as processes of their own depends on it. */
function checkSharedMemory(): Finding {
  const has = nodeNetwork.sharedMemory != null;
  const detail = has
    ? 'gateway and workers of one machine share it'
    : 'none (it takes Linux and node:ffi): data between gateway and workers go over sockets';
  return { check: 'shared memory', verdict: has ? 'ok' : 'warn', detail };
}

function loadFor(options: CommonOptions): { loaded: LoadedConfig | null; finding: Finding } {
  const check = 'configuration';
  try {
    const loaded = loadCliConfig(options);
    const { targets, volumes } = loaded.config;
    const file = fileOf(options) ?? 'no file';
    const detail = `${file}: ${targets.length} targets, ${volumes.length} volumes`;
    return { loaded, finding: { check, verdict: volumes.length > 0 ? 'ok' : 'warn', detail } };
  } catch (error) {
    return { loaded: null, finding: { check, verdict: 'fail', detail: errorText(error) } };
  }
}

function checkStateDir({ node }: OrionConfig): Finding {
  const check = 'state directory';
  const detail = node.state_dir;
  if (!existsSync(detail)) return { check, verdict: 'ok', detail: `${detail} (made at start)` };
  try {
    prepareStateDir(detail);
    return { check, verdict: 'ok', detail };
  } catch (error) {
    return { check, verdict: 'fail', detail: errorText(error) };
  }
}

async function checkBus({ bus }: OrionConfig): Promise<Finding> {
  const check = 'bus';
  if (bus.embedded) return { check, verdict: 'ok', detail: 'in-process' };
  if (bus.url === '') {
    const program = findProgram('nats-server');
    if (program !== null) return { check, verdict: 'ok', detail: `${program}, started by "up"` };
    const detail =
      'nats-server is not on PATH: install the Debian package nats-server, set bus.url, or use "up --embedded"';
    return { check, verdict: 'fail', detail };
  }
  try {
    const client = await connectBus({
      url: bus.url,
      name: 'doctor',
      clock: systemClock,
      rng: systemRng,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
    });
    await client.close();
    return { check, verdict: 'ok', detail: 'bus.url answers' };
  } catch (error) {
    return { check, verdict: 'fail', detail: errorText(error) };
  }
}

function checkRunning(isRunning: boolean, { node }: OrionConfig): Finding {
  const detail = isRunning ? `"up" runs on ${node.state_dir}` : '"up" does not run here';
  return { check: 'node', verdict: 'ok', detail };
}

async function checkListeners({ gateway }: OrionConfig): Promise<Finding[]> {
  const texts = [...gateway.nbd_listen, gateway.http_listen];
  const findings: Finding[] = [];
  for (const text of texts) {
    const address = parseAddress(text);
    if (address?.kind !== 'tcp' || address.port === 0) continue;
    const isFree = await isPortFree(address.host, address.port);
    findings.push({
      check: `listen on ${text}`,
      verdict: isFree ? 'ok' : 'fail',
      detail: isFree ? 'free' : 'in use, or not an address of this machine ("ss -ltnp")',
    });
  }
  return findings;
}

async function checkPortals({ targets }: OrionConfig): Promise<Finding[]> {
  const checks = targets.flatMap(({ portals }) => portals.map((portal) => checkPortal(portal)));
  return Promise.all(checks);
}

const IGNORE: StreamSink = {
  buffer: () => Buffer.allocUnsafe(4096),
  data: () => {},
  closed: () => {},
};

async function checkPortal(portal: string): Promise<Finding> {
  const check = `portal ${portal}`;
  try {
    const address = parseAddress(portal)!; // checked by the schema
    const stream = await nodeNetwork.connect(address, IGNORE, { timeoutMs: CONNECT_TIMEOUT_MS });
    stream.destroy();
    return { check, verdict: 'ok', detail: 'TCP connects' };
  } catch (error) {
    return { check, verdict: 'fail', detail: errorText(error) };
  }
}

function checkClient(program: string, packageName: string): Finding {
  const path = findProgram(program);
  if (path !== null) return { check: program, verdict: 'ok', detail: path };
  return { check: program, verdict: 'warn', detail: `not here (Debian package ${packageName})` };
}
